"""Les fenêtres glissantes : de l'arithmétique sur les jetons, rien n'est recopié d'avance.

La fenêtre i commence au jeton i x stride, plus un décalage propre à l'époque ; l'entrée en prend T, la cible les mêmes
décalés d'un.
Légende des formes : B lot, T = max_length.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from gpt_lightning.data.store import Fragment, check_ids
from gpt_lightning.errors import Unfit, UserError, choice, whole
from gpt_lightning.wording import number, stride_too_long


class SlidingWindowDataset(torch.utils.data.Dataset):
    """Les paires (entrée, cible) d'une suite de jetons, comme GPTDatasetV1 du livre.

    `tokens` est une suite d'entiers, une liste de fragments, ou leurs fichiers entiers (`dtype` dit alors leur type).
    Une lecture est refusée (UserError) si l'un de ses jetons n'est pas sous `below`. Avec
    `documents` (le premier jeton de chacun), aucune fenêtre ne passe d'un document à l'autre, et ceux qui sont plus
    courts qu'une fenêtre n'en ont pas. La projection en mémoire est ouverte à la première lecture, dans le
    processus qui lit, et n'est jamais sérialisée.
    """

    def __init__(
        self,
        tokens: Sequence[int] | np.ndarray | list[Path] | list[Fragment],
        *,
        max_length: int,
        stride: int,
        dtype: np.dtype | None = None,
        documents: np.ndarray | None = None,
        below: int | None = None,
    ) -> None:
        self.max_length, self.stride, self._below = max_length, stride, below
        self.offset = (
            0  # de combien toutes les fenêtres commencent plus loin ; la dernière s'arrête à la fin du texte
        )
        self._view: np.ndarray | None = None
        self._fragments: list[Fragment] = []
        self._shards: list[np.ndarray] = []
        if dtype is None and len(tokens) and isinstance(tokens[0], Fragment):
            self._fragments = [part for part in tokens if isinstance(part, Fragment)]
        elif dtype is None:
            self._shards = [np.asarray(tokens)]
        else:
            self._fragments = [Fragment.of(Path(str(path)), np.dtype(dtype)) for path in tokens]
        lengths = [part.length for part in self._fragments] or [len(part) for part in self._shards]
        self._lengths = np.array(lengths, dtype=np.int64)
        self._starts = np.concatenate(
            [[0], np.cumsum(self._lengths)]
        )  # début de chaque fragment, puis le total
        self.n_tokens = int(self._starts[-1])
        self._documents = documents
        if documents is not None:  # dans chaque document, autant de fenêtres que sa longueur permet
            sizes = np.diff(documents, append=self.n_tokens)
            self._until = np.cumsum(np.maximum(0, -(-(sizes - max_length) // stride)))

    def __len__(self) -> int:
        if self._documents is not None:
            return int(self._until[-1]) if len(self._until) else 0
        return max(0, -(-(self.n_tokens - self.max_length) // self.stride))

    @property
    def too_short(self) -> int:
        """Les documents sans fenêtre : plus courts qu'une, et aucune ne passe de l'un à l'autre."""
        return 0 if self._documents is None else int((np.diff(self._until, prepend=0) == 0).sum())

    def _first_tokens(self, indices: np.ndarray) -> np.ndarray:
        """Le premier jeton de chaque fenêtre : (B,) -> (B,)."""
        if self._documents is None:
            return np.minimum(indices * self.stride + self.offset, self.n_tokens - self.max_length - 1)
        document = np.searchsorted(self._until, indices, side="right")
        before = np.where(document > 0, self._until[document - 1], 0)
        ends = np.append(self._documents[1:], self.n_tokens)[document]
        starts = self._documents[document] + (indices - before) * self.stride + self.offset
        return np.minimum(starts, ends - self.max_length - 1)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # (T,), (T,)
        if not -len(self) <= index < len(self):
            raise IndexError(f"fenêtre {index} sur {len(self)}")
        x, y = self.__getitems__([index % len(self)])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Un lot d'un coup : (B, T), (B, T), du type d'entier de la base."""
        return split_rows(self.rows(indices))

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Les fenêtres d'un lot, entrée et dernière cible ensemble : (B, T + 1)."""
        starts = self._first_tokens(np.asarray(indices, dtype=np.int64))
        width = self.max_length + 1
        shards = self._open()
        if len(shards) == 1:  # toutes les fenêtres possibles sont une vue ; en prendre est une seule copie
            if self._view is None:
                self._view = sliding_window_view(shards[0], width)
            rows = self._view[starts]
        else:
            rows = np.empty((len(starts), width), self._dtype)
            ranks = np.searchsorted(self._starts, starts, side="right") - 1
            places = starts - self._starts[ranks]
            for row, rank, place in zip(rows, ranks.tolist(), places.tolist(), strict=True):
                part = shards[rank][place : place + width]
                if len(part) < width:  # elle passe d'un fragment au suivant
                    part = self._across(shards, rank, place, width)
                row[:] = part
        if self._below is not None and len(rows) and int(rows.max()) >= self._below:
            row, column = np.argwhere(rows >= self._below)[0].tolist()
            self._refuse(int(starts[row]) + column)
        return torch.from_numpy(rows)

    def _across(self, shards: list[np.ndarray], rank: int, place: int, width: int) -> np.ndarray:
        """Une fenêtre qui commence à `place` dans le fragment `rank`, et finit dans un autre : (width,)."""
        parts, filled = [], 0
        while filled < width:
            parts.append(shards[rank][place : place + width - filled])
            filled, rank, place = filled + len(parts[-1]), rank + 1, 0
        return np.concatenate(parts)

    def _refuse(self, place: int) -> None:
        """UserError qui dit où, dans les fichiers, est le jeton `place`."""
        rank = int(np.searchsorted(self._starts, place, side="right")) - 1
        local = place - int(self._starts[rank])
        check_ids(self._open()[rank][local : local + 1], self._below, self._fragments[rank], local)

    def message(self, bundle: list[list[int]]) -> tuple[Tensor, list[int]] | UserError:
        """Plusieurs lots en un seul tenseur, et leurs tailles ; ou ce qu'il faut dire d'un jeton impossible."""
        indices = bundle[0] if len(bundle) == 1 else [i for batch in bundle for i in batch]
        try:
            return self.rows(indices), [len(batch) for batch in bundle]
        except UserError as refusal:  # torch mettrait une trace autour de ce que lève un processus de lecture
            return refusal

    def unpack(self, message: tuple[Tensor, list[int]] | UserError) -> Iterator[tuple[Tensor, Tensor]]:
        """Les lots d'un message : (B, T), (B, T). UserError si l'un d'eux a un jeton que le tokenizer n'a pas."""
        if isinstance(message, UserError):
            raise message
        rows, sizes = message
        return map(split_rows, rows.split(sizes))

    def _open(self) -> list[np.ndarray]:
        if not self._shards:
            self._shards = [fragment.map() for fragment in self._fragments]
            self._dtype = np.result_type(*{shard.dtype for shard in self._shards})
        return self._shards

    def __getstate__(self) -> dict:
        state = {**self.__dict__, "_view": None}
        if self._fragments:
            state["_shards"] = []
        return state


