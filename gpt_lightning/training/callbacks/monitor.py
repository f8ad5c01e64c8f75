"""Mesurer : perte, taux d'apprentissage, norme du gradient, débit, part de la crête (MFU), mémoire."""

import time
from typing import TYPE_CHECKING, Any

from lightning import Callback

from gpt_lightning.model.trainable import flops_per_token
from gpt_lightning.training.hardware import peak_flops, peak_memory

if TYPE_CHECKING:
    from lightning import Trainer
    from torch.optim import Optimizer

    from gpt_lightning.training.module import GPTModule


class Monitor(Callback):
    """Écrit les mesures tous les `trainer.log_every_n_steps` pas d'optimiseur.

    Le débit compte les jetons de tous les processus, et le temps d'entraînement seul : ni évaluation, ni texte, ni
    checkpoint de fin d'évaluation. `mfu` est la part de la crête `peak_flops` (FLOP/s par appareil ; None : la table
    de hardware.py) que les 6 N + 12 L C T FLOP par jeton occupent ; sans crête connue, elle n'est pas écrite.
    `memory_gb` est le pic du premier processus, en Go.
    """

    def __init__(self, peak_flops: float | None = None) -> None:
        self.peak_flops = peak_flops
        self._peak: float | None = None
        self._step = 0
        self._tokens = 0
        self._since = 0.0
        self._paused = 0.0
        self._paused_before = 0.0
        self._lr = 0.0

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._peak = peak_flops(trainer.strategy.root_device, trainer.precision, self.peak_flops)
        self._step, self._tokens = trainer.global_step, pl_module.seen.tokens
        self._since, self._paused_before = time.perf_counter(), pl_module.paused_seconds

    def on_validation_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._paused = time.perf_counter()

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "GPTModule", batch: object, batch_idx: int
    ) -> None:
        if self._paused:  # évaluation, texte et checkpoint sont finis
            self._since += time.perf_counter() - self._paused
            self._paused = 0.0

    def on_before_optimizer_step(
        self, trainer: "Trainer", pl_module: "GPTModule", optimizer: "Optimizer"
    ) -> None:
        self._lr = optimizer.param_groups[0]["lr"]  # celui de ce pas : le plan du taux avance aussitôt après

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "GPTModule", outputs: object, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._step:
            return  # lot d'accumulation : pas encore de pas d'optimiseur
        self._step = step
        if step % pl_module.log_every and step != pl_module.plan.total_steps:
            return
        now = time.perf_counter()
        self._since += pl_module.paused_seconds - self._paused_before  # un checkpoint entre deux pas
        self._paused_before = pl_module.paused_seconds
        metrics = {
            "train/loss": pl_module.seen.losses.mean(trainer.strategy),
            "lr": self._lr,
            "grad_norm": float(pl_module.grad_norm),
            "tokens_per_second": (pl_module.seen.tokens - self._tokens) / (now - self._since),
            "epoch": pl_module.n_epochs,
        }
        memory = peak_memory(trainer.strategy.root_device)
        if memory is not None:
            metrics["memory_gb"] = memory / 1e9
        if self._peak:
            flops = metrics["tokens_per_second"] * flops_per_token(pl_module.model, batch[0].shape[1])
            metrics["mfu"] = flops / (self._peak * trainer.world_size)
        self._tokens, self._since = pl_module.seen.tokens, now
        pl_module.metrics |= metrics
        pl_module.write(metrics)
