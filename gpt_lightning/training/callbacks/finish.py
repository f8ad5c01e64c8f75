"""Finir : s'arrêter au dernier pas du plan, après une évaluation."""

from lightning import Callback


class Finish(Callback):
    """Demande l'arrêt au dernier pas. Lightning évalue alors une dernière fois, d'où le texte et les checkpoints."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        total = pl_module.plan.total_steps
        if total is not None and trainer.global_step >= total:
            trainer.should_stop = True
