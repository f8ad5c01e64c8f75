"""Ce que l'entraînement tient à jour sans attendre l'appareil : une moyenne, ses compteurs, le hasard de chaque lot."""

import hashlib
import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gpt_lightning.training.data import Order
from gpt_lightning.typing import State
from gpt_lightning.weights.format import TrainingProgress

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy


def seed_everything(*numbers: int) -> None:
    """Sème torch (tous les appareils), Python, et numpy s'il sert, d'après tous ces entiers."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # la même chose, sans noter une pile d'appels par genre d'appareil : une milliseconde à chaque lot
        torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


class Running:
    """Une moyenne pondérée qui reste sur l'accélérateur : rien n'est lu avant `mean`."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None  # (2,) : la somme pondérée, les poids

    def add(self, value: Tensor, weight: int, *, only_finite: bool = False) -> None:
        """Ajoute `value`, (), de ce poids ; avec `only_finite`, seulement si c'est un nombre fini."""
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        part = torch.stack([value.detach().to(wide) * weight, value.new_full((), weight, dtype=wide)])
        if only_finite:
            part = torch.where(torch.isfinite(part[0]), part, torch.zeros_like(part))
        self._sums = part if self._sums is None else self._sums.to(part) + part

    def mean(self, strategy: "Strategy") -> float:
        """La moyenne sur tous les processus ; repart de zéro. NaN si rien n'a été ajouté."""
        total = strategy.reduce(self._own(strategy), reduce_op="sum")
        self._sums = None
        return (total[0] / total[1]).item()

    def state(self, strategy: "Strategy") -> tuple[tuple[float, int], ...]:
        """(somme, poids) de chaque processus ; tous l'appellent ensemble."""
        everyone = strategy.all_gather(self._own(strategy)).reshape(-1, 2).tolist()
        return tuple((total, int(weight)) for total, weight in everyone)

    def load(self, sums: Sequence[tuple[float, int]], rank: int, world_size: int) -> None:
        """Reprend la somme de ce processus ; si leur nombre a changé, le premier les prend toutes."""
        own = [sums[rank]] if len(sums) == world_size else sums if rank == 0 else ()
        total, weight = (sum(column) for column in zip(*own, strict=True)) if own else (0.0, 0)
        self._sums = torch.tensor([total, weight], dtype=torch.float64) if weight else None

    def _own(self, strategy: "Strategy") -> Tensor:
        own = torch.zeros(2, device=strategy.root_device, dtype=_widest(strategy))
        return own if self._sums is None else self._sums.to(own)


def _widest(strategy: "Strategy") -> torch.dtype:
    return torch.float32 if strategy.root_device.type == "mps" else torch.float64


class Seen:
    """Ce que l'entraînement a lu et appris jusqu'ici, tous processus compris, et les sommes qui attendent le journal.

    `state` en fait ce que le checkpoint garde, `load` le relit.
    """

    def __init__(self) -> None:
        self.tokens = 0  # jetons d'entraînement
        self.targets = 0  # ceux d'entre eux que le modèle apprend à prédire
        self.epoch, self.windows = 0, 0  # passages sur le corpus, fenêtres lues dans celui en cours
        self.evaluated = True  # faux si l'évaluation due au pas courant a été interrompue
        self.losses = Running()  # depuis la dernière ligne du journal
        self._bad: Tensor | None = None  # 1 si une perte du pas en cours n'est pas finie

    def add(self, loss: Tensor, targets: int) -> None:
        """Compte la perte, (), d'un lot de `targets` jetons prédits : elle entre dans la moyenne si elle est finie."""
        self.losses.add(loss, targets, only_finite=True)
        bad = (~torch.isfinite(loss.detach())).float()
        self._bad = bad if self._bad is None else torch.maximum(self._bad, bad)

    def bad(self) -> Tensor:
        """1 si une perte du pas qui finit n'est pas finie, 0 sinon, () ; le pas suivant repart de rien."""
        assert self._bad is not None  # un lot vient d'être lu
        code, self._bad = self._bad, None
        return code

    def step(self, order: Order) -> None:
        """Compte un pas d'optimiseur ; `order` dit ce qu'il a lu, et d'où le suivant lira."""
        tokens, targets = order.step_tokens(self.epoch, self.windows)
        self.tokens, self.targets = self.tokens + tokens, self.targets + targets
        self.epoch, self.windows = order.place(self.epoch, self.windows + order.per_step)

    def state(self, strategy: "Strategy") -> State:
        """Les champs de `weights.format.TrainingProgress` qui sont ici ; tous les processus l'appellent ensemble."""
        return {
            "tokens": self.tokens,
            "targets": self.targets,
            "epoch": self.epoch,
            "windows": self.windows,
            "evaluated": self.evaluated,
            "loss_sums": self.losses.state(strategy),
        }

    def load(self, progress: TrainingProgress, where: tuple[int, int], rank: int, world_size: int) -> None:
        """Reprend `progress` ; `where` est l'époque et les fenêtres d'où lire."""
        self.tokens, self.evaluated = progress.tokens, progress.evaluated
        self.targets = progress.tokens if progress.targets is None else progress.targets
        self.epoch, self.windows = where
        self.losses.load(progress.loss_sums, rank, world_size)
