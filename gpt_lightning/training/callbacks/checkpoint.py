"""Garder l'entraînement (last.ckpt, step_N.ckpt) et le meilleur modèle (best.ckpt)."""

import math
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Checkpoint

from gpt_lightning import durable
from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.layout import BEST, LAST
from gpt_lightning.typing import State

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule


class LastCheckpoint(Checkpoint):
    """Écrit `dirpath`/last.ckpt à chaque évaluation, tous les `every` pas d'optimiseur (null : jamais), et à la fin.

    Avec `every`, il en garde aussi les `keep` derniers sous le nom step_N.ckpt (null : tous). Un checkpoint s'écrit
    entre deux pas, quand tout ce que le pas devait faire est fait : mesures, évaluation, texte.
    """

    def __init__(self, *, dirpath: str, every: int | None = None, keep: int | None = None) -> None:
        if every is not None:
            whole("save_every", every)
        if keep is not None:
            whole("keep_last", keep)
        self.dirpath, self.every, self.keep = Path(dirpath), every, keep
        self._saved, self._due = 0, False

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._saved, self._due = trainer.global_step, False
        if trainer.is_global_zero:
            for path in self._steps():  # reprise d'un pas plus ancien : ce futur n'est plus le sien
                if int(path.stem.removeprefix("step_")) > trainer.global_step:
                    path.unlink()
            self.prune()

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._due = self._due or not trainer.sanity_checking

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "GPTModule", batch: object, batch_idx: int
    ) -> None:
        step, between = trainer.global_step, batch_idx % trainer.accumulate_grad_batches == 0
        if between and step != self._saved and (self._due or self._is_numbered(step)):
            began = time.perf_counter()
            self.save(trainer)
            pl_module.paused_seconds += time.perf_counter() - began

    def on_train_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if self._due or trainer.global_step != self._saved:
            self.save(trainer)

    def save(self, trainer: "Trainer") -> None:
        """Écrit last.ckpt maintenant ; tous les processus l'appellent ensemble, entre deux pas."""
        step, last = trainer.global_step, self.dirpath / LAST
        trainer.save_checkpoint(last)
        self._saved, self._due = step, False
        if self._is_numbered(step) and trainer.is_global_zero:
            _link(last, self.dirpath / f"step_{step:07d}.ckpt")  # puis seulement, les plus anciens
            self.prune()

    def prune(self) -> None:
        """Retire les step_N.ckpt de trop, les plus anciens d'abord."""
        for path in self._steps()[: -self.keep] if self.keep else []:
            path.unlink(missing_ok=True)

    def _is_numbered(self, step: int) -> bool:
        return self.every is not None and step > 0 and step % self.every == 0

    def _steps(self) -> list[Path]:
        return sorted(self.dirpath.glob("step_*.ckpt"))


class BestCheckpoint(Checkpoint):
    """Écrit `dirpath`/best.ckpt, les poids seuls, quand la mesure `monitor` est la meilleure (`mode` : min ou max)."""

    def __init__(self, *, dirpath: str, monitor: str = "val/loss", mode: str = "min") -> None:
        self.dirpath, self.monitor = Path(dirpath), monitor
        self.mode = choice("callbacks.best.mode", mode, ("min", "max"))
        self.best_model_score: float | None = None

    @property
    def state_key(self) -> str:
        return f"BestCheckpoint({self.monitor}, {self.mode})"

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if not trainer.sanity_checking:
            self.keep(trainer, pl_module)

    def on_train_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if trainer.strategy.broadcast(self.monitor in pl_module.metrics):
            self.keep(trainer, pl_module)

    def keep(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        """Écrit best.ckpt si la dernière mesure est la meilleure."""
        # le premier processus décide pour tous
        score, best = trainer.strategy.broadcast(pl_module.metrics.get(self.monitor)), self.best_model_score
        if score is None:
            metrics = ", ".join(sorted(pl_module.metrics))
            raise UserError(f"callbacks.best.monitor={self.monitor} n'est pas mesuré : il y a {metrics}.")
        if math.isfinite(score) and (best is None or (score < best if self.mode == "min" else score > best)):
            self.best_model_score = score
            trainer.save_checkpoint(self.dirpath / BEST, weights_only=True)

    def state_dict(self) -> State:
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: State) -> None:
        self.best_model_score = state_dict["best_model_score"]


def _link(source: Path, target: Path) -> None:
    """Fait de `target` le même fichier que `source`, d'un coup, et sans place de plus si le disque sait le faire."""
    with durable.replacing(target) as beside:
        try:
            os.link(source, beside)
        except OSError:
            shutil.copyfile(source, beside)
