"""Reprendre une exécution : ce qui peut changer, ce qui ferait un autre entraînement, et où Lightning recommence.

Un checkpoint dit où il en est en pas, en jetons et en fenêtres (`weights.format.TrainingProgress`). Ce fichier en
déduit le reste, pour le lot et les processus du jour : l'époque de Lightning, ses compteurs de lots, la position du
chargeur.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from lightning.pytorch.callbacks import EarlyStopping

from gpt_lightning.errors import UserError
from gpt_lightning.model.config import BEYOND_GPT2, DEFAULTS
from gpt_lightning.training.data import Order
from gpt_lightning.training.muon import Group
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.run_config import follows
from gpt_lightning.typing import Settings, State
from gpt_lightning.weights.format import TrainingProgress


def differences(before: object, now: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Les réglages (clé, avant, maintenant) qui diffèrent entre deux configurations en valeurs simples."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            inside = f"{key}.{name}" if key else str(name)
            yield from differences(before.get(name), now.get(name), inside)
    elif before != now:
        yield key, before, now


def refuse_another_run(before: Settings, now: Settings) -> None:
    """UserError sur le premier réglage qui ferait un autre entraînement, avec ses deux valeurs.

    Un réglage vide est celui d'une version qui ne l'avait pas encore ; pour le modèle, c'est GPT-2.
    """
    # les clés de tête d'abord : data.seed se déduit de seed, que l'on a tapée
    every = sorted(differences(_whole_model(before), _whole_model(now)), key=lambda each: "." in each[0])
    for key, old, new in every:
        if not follows(key) and not (old in (None, {}) and new in (None, {})):
            raise UserError(_another_run(key, old, new))


def _whole_model(values: Settings) -> Settings:
    """Ces réglages, dont le modèle dit aussi ce qu'un checkpoint omet : ce que GPT-2 n'a pas."""
    usual = {name: DEFAULTS[name] for name in BEYOND_GPT2}
    return {**values, "model": {**usual, **(values.get("model") or {})}}


def restart(checkpoint: State, progress: TrainingProgress, plan: Plan, order: Order) -> tuple[int, int]:
    """Réécrit les compteurs de Lightning dans `checkpoint` ; renvoie l'époque et les fenêtres lues d'où continuer.

    `order` est le `BatchOrder` d'aujourd'hui. Lightning compte les lots d'une époque et n'en sauve que l'état du
    moment, au milieu d'un lot ou d'une évaluation : le sien ne sert pas.
    """
    epoch, windows = order.place(progress.epoch, progress.windows)
    batches, per_epoch = progress.step * plan.accumulate, plan.steps_per_epoch * plan.accumulate
    is_entire = per_epoch == len(order)  # sinon, trainer.limit_train_batches coupe autrement
    inside = per_epoch - order.remaining(windows) if is_entire else batches % per_epoch
    loop = checkpoint["loops"]["fit_loop"]
    _set(loop["epoch_progress"], ready=epoch + 1, started=epoch + 1, processed=epoch, completed=epoch)
    _set(loop["epoch_loop.batch_progress"], batches)
    _set(loop["epoch_loop.batch_progress"], inside, which="current")
    loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    _set(loop["epoch_loop.val_loop.batch_progress"], 0)
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = progress.step
    loop["state_dict"]["combined_loader"] = [order.state(epoch, windows)]
    return epoch, windows


def _set(progress: State, done: int = 0, *, which: str | None = None, **counts: int) -> None:
    for part in ("total", "current") if which is None else (which,):
        for name in progress[part]:
            progress[part][name] = counts.get(name, done)


def forget_settings(checkpoint: State, callbacks: Iterable[EarlyStopping]) -> None:
    """Garde la patience d'un arrêt anticipé que la commande donne, et oublie celle du checkpoint."""
    for callback in callbacks:
        saved = checkpoint.get("callbacks", {}).get(callback.state_key)
        if saved:
            saved["patience"] = callback.patience


def apply_settings(optimizer: torch.optim.Optimizer, scheduler: object, fresh: list[Group]) -> None:
    """Redonne à `optimizer` et à son plan du taux les réglages de la commande (`fresh`, par groupe).

    L'état du checkpoint, que Lightning vient de charger, les a remplacés par les siens.
    """
    assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)  # celui de configure_optimizers
    for index, (group, settings) in enumerate(zip(optimizer.param_groups, fresh, strict=True)):
        group |= {**settings, "initial_lr": settings["lr"]}
        scheduler.base_lrs[index] = settings["lr"]
        group["lr"] = settings["lr"] * scheduler.lr_lambdas[index](scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def _another_run(key: str, before: object, now: object) -> str:
    """La phrase qui refuse de changer ce réglage à la reprise."""
    old, new = ("null" if value is None else value for value in (before, now))
    return (
        f"Reprise refusée : {key} valait {old}, il vaut {new} ; ce serait un autre entraînement : retirez {key}=, "
        f"ou partez des poids avec init_from=."
    )
