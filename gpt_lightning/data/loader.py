"""Le chargeur : un ordre qui ne dépend que de (graine, époque, position), et qui se reprend où il en était."""

import signal
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset

from gpt_lightning.errors import UserError

BUNDLE = 32  # lots par message d'un processus de lecture


class Batches(Protocol):
    """Un jeu de données qui fait lui-même ses lots."""

    offset: int  # de combien de jetons ses fenêtres commencent plus loin

    def __len__(self) -> int: ...

    def message(self, bundle: list[list[int]]) -> object:
        """Plusieurs lots, donnés par leurs rangs, en un objet qui passe vite d'un processus à l'autre."""
        ...

    def unpack(self, message: Any) -> Iterator[Any]:
        """Les lots d'un message."""
        ...


class BatchOrder:
    """Les lots d'indices d'une époque, pour un processus parmi `world_size`.

    Un pas d'optimiseur lit `accumulate` lots sur chaque processus. L'ordre global est découpé par pas, puis
    par lot, puis par processus : à lot global égal, tout nombre de processus lit les mêmes fenêtres à chaque pas. Les
    fenêtres qui ne remplissent pas un pas entier attendent une autre époque ; avec `partial`, elles font le dernier
    pas de celle-ci, plus court, dont certains lots peuvent être vides. Après la première, les fenêtres commencent
    toutes un peu plus loin, de moins de `shift` jetons : ce n'est pas deux fois le même texte.
    """

    def __init__(
        self,
        n_windows: int,
        *,
        batch_size: int,
        seed: int,
        world_size: int = 1,
        rank: int = 0,
        accumulate: int = 1,
        shift: int = 0,
        length: int = 1,
        partial: bool = False,
    ) -> None:
        self.shift, self.length, self.partial = shift, length, partial  # length : jetons d'une fenêtre
        self.n_windows, self.batch_size, self.seed = n_windows, batch_size, seed
        self.world_size, self.rank, self.accumulate = world_size, rank, accumulate
        self.epoch, self.start = 0, 0  # l'époque, et les fenêtres déjà lues au début de la prochaine lecture

    @property
    def per_step(self) -> int:
        """Les fenêtres d'un pas d'optimiseur, sur tous les processus."""
        return self.batch_size * self.world_size * self.accumulate

    @property
    def offset(self) -> int:
        """Le décalage, en jetons, des fenêtres de cette époque : une fonction de (graine, époque)."""
        if not self.shift or not self.epoch:
            return 0
        return int(np.random.default_rng([self.seed, self.epoch, self.shift]).integers(self.shift))

    def remaining(self, windows: int) -> int:
        """Les lots d'un processus qui restent dans une époque dont `windows` fenêtres sont lues."""
        left = max(0, self.n_windows - windows)
        return (-(-left // self.per_step) if self.partial else left // self.per_step) * self.accumulate

    @property
    def left_out(self) -> int:
        """Les fenêtres qu'une époque ne lit pas : elles ne remplissent pas un pas."""
        return 0 if self.partial else self.n_windows % self.per_step

    def place(self, epoch: int, windows: int) -> tuple[int, int]:
        """L'époque et les fenêtres lues d'où continuer : celle d'après, s'il ne reste pas un pas dans celle-ci."""
        return (epoch, windows) if self.remaining(windows) else (epoch + 1, 0)

    def state(self, epoch: int, windows: int) -> dict[str, int]:
        """L'état que `TrainLoader` relit, à cet endroit du corpus."""
        return {"seed": self.seed, "epoch": epoch, "windows": windows, "n_windows": self.n_windows}

    def __len__(self) -> int:
        return self.remaining(0)

    @property
    def mean_tokens(self) -> int:
        """Les jetons d'un pas d'optimiseur moyen, tous processus compris."""
        return self.per_step * self.length

    def step_tokens(self, epoch: int, windows: int) -> tuple[int, int]:
        """Les jetons lus et les jetons appris du pas qui commence à cet endroit du corpus."""
        return self.mean_tokens, self.mean_tokens

    def steps_for(self, tokens: int, epoch: int = 0, windows: int = 0) -> int:
        """Le moins de pas, à partir de cet endroit, qui lisent au moins `tokens` jetons."""
        return max(0, -(-tokens // self.mean_tokens))

    def permutation(self, epoch: int) -> np.ndarray:
        """L'ordre des fenêtres de l'époque `epoch`."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.n_windows)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.permutation(self.epoch)
        for batch in range(self.remaining(self.start)):
            first = self.start + (batch * self.world_size + self.rank) * self.batch_size
            yield order[first : first + self.batch_size].tolist()


class ValidationBatches:
    """Les lots d'une évaluation : tous si `complete()`, sinon ceux de `some`, répartis sur toute la validation.

    La longueur est toujours celle de l'ensemble : Lightning ne la demande qu'une fois.
    """

    def __init__(self, everything: list[list[int]], some: list[list[int]], complete: Callable[[], bool]):
        self.everything, self.some, self.complete = everything, some, complete

    def __len__(self) -> int:
        return len(self.everything)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.everything if self.complete() else self.some)


class WindowLoader(DataLoader):
    """Les lots de `dataset`, d'une suite de listes d'indices.

    Passer un lot d'un processus à l'autre coûte plus que le lire : les processus de lecture en envoient
    `BUNDLE` à la fois.
    """

    def __init__(
        self,
        dataset: Batches,
        batches: list[list[int]] | BatchOrder | ValidationBatches,
        *,
        num_workers: int = 0,
        pin: bool = False,
    ) -> None:
        self.batches, self.bundle = batches, BUNDLE if num_workers else 1
        self._rows = _Rows(dataset)
        super().__init__(
            self._rows,
            batch_sampler=_Bundles(batches, self.bundle),
            collate_fn=_as_is,
            num_workers=num_workers,
            pin_memory=pin,
            worker_init_fn=_deaf,
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for message in super().__iter__():
            yield from self._rows.dataset.unpack(message)


class TrainLoader(WindowLoader):
    """Les lots d'entraînement, époque après époque ; `state_dict` compte les fenêtres servies, pas préparées.

    Chaque parcours est une époque. Lightning sauve et relit l'état avec le checkpoint.
    """

    def __init__(
        self, dataset: Batches, order: BatchOrder, *, num_workers: int = 0, pin: bool = False
    ) -> None:
        super().__init__(dataset, order, num_workers=num_workers, pin=pin)
        self.order = order
        self.position = 0  # fenêtres servies dans l'époque en cours, sur tous les processus

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.order.epoch, self.position = self.order.place(self.order.epoch, self.position)
        self.order.start = self.position
        self._rows.dataset.offset = self.order.offset  # avant que les processus de lecture en aient une copie
        for batch in super().__iter__():
            self.position += self.order.batch_size * self.order.world_size
            yield batch

    def state_dict(self) -> dict[str, int]:
        return self.order.state(self.order.epoch, self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Reprend après les fenêtres déjà lues. UserError si la graine ou le corpus ne sont pas les mêmes."""
        order = self.order
        for key, value in (("seed", order.seed), ("n_windows", order.n_windows)):
            if state[key] != value:
                raise UserError(
                    f"Reprise impossible : {key} valait {state[key]}, il vaut {value} ; reprenez avec la même "
                    f"graine, le même corpus et les mêmes fenêtres, ou partez des poids avec init_from=."
                )
        order.epoch, self.position = state["epoch"], state["windows"]


class _Bundles:
    """Les lots, `size` à la fois."""

    def __init__(self, batches: list[list[int]] | BatchOrder | ValidationBatches, size: int) -> None:
        self.batches, self.size = batches, size

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[list[list[int]]]:
        batches = iter(self.batches)
        while bundle := list(islice(batches, self.size)):
            yield bundle


class _Rows(Dataset):
    """Le jeu de données vu par le DataLoader : plusieurs lots par message."""

    def __init__(self, dataset: Batches) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, bundle: list[list[int]]) -> object:
        return self.dataset.message(bundle)


def _deaf(worker: int) -> None:
    """Rend un processus de lecture sourd aux signaux que reçoit tout le groupe (Ctrl-C, un gestionnaire de tâches).

    Celui qui entraîne les reçoit, finit son pas, et ferme lui-même ses processus de lecture.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _as_is(batch: object) -> object:
    return batch
