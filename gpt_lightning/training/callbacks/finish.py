"""Finir : s'arrêter au dernier pas du plan, après une évaluation entière, et noter les réglages avec leur résultat."""

from typing import TYPE_CHECKING

from lightning import Callback

from gpt_lightning.training.callbacks.classes import Confusion
from gpt_lightning.training.callbacks.train_eval import mean_loss
from gpt_lightning.training.loggers.tracker import Tracker

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule


class Finish(Callback):
    """Demande l'arrêt au dernier pas. Lightning évalue alors une dernière fois, d'où le texte et les checkpoints.

    La dernière évaluation lit toute la validation. Si un autre callback a demandé l'arrêt, elle recommence en entier.
    """

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._stop_at_the_end(trainer, pl_module)  # il ne restait que la dernière évaluation

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "GPTModule", outputs: object, batch: object, batch_idx: int
    ) -> None:
        self._stop_at_the_end(trainer, pl_module)

    def _stop_at_the_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        total = pl_module.plan.total_steps
        if total is not None and trainer.global_step >= total:
            trainer.should_stop = True
            pl_module.data.read_whole_validation()

    def on_train_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        data = pl_module.data
        if not data.reads_whole_validation:
            data.read_whole_validation()
            loss = mean_loss(pl_module, data.val_dataloader(), counted=True)
            pl_module.record_validation(loss)
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            for callback in callbacks:
                if isinstance(callback, Confusion):
                    callback.on_validation_end(trainer, pl_module)
        if "val/loss" in pl_module.metrics:
            measured = {"val/loss": pl_module.metrics["val/loss"]}
            for logger in trainer.loggers:
                of_all = {**pl_module.metrics, "tokens": pl_module.seen.tokens}
                final = of_all if isinstance(logger, Tracker) else measured  # HParams n'en montre qu'un
                logger.log_hyperparams(pl_module.hyperparameters, final)
