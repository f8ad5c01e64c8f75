"""Les fenêtres glissantes : de l'arithmétique sur les jetons, rien n'est recopié d'avance.

La fenêtre i commence au jeton i x stride ; l'entrée en prend T, la cible les mêmes décalés d'un.
Légende des formes : B lot, T = max_length.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class SlidingWindowDataset(torch.utils.data.Dataset):
    """Les paires (entrée, cible) d'une suite de jetons, comme GPTDatasetV1 du livre.

    `tokens` est une suite d'entiers, ou la liste des fragments d'une base (`dtype` dit alors leur type). La
    projection en mémoire est ouverte à la première lecture, dans le processus qui lit, et n'est jamais
    sérialisée.
    """

    def __init__(
        self,
        tokens: Sequence[int] | np.ndarray | list[Path],
        *,
        max_length: int,
        stride: int,
        dtype: np.dtype | None = None,
    ):
        self.max_length, self.stride = max_length, stride
        if dtype is None:
            self._dtype = None
            self._shards = [np.asarray(tokens)]
            lengths = [len(self._shards[0])]
        else:
            self._dtype, self._paths, self._shards = np.dtype(dtype), list(tokens), []
            lengths = [path.stat().st_size // self._dtype.itemsize for path in self._paths]
        self._starts = np.concatenate([[0], np.cumsum(lengths)])  # début de chaque fragment, puis le total
        self.n_tokens = int(self._starts[-1])

    def __len__(self) -> int:
        return max(0, -(-(self.n_tokens - self.max_length) // self.stride))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # (T,), (T,)
        if not -len(self) <= index < len(self):
            raise IndexError(f"fenêtre {index} sur {len(self)}")
        x, y = self.__getitems__([index % len(self)])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Un lot d'un coup : (B, T), (B, T), du type d'entier de la base."""
        rows = self._rows(np.asarray(indices, dtype=np.int64) * self.stride)  # (B, T + 1)
        batch = torch.from_numpy(rows)
        return batch[:, :-1], batch[:, 1:]

    def _rows(self, starts: np.ndarray) -> np.ndarray:
        width = self.max_length + 1
        shards = self._open()
        rows = np.empty((len(starts), width), dtype=shards[0].dtype)
        for row, start in zip(rows, starts.tolist(), strict=True):
            shard = int(np.searchsorted(self._starts, start, side="right")) - 1 if len(shards) > 1 else 0
            filled = 0
            while filled < width:  # une fenêtre peut passer d'un fragment au suivant
                local = start + filled - int(self._starts[shard])
                part = shards[shard][local : local + width - filled]
                row[filled : filled + len(part)] = part
                filled += len(part)
                shard += 1
        return rows

    def _open(self) -> list[np.ndarray]:
        if not self._shards:
            self._shards = [np.memmap(path, dtype=self._dtype, mode="r") for path in self._paths]
        return self._shards

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        if self._dtype is not None:
            state["_shards"] = []
        return state
