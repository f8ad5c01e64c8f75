"""Le cache d'un lot continu : chaque ligne a sa longueur.

Légende des formes : B lignes occupées, H têtes, S jetons, D dimension d'une tête.
"""

import torch
from torch import Tensor

from gpt_lightning.model.cache import KVCache, LanguageModel


class RowCache(KVCache):
    """Un cache dont chaque ligne a sa longueur : des textes y entrent et en sortent pendant que les autres s'écrivent.

    Les lignes occupées sont les premières, et une passe y lit un jeton de chacune. Les tampons sont ouverts pour `rows`
    lignes et tout le contexte ; sur CPU, la mémoire n'est prise qu'à mesure que des jetons y sont écrits.
    """

    def __init__(
        self, model: LanguageModel, rows: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        config = model.config
        buffers = KVCache.empty(
            config, batch_size=rows, capacity=config.context_length, device=device, dtype=dtype
        )
        super().__init__(buffers.keys, buffers.values, buffers.position.new_zeros(0))

    @property
    def lengths(self) -> list[int]:
        """Les jetons que contient chaque ligne occupée."""
        return self.position.tolist()

    def enter(self, cache: KVCache, place: int = 0) -> None:
        """Occupe une ligne de plus avec ce que la ligne `place` de `cache` a lu, sans son remplissage."""
        row, start, end = len(self.position), 0, int(cache.position)
        if cache.pads is not None:
            start = int(cache.pads[place])
        for mine, theirs in zip(self.keys + self.values, cache.keys + cache.values, strict=True):
            mine[row, :, : end - start] = theirs[place, :, start:end]
        self.position = torch.cat((self.position, self.position.new_tensor([end - start])))

    def leave(self, row: int) -> None:
        """Libère la ligne `row` : la dernière prend sa place."""
        last = len(self.position) - 1
        if row != last:
            length = int(self.position[last])
            for buffer in self.keys + self.values:
                buffer[row, :, :length] = buffer[last, :, :length]
            self.position[row] = self.position[last]
        self.position = self.position[:last]

    def prepare(self, length: int) -> Tensor:
        """Prépare une passe d'un jeton par ligne occupée ; renvoie leurs positions, (B, 1)."""
        assert length == 1
        self.indices = self.position.clone()
        self._occupied = int(self.position.max()) + 1  # ceux de la ligne la plus longue
        slots = self.slots[: self._occupied]
        self.mask = (slots <= self.indices[:, None])[:, None, None]  # (B, 1, 1, S)
        return self.indices[:, None]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Range (B, H, 1, D), chacun à la suite de sa ligne ; renvoie ce qui est occupé, (B, H, S, D)."""
        rows = self.slots[: len(self.indices)]
        self.keys[layer][rows, :, self.indices] = k[:, :, 0].to(self.keys[layer].dtype)
        self.values[layer][rows, :, self.indices] = v[:, :, 0].to(self.values[layer].dtype)
        seen = slice(len(self.indices)), slice(None), slice(self._occupied)
        return self.keys[layer][seen], self.values[layer][seen]

    def select(self, rows: Tensor) -> "KVCache":
        raise NotImplementedError("Une ligne entre ou sort : `enter` et `leave`.")
