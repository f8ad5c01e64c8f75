"""Montrer l'avancement : une barre sur un terminal, une ligne à chaque évaluation partout."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import rich
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar
from rich import progress as bars

from gpt_lightning.training.callbacks.pace import Pace
from gpt_lightning.wording import duration, number, percent

if TYPE_CHECKING:
    from lightning import Trainer
    from lightning.pytorch.utilities.types import STEP_OUTPUT

    from gpt_lightning.training.module import GPTModule

log = logging.getLogger("gpt_lightning")
ESTIMATED = (10, 30, 100)  # pas de ce processus après lesquels la durée est réestimée


class Lines(Callback):
    """Une ligne dans le journal à chaque évaluation : pertes, débit, temps restant ; et la durée en tout, réestimée.

    Une fois, des pas restés lents, et ce qu'il faut taper.

    La durée se compte depuis `began`, l'heure de `clock` où la commande a commencé.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._pace = clock, Pace(clock)
        self.began = clock()
        self._first = self._tokens = 0
        self._paused = 0.0
        self._said_slow = False

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._first, self._tokens = trainer.global_step, pl_module.seen.tokens
        self._paused, self._long = pl_module.paused_seconds, pl_module.long_seconds

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "GPTModule", batch: object, batch_idx: int
    ) -> None:
        self._pace.start()

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "GPTModule",
        outputs: "STEP_OUTPUT",
        batch: object,
        batch_idx: int,
    ) -> None:
        tokens, paused, long = pl_module.seen.tokens, pl_module.paused_seconds, pl_module.long_seconds
        if tokens == self._tokens:
            return  # lot d'accumulation : pas encore de pas d'optimiseur
        self._pace.step(tokens - self._tokens, paused - self._paused, long - self._long)
        self._tokens, self._paused, self._long = tokens, paused, long
        if self._pace.is_slow and not self._said_slow and trainer.is_global_zero:
            self._said_slow = True
            log.warning(_slowness(trainer.strategy.root_device.type, torch.get_num_threads()))
        if trainer.global_step - self._first in ESTIMATED and trainer.is_global_zero:
            left = self._remaining(trainer, pl_module)
            if left is not None:
                log.info(_estimate(trainer.global_step - self._first, self._clock() - self.began, left))

    def on_validation_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._pace.evaluate()

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "GPTModule",
        outputs: "STEP_OUTPUT",
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._pace.batch()

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        self._paused, self._long = pl_module.paused_seconds, pl_module.long_seconds
        left = self._remaining(trainer, pl_module, evaluated=True)
        log.info(_evaluation(trainer.global_step, pl_module.plan.total_steps, pl_module.metrics, left))

    def _remaining(
        self, trainer: "Trainer", pl_module: "GPTModule", *, evaluated: bool = False
    ) -> float | None:
        """Les secondes qui restent ; None si le nombre de pas n'est pas connu, ou si aucun n'est fait.

        `evaluated` : l'évaluation de ce pas est faite, et il en reste le texte.
        """
        plan, step = pl_module.plan, trainer.global_step
        if plan.total_steps is None or step in (self._first, plan.total_steps):
            return None
        everything = sum(int(n) for n in trainer.num_val_batches)
        some = min(everything, pl_module.data.eval_batches or everything)
        # en pas : eval_every, ou ce que trainer.val_check_interval ou check_val_every_n_epoch disent à Lightning
        interval = float(trainer.val_check_batch or math.inf) * (trainer.check_val_every_n_epoch or 1)
        interval /= plan.accumulate
        due = (step if evaluated else step - 1) // interval
        between = max(0, int((plan.total_steps - 1) // interval - due))
        batch_tokens = plan.tokens_per_step // (plan.accumulate * trainer.world_size)
        batches = between * some + everything
        steps, texts = plan.total_steps - step, between + 1 + evaluated
        left = self._pace.remaining(steps, plan.tokens_per_step, batches, batch_tokens, texts)
        return left + sum(seconds * times for seconds, times in pl_module.pauses.values())


class Progress(ProgressBar):
    """Une barre, sur un terminal : où en est l'entraînement, en pas d'optimiseur, sa perte et son débit."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: bars.Progress | None = None
        self._task: bars.TaskID  # celle de la barre

    def disable(self) -> None:
        """Lightning l'appelle sur les processus autres que le premier."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        super().on_train_start(trainer, pl_module)
        if not (self._enabled and trainer.is_global_zero and rich.get_console().is_terminal):
            return
        self._bar = bars.Progress(
            bars.TextColumn("pas"),
            bars.MofNCompleteColumn(),
            bars.BarColumn(),
            bars.TextColumn("{task.description}"),
            bars.TextColumn("reste"),
            bars.TimeRemainingColumn(),
            console=rich.get_console(),
            transient=True,
        )
        total = pl_module.plan.total_steps
        self._task = self._bar.add_task("", total=total, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "GPTModule",
        outputs: "STEP_OUTPUT",
        batch: object,
        batch_idx: int,
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._bar is not None:
            description = _describe_speed(pl_module.metrics)
            self._bar.update(self._task, completed=trainer.global_step, description=description)

    def on_train_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        super().on_train_end(trainer, pl_module)
        self._stop()

    def on_exception(self, trainer: "Trainer", pl_module: "GPTModule", exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _describe_speed(metrics: Mapping[str, float]) -> str:
    """La perte et le débit, pour la barre de progression ; vide avant la première mesure."""
    if "train/loss" not in metrics:
        return ""
    return f"perte {number(metrics['train/loss'], 3)} · {number(metrics['tokens_per_second'])} jetons/s"


def _slowness(device: str, threads: int) -> str:
    """Des pas restés lents : ce qui les ralentit sans doute, et ce qu'il faut taper."""
    if device != "cpu":
        what = "le GPU : nvidia-smi les montre"
    elif threads == 1:
        what = "les cœurs : top les montre"
    else:
        what = "les cœurs : tapez Ctrl-C, puis la commande qu'il donne, avec threads=1"
    return (
        "Les pas sont deux fois plus lents depuis une minute, d'autres programmes occupent sans doute " + what
    )


def _estimate(steps: int, elapsed: float, left: float) -> str:
    """La durée en tout, d'après les premiers pas (secondes)."""
    return f"Durée      : environ {duration(elapsed + left)} en tout, reste {duration(left)} (d'après {steps} pas)"


def _evaluation(
    step: int, total: int | None, metrics: Mapping[str, float], seconds_left: float | None
) -> str:
    """La ligne d'une évaluation : pas, pertes (nats par jeton), débit, temps restant (secondes)."""
    line = f"pas {number(step)}" + (f"/{number(total)}" if total else "")
    if "train/loss" in metrics:
        line += f" | entraînement {number(metrics['train/loss'], 3)}"
    more = f"exactitude {percent(metrics['val/accuracy'])}" if "val/accuracy" in metrics else ""
    more = more or f"perplexité {number(metrics['val/perplexity'], 1)}"
    line += f" | validation {number(metrics['val/loss'], 3)} ({more})"
    if "tokens_per_second" in metrics:
        line += f" | {number(metrics['tokens_per_second'])} jetons/s"
    return line + (f" | reste {duration(seconds_left)}" if seconds_left else "")
