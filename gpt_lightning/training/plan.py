"""Le plan d'un entraînement : combien de lots par pas, de pas, de jetons, avant que rien ne commence."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpt_lightning.errors import Unfit, UserError, whole
from gpt_lightning.training.checks import check_validation
from gpt_lightning.training.data import DataModule, Order
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.training.schedule import Schedule
from gpt_lightning.typing import Settings
from gpt_lightning.weights.format import TrainingProgress
from gpt_lightning.wording import number


@dataclass(frozen=True)
class Plan:
    """Les nombres de l'entraînement ; `total_steps` compte des pas d'optimiseur, None si seul le temps l'arrête."""

    steps_per_epoch: int
    tokens_per_step: int
    total_steps: int | None
    eval_every: int  # pas d'optimiseur entre deux évaluations
    accumulate: int = 1  # lots par pas d'optimiseur, sur chaque processus
    done_steps: int = 0  # ceux d'avant une reprise, peut-être avec un autre lot
    done_tokens: int = 0
    done_epochs: float = 0.0
    resumes: bool = False
    left_out: int = 0  # fenêtres qu'une époque ne lit pas, faute de remplir un pas
    limits: Mapping[str, int] = field(default_factory=dict)  # le dernier pas que chaque limite permet

    @property
    def epochs(self) -> float | None:
        """Le nombre d'époques, à virgule."""
        steps = self._remaining_steps
        return None if steps is None else self.done_epochs + steps / self.steps_per_epoch

    @property
    def total_tokens(self) -> int | None:
        """Le nombre de jetons lus en tout, tous processus compris."""
        steps = self._remaining_steps
        return None if steps is None else self.done_tokens + steps * self.tokens_per_step

    @property
    def _remaining_steps(self) -> int | None:
        return None if self.total_steps is None else self.total_steps - self.done_steps


