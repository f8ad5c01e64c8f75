"""Finir : s'arrêter au dernier pas du plan, après une évaluation, et noter les réglages avec leur résultat."""

from typing import Any

from lightning import Callback


class Finish(Callback):
    """Demande l'arrêt au dernier pas. Lightning évalue alors une dernière fois, d'où le texte et les checkpoints."""

    def __init__(self, hyperparameters: dict[str, Any]) -> None:
        self.hyperparameters = hyperparameters

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        total = pl_module.plan.total_steps
        if total is not None and trainer.global_step >= total:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if "val/loss" in pl_module.metrics:
            for logger in trainer.loggers:
                logger.log_hyperparams(self.hyperparameters, {"hp/val_loss": pl_module.metrics["val/loss"]})
