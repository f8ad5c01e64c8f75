"""S'arrêter quand on le demande : entre deux pas, tous les processus au même, l'entraînement gardé."""

import time
from collections.abc import Callable
from typing import Any

import torch
from lightning import Callback

from gpt_lightning.training.callbacks.checkpoint import LastCheckpoint

EVERY = 1.0  # secondes entre deux accords, au plus


class Stopped(Exception):
    """L'entraînement s'est arrêté sur le signal `signum` ; ce qui devait l'être est gardé."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class StopOnSignal(Callback):
    """Arrête tous les processus au même pas quand l'un d'eux a reçu un signal ; `received()` donne le sien, ou 0.

    Ils s'accordent tous les `log_every_n_steps` lots, ou toutes les secondes si c'est plus tôt : le premier mesure ses
    lots et dit aux autres dans combien de lots se revoir. Une évaluation s'interrompt, et la reprise la refera.
    """

    def __init__(self, received: Callable[[], int]) -> None:
        self.received = received
        self._left, self._asked = 1, 0.0  # lots avant le prochain accord, heure du dernier
        self._every = 1

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Lightning 2.6 demande à chaque lot si un processus doit s'arrêter, et attend l'appareil pour le savoir."""
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
        self._left, self._every, self._asked = 1, 1, time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0 and (signum := self._agreed(trainer)):
            self._leave(trainer, signum)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        # en validation, un processus peut avoir un lot de moins : on ne s'accorde que seul, ou au premier lot
        if (trainer.world_size == 1 or batch_idx == 0) and (signum := self._agreed(trainer, at_once=True)):
            pl_module.seen.evaluated = False
            self._leave(trainer, signum)

    def _agreed(self, trainer: Any, *, at_once: bool = False) -> int:
        """Le signal qu'un processus a reçu, le même pour tous ; 0 s'il n'y en a pas."""
        if trainer.world_size == 1:
            return self.received()
        self._left -= 1
        if self._left > 0 and not at_once:
            return 0
        now = time.perf_counter()
        pace, self._asked = (now - self._asked) / self._every, now
        wanted = min(trainer.log_every_n_steps, max(1, int(EVERY / max(pace, 1e-6))))
        said = torch.tensor(
            [self.received(), wanted if trainer.is_global_zero else 0], device=trainer.strategy.root_device
        )
        torch.distributed.all_reduce(said, op=torch.distributed.ReduceOp.MAX)
        signum, self._every = said.tolist()
        self._left = self._every
        return signum

    def _leave(self, trainer: Any, signum: int) -> None:
        for one in trainer.checkpoint_callbacks:
            if isinstance(one, LastCheckpoint):
                one.save(trainer)
        raise Stopped(signum)