def accumulation(run: RunConfig, world_size: int) -> int:
    """Lots par pas d'optimiseur : ce que le lot global (en jetons, ou en fenêtres) demande, sinon le nombre donné.

    UserError si le quotient n'est pas entier, avec les deux valeurs voisines qui vont, ou si deux clés donnent le lot.
    """
    data, given = run.data, run.trainer["accumulate_grad_batches"]
    windows = whole("data.batch_size", data["batch_size"]) * world_size
    sizes = {
        "global_batch_tokens": (run.global_batch_tokens, "jetons", windows * run.length),
        "global_batch_size": (run.global_batch_size, "fenêtres", windows),
    }
    asked = [name for name, (total, *_) in sizes.items() if total is not None]
    if not asked:
        return given
    if given != 1:
        asked.append("trainer.accumulate_grad_batches")
    if len(asked) > 1:
        raise UserError(f"{asked[0]} et {asked[1]} se contredisent : gardez-en un.")
    total, unit, per_batch = sizes[asked[0]]
    assert total is not None
    below = total // per_batch
    if below * per_batch == total:
        return below
    near = " ou ".join(str(n * per_batch) for n in (below, below + 1) if n)
    raise Unfit(
        f"{asked[0]}={total} n'est pas un multiple de {per_batch} {unit} "
        f"({world_size} appareil{'s' * (world_size > 1)}, data.batch_size={data['batch_size']}, "
        f"data.max_length={data['max_length']}) : essayez {near}.",
        f"{asked[0]}={total} se partage ainsi",
        _batch_size_for(total, per_batch // data["batch_size"], data["batch_size"]),
    )


def _batch_size_for(total: int, per_window: int, most: int) -> dict[str, int]:
    """Le plus grand data.batch_size, de `most` au plus, dont le lot global `total` est un multiple ; {} sans lui."""
    windows, rest = divmod(total, per_window)
    sizes = [] if rest else [size for size in range(1, min(most, windows) + 1) if windows % size == 0]
    return {"data.batch_size": sizes[-1]} if sizes else {}


def plan_run(run: RunConfig, data: DataModule, world_size: int, done: TrainingProgress | None = None) -> Plan:
    """Le plan de `run` sur `data`, un module de données prêt, qui continue `done` si c'est une reprise.

    UserError s'il n'y a pas de quoi valider, s'il ne reste pas un pas, ou si la reprise n'est plus celle de ce corpus,
    ou de ce lot.
    """
    statistics = data.statistics
    # un texte, en fenêtres qui ne se recouvrent pas
    windows = "stride" in run.data and run.data["stride"] is None
    check_validation(statistics.val_windows, world_size, statistics.val_tokens if windows else None)
    order = data.order(world_size=world_size)
    remaining = len(order) if done is None else order.remaining(done.windows)
    plan = make_plan(
        run, world_size, len(order), run.recipe.schedule, done=done, remaining=remaining, order=order
    )
    if done is not None:
        refuse_another_corpus(done, data.identity, data.since)
        refuse_another_size(done, world_size, plan.tokens_per_step, run)
    return plan


def is_done(plan: Plan, done: TrainingProgress) -> bool:
    """Vrai si l'entraînement que l'on reprend a fait tous ses pas, et son évaluation."""
    evaluated = done.evaluated and "val/loss" in done.metrics
    return evaluated and plan.total_steps is not None and done.step >= plan.total_steps


def prolong(plan: Plan, done: TrainingProgress) -> str:
    """Les surcharges qui prolongent du double un entraînement au bout de ce plan : une par limite qui l'arrête."""
    doubled = {
        "trainer.max_epochs": math.ceil(2 * plan.done_epochs),
        "trainer.max_steps": 2 * done.step,
        "max_tokens": 2 * done.tokens,
    }
    reached = [key for key in doubled if plan.limits.get(key, done.step + 1) <= done.step]
    return " ".join(f"{key}={doubled[key]}" for key in reached or ["trainer.max_steps"])


def make_plan(
    run: RunConfig,
    world_size: int,
    batches_per_epoch: int,
    schedule: Schedule,
    *,
    done: TrainingProgress | None = None,
    remaining: int = 0,
    order: Order | None = None,
) -> Plan:
    """Le plan de l'entraînement le plus court que les limites de `run` permettent.

    `batches_per_epoch` compte les lots d'un processus. Une reprise part de `done`, et `remaining` lots restent de son
    époque : elle compte ce qui est fait en jetons et en fenêtres, quel que fût le lot.
    `order` est l'ordre des lots, qui sait combien de jetons chaque pas lit ; sans lui, chacun en lit autant.
    UserError s'il ne reste pas un pas, ou si `schedule` n'y tient pas.
    """
    trainer, data, max_tokens = run.trainer, run.data, run.max_tokens
    accumulate = accumulation(run, world_size)
    tokens_per_step = data["batch_size"] * run.length * world_size * accumulate
    if order is not None:
        tokens_per_step = order.mean_tokens
    max_epochs, max_steps = trainer["max_epochs"], trainer["max_steps"]
    if trainer["fast_dev_run"]:
        max_epochs, max_steps, max_tokens = None, int(trainer["fast_dev_run"]), None
    batches = _count_batches(batches_per_epoch, trainer["limit_train_batches"], accumulate)
    steps_per_epoch = batches // accumulate
    steps, tokens, epochs = (done.step, done.tokens, float(done.epoch)) if done else (0, 0, 0.0)
    if done is not None and batches == batches_per_epoch:
        epochs += 1 - remaining / batches
    elif done is not None:  # trainer.limit_train_batches : ses époques se comptent en pas
        epochs = steps / steps_per_epoch

    def after(passes: float) -> int:
        return steps + max(0, int(passes * steps_per_epoch) - round(epochs * steps_per_epoch))

    limits = {} if max_epochs is None or max_epochs < 0 else {"trainer.max_epochs": after(max_epochs)}
    if max_steps >= 0:
        limits["trainer.max_steps"] = max_steps
    if max_tokens is not None:
        limits["max_tokens"] = steps + _steps_for(max_tokens - tokens, tokens_per_step, order, done)
    if not limits and max_epochs is None and trainer["max_time"] is None:
        limits["data.passes"] = after(whole("data.passes", data["passes"]))
    total = min(limits.values(), default=None)
    _check_steps(total, trainer, after, steps_per_epoch)
    schedule.fits(total, tokens_per_step)
    return Plan(
        steps_per_epoch,
        tokens_per_step,
        total,
        run.eval_every,
        accumulate,
        done_steps=steps,
        done_tokens=tokens,
        done_epochs=epochs,
        resumes=done is not None,
        left_out=0 if order is None else order.left_out,
        limits=limits,
    )


def _check_steps(
    total: int | None, trainer: Settings, after: Callable[[float], int], steps_per_epoch: int
) -> None:
    """UserError si le plan n'a aucun pas, ou moins que ce que trainer.min_steps et trainer.min_epochs veulent.

    `after` donne le pas qui finit tant d'époques. Lightning, sans cela, irait au-delà du plan.
    """
    if total is None or trainer["fast_dev_run"]:
        return
    least = max(trainer["min_steps"] or 0, after(trainer["min_epochs"]) if trainer["min_epochs"] else 0)
    if total < 1:
        raise UserError(
            f"Ce plan n'a aucun pas (une époque en a {number(steps_per_epoch)}) : allongez-le, par exemple avec "
            f"trainer.max_steps=1."
        )
    if least > total:
        raise UserError(
            f"trainer.min_steps=, trainer.min_epochs= veulent au moins {number(least)} pas, et le plan en a "
            f"{number(total)} : retirez-les, ou allongez le plan."
        )


def _steps_for(tokens: int, tokens_per_step: int, order: Order | None, done: TrainingProgress | None) -> int:
    """Le moins de pas qui lisent encore `tokens` jetons après `done`."""
    if order is None:
        return -(-max(0, tokens) // tokens_per_step)
    return order.steps_for(tokens, *((done.epoch, done.windows) if done else (0, 0)))


def _count_batches(n_batches: int, limit: int | float | None, accumulate: int) -> int:
    """Les lots d'une époque sous trainer.limit_train_batches (un nombre, ou une fraction), en pas entiers."""
    if limit is None:
        return n_batches
    batches = min(n_batches, limit) if isinstance(limit, int) else int(n_batches * limit)
    if batches < accumulate:
        raise UserError(
            f"trainer.limit_train_batches={limit} laisse {batches} lots, et un pas en lit {accumulate} : augmentez-le."
        )
    return batches // accumulate * accumulate


def refuse_another_corpus(progress: TrainingProgress, corpus: str, since: Sequence[str] = ()) -> None:
    """UserError si les jetons, leur découpage ou leur tokenizer ne sont plus ceux du checkpoint.

    `since` : les clés du corpus que la version 0.1 ne lisait pas.
    """
    if corpus != progress.corpus:
        older = ""
        if since:
            older = (
                f" (une exécution commencée par la version 0.1 ne lisait pas {', '.join(since)} : elle se reprend avec "
                f"data.ignore=[{','.join(since)}])"
            )
        raise UserError(
            f"Reprise refusée : le corpus n'est plus le même (empreinte {progress.corpus}, maintenant {corpus}) : "
            f"redonnez le texte d'origine (data.path=), ou partez des poids avec init_from={older}."
        )


def refuse_another_size(
    progress: TrainingProgress, world_size: int, tokens_per_step: int, run: RunConfig
) -> None:
    """UserError si le nombre de processus a changé sans que le lot global soit donné."""
    asked = run.global_batch_tokens is not None or run.global_batch_size is not None
    if world_size != progress.world_size and not asked:
        raise UserError(
            f"Reprise refusée : {progress.world_size} processus lisaient {progress.tokens_per_step} jetons par pas, "
            f"{world_size} en liraient {tokens_per_step} : "
            f"ajoutez global_batch_tokens={progress.tokens_per_step} pour le même entraînement."
        )
