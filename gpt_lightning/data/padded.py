"""Faire des lots de conversations encodées : les compléter à droite ou les ranger ensemble, et dire quoi apprendre.

Légende des formes : B lot, T jetons de la plus longue ligne du lot, N jetons à apprendre du lot.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gpt_lightning.data.loader import BatchOrder, TrainLoader

GROUPS, CHUNK = 32, 1024  # lignes de longueurs voisines mises ensemble, parmi combien


class EncodedConversation(NamedTuple):
    """Une conversation encodée : ses identifiants (T + 1,), et lesquels sont à apprendre."""

    ids: np.ndarray
    learned: np.ndarray


class Answers(NamedTuple):
    """Un lot. `share` est le poids de chaque jeton appris : la perte d'un pas est leur moyenne sur tout le pas.

    Zéro est celui d'un lot vide, dont le seul jeton n'est là que pour que chaque processus ait un lot.
    """

    ids: Tensor  # (B, T)
    where: Tensor  # (N,) rangs, dans le lot mis à plat, des positions à apprendre
    targets: Tensor  # (N,) le jeton que chacune doit prédire
    segments: Tensor | None  # (B, T) le rang de la conversation de chaque jeton ; None : une par ligne
    share: float = 1.0

    @property
    def n_targets(self) -> int:
        """Les jetons à apprendre ; aucun dans un lot vide."""
        return len(self.targets) if self.share else 0


class AnswerDataset(Dataset):
    """Un jeu de lignes, d'une ou plusieurs conversations : `bins` dit lesquelles, chacune une fois."""

    offset = 0

    def __init__(
        self, rows: Sequence[EncodedConversation], bins: Sequence[Sequence[int]] | None = None
    ) -> None:
        self.rows = rows
        self.bins = [[index] for index in range(len(rows))] if bins is None else list(bins)
        self.packed = bins is not None
        self.lengths = self._sums([len(row.ids) - 1 for row in rows])  # (lignes,) jetons lus
        self.targets = self._sums([int(row.learned[1:].sum()) for row in rows])  # (lignes,) jetons appris

    def _sums(self, values: list[int]) -> np.ndarray:
        return np.array([sum(values[index] for index in row) for row in self.bins], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.bins)

    def message(self, bundle: list[list[int]]) -> list[Answers]:
        return [self.batch(indices) for indices in bundle]

    def unpack(self, message: list[Answers]) -> Iterator[Answers]:
        return iter(message)

    def batch(self, indices: Sequence[int]) -> Answers:
        """Les lignes `indices`, complétées à droite. Le remplissage n'est ni appris, ni vu : il est après."""
        if not len(indices):
            return self._nothing()
        width = int(self.lengths[list(indices)].max())
        ids = np.zeros((len(indices), width), dtype=np.int64)
        targets = np.full((len(indices), width), -1, dtype=np.int64)
        segments = np.full((len(indices), width), -1, dtype=np.int64)
        for line, index in enumerate(indices):
            start = 0
            for rank, row in enumerate(self.rows[place] for place in self.bins[index]):
                end = start + len(row.ids) - 1
                ids[line, start:end] = row.ids[:-1]
                targets[line, start:end] = np.where(row.learned[1:], row.ids[1:], -1)
                segments[line, start:end] = rank
                start = end
        flat = torch.from_numpy(targets.reshape(-1))
        where = (flat >= 0).nonzero().squeeze(1)
        ranks = torch.from_numpy(segments) if self.packed else None
        return Answers(torch.from_numpy(ids), where, flat[where], ranks)

    def _nothing(self) -> Answers:
        """Le lot d'un processus à qui le dernier pas ne laisse rien : un jeton de poids nul.

        Tous les processus calculent ainsi autant de lots, et le gradient de celui-ci est zéro.
        """
        first = torch.zeros(1, dtype=torch.int64)
        return Answers(first[None], first, first, first[None] if self.packed else None, share=0.0)


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Range des conversations de ces longueurs dans des lignes de `room` jetons, les plus longues d'abord."""
    bins: list[list[int]] = []
    rooms: list[int] = []
    open_bins: dict[int, list[int]] = {}  # place qui reste -> lignes
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        fitting = [space for space in open_bins if space >= lengths[index]]
        if fitting:
            space = min(fitting)
            which = open_bins[space].pop()
            if not open_bins[space]:
                del open_bins[space]
        else:
            which = len(bins)
            bins.append([])
            rooms.append(room)
        bins[which].append(index)
        rooms[which] -= lengths[index]
        open_bins.setdefault(rooms[which], []).append(which)
    return bins


