"""La perte d'entraînement en mode évaluation, comme le projet d'origine la donne."""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import torch
from lightning import Callback
from lightning.fabric.utilities.apply_func import move_data_to_device

from gpt_lightning.errors import whole
from gpt_lightning.training.evaluating import evaluating
from gpt_lightning.training.running import Running

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule


class TrainLossEval(Callback):
    """Écrit `train/loss_eval`, la moyenne sur `batches` lots d'entraînement sans dropout, à chaque évaluation.

    Elle l'écrit aussi, avec la validation, après le premier pas : c'est le « pas 0 » de l'original, qui compte à
    partir de zéro.
    """

    def __init__(self, *, batches: int = 5) -> None:
        self.batches, self._before = whole("batches", batches), 0

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "GPTModule", batch: object, batch_idx: int
    ) -> None:
        self._before = trainer.global_step

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "GPTModule", outputs: object, batch: object, batch_idx: int
    ) -> None:
        if (self._before, trainer.global_step) == (0, 1):
            validation = mean_loss(pl_module, pl_module.data.val_dataloader())
            pl_module.write({"val/loss": validation})
            self._measure(trainer, pl_module)

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module)

    def _measure(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        loader = pl_module.data.train_dataloader()
        value = mean_loss(pl_module, islice(loader, self.batches))
        pl_module.metrics["train/loss_eval"] = value
        pl_module.write({"train/loss_eval": value})


@torch.no_grad()
def mean_loss(pl_module: "GPTModule", batches: Iterable[object], *, counted: bool = False) -> float:
    """La perte moyenne par jeton sur des lots, en évaluation, sur tous les processus ; `counted`, comme `loss_of`."""
    total = Running()
    with evaluating(pl_module.model), pl_module.trainer.precision_plugin.forward_context():
        for batch in batches:
            loss = pl_module.loss_of(move_data_to_device(batch, pl_module.device), counted=counted)
            total.add(loss.mean, loss.targets)
    return total.mean(pl_module.trainer.strategy)
