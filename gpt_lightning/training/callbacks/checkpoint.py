"""Garder un checkpoint tous les `every` pas d'optimiseur."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Checkpoint

from gpt_lightning.errors import whole


class StepCheckpoint(Checkpoint):
    """Écrit `dirpath`/step_N.ckpt, et last.ckpt avec lui ; `every` null : rien."""

    def __init__(self, *, dirpath: str, every: int | None) -> None:
        if every is not None:
            whole("save_every", every)
        self.dirpath, self.every, self._saved = Path(dirpath), every, 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self.every and step % self.every == 0 and step != self._saved:
            self._saved = step
            for name in (f"step_{step:07d}", "last"):
                trainer.save_checkpoint(self.dirpath / f"{name}.ckpt")
