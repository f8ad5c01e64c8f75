"""S'arrêter quand on le demande : entre deux pas, tous les processus au même, après un checkpoint."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback

from gpt_lightning.training.callbacks.checkpoint import LastCheckpoint

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

EVERY = 1.0  # secondes entre deux accords, au plus


class Stopped(Exception):
    """L'entraînement s'est arrêté sur le signal `signum`, et son dernier checkpoint est écrit."""

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
        self._every = self._log_every = 1

    def on_fit_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        """Retire à Lightning 2.6 ce qu'il fait à chaque lot : attendre l'appareil pour savoir s'il faut s'arrêter."""
        loop: Any = trainer.fit_loop.epoch_loop
        loop._broadcast_sigterm_tensor = lambda: None
        self._log_every = pl_module.log_every
        self._left, self._every, self._asked = 1, 1, time.perf_counter()

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "GPTModule", batch: object, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0 and (signum := self._agree(trainer)):
            self._leave(trainer, signum)

    def on_validation_batch_start(
        self,
        trainer: "Trainer",
        pl_module: "GPTModule",
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # en validation, un processus peut avoir un lot de moins : on ne s'accorde que seul, ou au premier lot
        if (trainer.world_size == 1 or batch_idx == 0) and (signum := self._agree(trainer, at_once=True)):
            pl_module.seen.evaluated = False
            self._leave(trainer, signum)

    def _agree(self, trainer: "Trainer", *, at_once: bool = False) -> int:
        """Accorde les processus : le signal que l'un d'eux a reçu, le même pour tous ; 0 s'il n'y en a pas."""
        if trainer.world_size == 1:
            return self.received()
        self._left -= 1
        if self._left > 0 and not at_once:
            return 0
        now = time.perf_counter()
        pace, self._asked = (now - self._asked) / self._every, now
        interval = min(self._log_every, max(1, int(EVERY / max(pace, 1e-6))))
        message = torch.tensor(
            [self.received(), interval if trainer.is_global_zero else 0], device=trainer.strategy.root_device
        )
        torch.distributed.all_reduce(message, op=torch.distributed.ReduceOp.MAX)
        signum, self._every = message.tolist()
        self._left = self._every
        return signum

    def _leave(self, trainer: "Trainer", signum: int) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.save(trainer)
        raise Stopped(signum)
