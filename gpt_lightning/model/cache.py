"""Le cache des clés et des valeurs : ce que la génération n'a pas à recalculer.

Légende des formes : L couches, B lot, H têtes, S capacité en jetons, D dimension d'une tête, T jetons nouveaux.
"""

import torch
from torch import Tensor

from gpt_lightning.model.config import GPTConfig


class KVCache:
    """Clés et valeurs déjà calculées, L fois (B, H, S, D), et le nombre de jetons qu'elles contiennent.

    C'est un argument de la passe avant, pas un état du modèle : le modèle appelle `prepare` au début de la passe,
    chaque couche `append`, et le modèle `advance` à la fin. `pads` (B,) compte les jetons de remplissage à
    gauche de chaque ligne : ils ne sont jamais vus, et les positions comptent après eux. La position est un
    tenseur, et sur un GPU ou compilée une passe lit tout le tampon : ses formes sont constantes. Sur CPU, elle n'en
    lit que ce qui est occupé.
    """

    def __init__(
        self, keys: list[Tensor], values: list[Tensor], position: Tensor, pads: Tensor | None = None
    ) -> None:
        # un tenseur par couche : d'un seul, le graphe compilé recopierait tout à chaque jeton
        self.keys, self.values, self.position, self.pads = keys, values, position, pads
        self.slots = torch.arange(keys[0].shape[2], device=position.device)
        self.indices: Tensor  # (T,) rangs, dans le tampon, des jetons de la passe en cours
        # (B ou 1, 1, T, S) vrai où le jeton peut regarder ; None : tout ce qui le précède
        self.mask: Tensor | None
        self._occupied: int  # jetons du tampon, ceux de la passe en cours compris, si l'on ne lit que ceux-là

    @classmethod
    def empty(
        cls,
        config: GPTConfig,
        *,
        batch_size: int,
        capacity: int,
        pads: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> "KVCache":
        """Un cache vide pour `batch_size` lignes de `capacity` jetons."""
        shape = (batch_size, config.n_heads, capacity, config.head_dim)
        keys, values = (
            [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)] for _ in range(2)
        )
        return cls(keys, values, torch.zeros((), dtype=torch.int64, device=device), pads)

    @property
    def capacity(self) -> int:
        return len(self.slots)

    def prepare(self, length: int) -> Tensor:
        """Prépare une passe de `length` jetons ; rend leurs positions, (T,) ou (B, T) avec des remplissages."""
        self.indices = self.position + self.slots[:length]
        slots = self.slots
        if self._sliced:
            before = int(self.position)
            self._occupied = before + length
            if self.pads is None and (length == 1 or before == 0):
                self.mask = None
                return self.indices
            slots = slots[: self._occupied]
        causal = slots <= self.indices[:, None]  # (T, S)
        if self.pads is None:
            self.mask = causal[None, None]
            return self.indices
        itself = slots == self.indices[:, None]  # un remplissage se voit lui-même : softmax défini
        real = slots >= self.pads[:, None, None]  # (B, 1, S)
        self.mask = (causal & (real | itself))[:, None]
        return (self.indices - self.pads[:, None]).clamp(min=0)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Range (B, H, T, D) à la suite dans la couche `layer` ; rend ce qui s'y lit, (B, H, S, D)."""
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(2, self.indices, k)
        values.index_copy_(2, self.indices, v)
        if self._sliced:
            return keys[:, :, : self._occupied], values[:, :, : self._occupied]
        return keys, values

    @property
    def _sliced(self) -> bool:
        """Vrai si connaître la position n'attend pas l'appareil, et ne recompile rien."""
        return self.position.device.type == "cpu" and not torch.compiler.is_compiling()

    def advance(self, length: int) -> None:
        """Compte `length` jetons de plus ; un nombre négatif les oublie."""
        self.position += length

    def select(self, rows: Tensor) -> "KVCache":
        """Un cache fait des lignes `rows` (B',) de celui-ci."""
        pads = None if self.pads is None else self.pads[rows]
        keys, values = ([one[rows] for one in layers] for layers in (self.keys, self.values))
        return KVCache(keys, values, self.position.clone(), pads)


class RowCache(KVCache):
    """Un cache dont chaque ligne a sa longueur : des textes y entrent et en sortent pendant que les autres s'écrivent.

    Les lignes occupées sont les premières, et une passe y lit un jeton de chacune. Les tampons sont ouverts pour `rows`
    lignes et tout le contexte ; sur CPU, la mémoire n'est prise qu'à mesure que des jetons y sont écrits.
    """

    def __init__(
        self, config: GPTConfig, rows: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        shape = (rows, config.n_heads, config.context_length, config.head_dim)
        keys, values = (
            [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)] for _ in range(2)
        )
        super().__init__(keys, values, torch.zeros(0, dtype=torch.int64, device=device))

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
            for one in self.keys + self.values:
                one[row, :, :length] = one[last, :, :length]
            self.position[row] = self.position[last]
        self.position = self.position[:last]

    def prepare(self, length: int) -> Tensor:
        """Prépare une passe d'un jeton par ligne occupée ; rend leurs positions, (B, 1)."""
        assert length == 1
        self.indices = self.position.clone()
        self._occupied = int(self.position.max()) + 1  # ceux de la ligne la plus longue
        slots = self.slots[: self._occupied]
        self.mask = (slots <= self.indices[:, None])[:, None, None]  # (B, 1, 1, S)
        return self.indices[:, None]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Range (B, H, 1, D), chacun à la suite de sa ligne ; rend ce qui est occupé, (B, H, S, D)."""
        rows = self.slots[: len(self.indices)]
        self.keys[layer][rows, :, self.indices] = k[:, :, 0]
        self.values[layer][rows, :, self.indices] = v[:, :, 0]
        seen = slice(len(self.indices)), slice(None), slice(self._occupied)
        return self.keys[layer][seen], self.values[layer][seen]

    def select(self, rows: Tensor) -> "KVCache":
        raise NotImplementedError("Une ligne entre ou sort : `enter` et `leave`.")