def split_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Entrées et cibles : (B, T + 1) -> (B, T), (B, T), deux vues."""
    return rows[:, :-1], rows[:, 1:]


def choose_shift(shift: bool | None, stride: int | None, max_length: int) -> bool:
    """Vrai si les fenêtres se décalent après le premier passage : si `shift` le dit, ou, null, si elles ne se
    recouvrent pas. UserError sur un pas ou un décalage qui ne va pas."""
    if stride is not None and whole("data.stride", stride) > max_length:
        raise Unfit(
            stride_too_long(stride, max_length),
            f"data.max_length={max_length} est la fenêtre",
            {"data.stride": max_length},
        )
    choice("data.shift", shift, (None, True, False))
    apart = stride is None or stride == max_length
    if shift and not apart:
        raise UserError(
            f"data.shift=true décale des fenêtres qui ne se recouvrent pas ; ici data.stride={stride} pour "
            f"data.max_length={max_length} : retirez l'un des deux."
        )
    return apart if shift is None else shift


def short_documents(count: int, max_length: int) -> str:
    """La phrase des documents trop courts pour une fenêtre."""
    what = "document plus court" if count == 1 else "documents plus courts"
    return (
        f"\n             {number(count)} {what} qu'une fenêtre de data.max_length={max_length} + 1 jetons : "
        f"rien n'en est lu (data.cross_documents=false)"
    )