class AnswerOrder(BatchOrder):
    """L'ordre des lignes, fonction de (graine, époque) seule : les longueurs voisines y sont ensemble."""

    def __init__(self, dataset: AnswerDataset, *, partial: bool = False, **options: int) -> None:
        super().__init__(len(dataset), partial=partial, **options)
        self._lengths, self._targets = dataset.lengths, dataset.targets
        self._permutation: tuple[int, np.ndarray] | None = None

    def permutation(self, epoch: int) -> np.ndarray:
        if self._permutation is None or self._permutation[0] != epoch:
            draw = np.random.default_rng([self.seed, epoch])
            order = draw.permutation(self.n_windows)
            groups: list[np.ndarray] = []
            for start in range(0, len(order), CHUNK):
                part = order[start : start + CHUNK]
                part = part[np.argsort(self._lengths[part], kind="stable")]
                cut = [part[i : i + GROUPS] for i in range(0, len(part), GROUPS)]
                groups += [cut[i] for i in draw.permutation(len(cut))]
            self._permutation = epoch, np.concatenate(groups) if groups else order
        return self._permutation[1]

    @property
    def mean_tokens(self) -> int:
        rows = self.n_windows / (len(self) // self.accumulate) if self.partial else self.per_step
        return max(1, round(float(self._lengths.mean()) * rows))

    def step_tokens(self, epoch: int, windows: int) -> tuple[int, int]:
        rows = self.permutation(epoch)[windows : windows + self.per_step]
        return int(self._lengths[rows].sum()), int(self._targets[rows].sum())

    def steps_for(self, tokens: int, epoch: int = 0, windows: int = 0) -> int:
        steps = 0
        while tokens > 0:
            epoch, windows = self.place(epoch, windows)
            count = self.remaining(windows) // self.accumulate
            rows = self.permutation(epoch)[windows : windows + count * self.per_step]
            firsts = np.arange(0, len(rows), self.per_step)
            read = np.add.reduceat(self._lengths[rows], firsts).cumsum()  # jetons lus, pas après pas
            if tokens <= read[-1]:
                return steps + int(np.searchsorted(read, tokens)) + 1
            tokens, steps, epoch, windows = tokens - int(read[-1]), steps + count, epoch + 1, 0
        return steps

    def share(self, windows: int) -> float:
        """Le poids d'un jeton appris, dans le pas de cette époque qui contient la fenêtre `windows`.

        DDP et l'accumulation font une moyenne sur les lots : il en faut la somme, divisée par les jetons du pas.
        """
        first = self.start + (windows - self.start) // self.per_step * self.per_step
        return self.world_size * self.accumulate / self.step_tokens(self.epoch, first)[1]


class AnswerLoader(TrainLoader):
    """Les lots d'entraînement de conversations, chacun avec le poids de ses jetons."""

    def __iter__(self) -> Iterator[Answers]:  # type: ignore[override]
        order = self.order
        assert isinstance(order, AnswerOrder)
        for batch in super().__iter__():
            if batch.share:  # un lot vide garde son poids, zéro
                share = order.share(self.position - order.batch_size * order.world_size)
                batch = batch._replace(share=share)
            yield batch
