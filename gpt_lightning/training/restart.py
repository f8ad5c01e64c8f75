"""Reprendre une exécution : ce qui peut changer, ce qui ferait un autre entraînement, et où Lightning recommence.

Un checkpoint dit où il en est en pas, en jetons et en fenêtres (`weights.format.Progress`). Ce qui en dépend, l'époque
de Lightning, ses compteurs de lots, la position du chargeur, s'en déduit ici, pour le lot et les processus du jour.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping

from gpt_lightning.errors import UserError
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.run_config import follows
from gpt_lightning.weights.format import TrainingProgress


def differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Les réglages (clé, avant, maintenant) qui diffèrent entre deux configurations en valeurs simples."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            inside = f"{key}.{name}" if key else str(name)
            yield from differences(before.get(name), now.get(name), inside)
    elif before != now:
        yield key, before, now


def refuse_another_run(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """UserError sur le premier réglage qui ferait un autre entraînement, avec ses deux valeurs.

    Un réglage vide est celui d'une version qui ne l'avait pas encore.
    """
    for key, old, new in differences(before, now):
        if not follows(key) and not (old in (None, {}) and new in (None, {})):
            raise UserError(_another_run(key, old, new))


def restart(
    checkpoint: dict[str, Any], progress: TrainingProgress, plan: Plan, order: Any
) -> tuple[int, int]:
    """Réécrit les compteurs de Lightning dans `checkpoint` ; rend l'époque et les fenêtres lues d'où continuer.

    `order` est le `BatchOrder` d'aujourd'hui. Lightning compte les lots d'une époque et n'en sauve que l'état du
    moment, au milieu d'un lot ou d'une évaluation : le sien ne sert pas.
    """
    epoch, windows = order.place(progress.epoch, progress.windows)
    batches, per_epoch = progress.step * plan.accumulate, plan.steps_per_epoch * plan.accumulate
    whole = per_epoch == len(order)  # sinon, trainer.limit_train_batches coupe autrement
    inside = per_epoch - order.remaining(windows) if whole else batches % per_epoch
    loop = checkpoint["loops"]["fit_loop"]
    _set(loop["epoch_progress"], ready=epoch + 1, started=epoch + 1, processed=epoch, completed=epoch)
    _set(loop["epoch_loop.batch_progress"], batches)
    _set(loop["epoch_loop.batch_progress"], inside, which="current")
    loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    _set(loop["epoch_loop.val_loop.batch_progress"], 0)
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = progress.step
    loop["state_dict"]["combined_loader"] = [order.state(epoch, windows)]
    return epoch, windows


def _set(progress: dict[str, Any], done: int = 0, *, which: str | None = None, **counts: int) -> None:
    for part in ("total", "current") if which is None else (which,):
        for name in progress[part]:
            progress[part][name] = counts.get(name, done)


def forget_settings(checkpoint: dict[str, Any], callbacks: list[Any]) -> None:
    """La patience d'un arrêt anticipé est un réglage : celle de la commande, pas celle du checkpoint."""
    for one in callbacks:
        saved = checkpoint.get("callbacks", {}).get(one.state_key)
        if isinstance(one, EarlyStopping) and saved:
            saved["patience"] = one.patience


def apply_settings(optimizer: torch.optim.Optimizer, scheduler: Any, fresh: list[dict[str, Any]]) -> None:
    """Rend à `optimizer` et à son horaire les réglages de la commande (`fresh`, par groupe), que leur état remplace."""
    for index, (group, wanted) in enumerate(zip(optimizer.param_groups, fresh, strict=True)):
        group |= {**wanted, "initial_lr": wanted["lr"]}
        scheduler.base_lrs[index] = wanted["lr"]
        group["lr"] = wanted["lr"] * scheduler.lr_lambdas[index](scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def _another_run(key: str, before: object, now: object) -> str:
    """Un réglage qu'une reprise ne change pas."""
    old, new = ("null" if one is None else one for one in (before, now))
    return (
        f"Reprise refusée : {key} valait {old}, il vaut {new} ; ce serait un autre entraînement : retirez {key}=, "
        f"ou partez des poids avec init_from=."
    )
