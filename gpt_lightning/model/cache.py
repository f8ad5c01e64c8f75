"""Le cache des clés et des valeurs : ce que la génération n'a pas à recalculer.

Légende des formes : L couches, B lot, H têtes, S capacité en jetons, D dimension d'une tête, T jetons nouveaux.
"""

import torch
from torch import Tensor

from gpt_lightning.model.config import GPTConfig


class KVCache:
    """Clés et valeurs déjà calculées, alloués une fois pour `capacity` jetons.

    C'est un argument de la passe avant, pas un état du modèle : le modèle appelle `prepare` au début de la passe,
    chaque couche `append`, et le modèle `advance` à la fin. `pads` (B,) compte les jetons de remplissage à
    gauche de chaque ligne : ils ne sont jamais vus, et les positions comptent après eux. La position est un
    tenseur, si bien que torch.compile voit des formes constantes.
    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        batch_size: int,
        capacity: int,
        pads: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        shape = (config.n_layers, batch_size, config.n_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        self.pads = pads
        self.slots = torch.arange(capacity, device=device)
        self.indices: Tensor  # (T,) places des jetons de la passe en cours
        self.mask: Tensor  # (B ou 1, 1, T, S) vrai où le jeton peut regarder

    @property
    def capacity(self) -> int:
        return len(self.slots)

    def prepare(self, length: int) -> Tensor:
        """Prépare une passe de `length` jetons ; rend leurs positions, (T,) ou (B, T) avec des remplissages."""
        self.indices = self.position + self.slots[:length]
        causal = self.slots <= self.indices[:, None]  # (T, S)
        if self.pads is None:
            self.mask = causal[None, None]
            return self.indices
        itself = self.slots == self.indices[:, None]  # un remplissage se voit lui-même : softmax défini
        real = self.slots >= self.pads[:, None, None]  # (B, 1, S)
        self.mask = (causal & (real | itself))[:, None]
        return (self.indices - self.pads[:, None]).clamp(min=0)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Range (B, H, T, D) à la suite dans la couche `layer` ; rend tout le tampon, (B, H, S, D)."""
        self.keys[layer].index_copy_(2, self.indices, k)
        self.values[layer].index_copy_(2, self.indices, v)
        return self.keys[layer], self.values[layer]

    def advance(self, length: int) -> None:
        """Compte `length` jetons de plus ; un nombre négatif les oublie."""
        self.position += length

    def repeat(self, times: int) -> "KVCache":
        """Un cache où chaque ligne est répétée `times` fois à la suite (plusieurs suites d'un même texte)."""
        return self.select(torch.arange(self.keys.shape[1], device=self.keys.device).repeat_interleave(times))

    def select(self, rows: Tensor) -> "KVCache":
        """Un cache fait des lignes `rows` (B',) de celui-ci."""
        other = object.__new__(KVCache)
        other.keys, other.values = self.keys[:, rows], self.values[:, rows]
        other.position, other.slots = self.position.clone(), self.slots
        other.pads = None if self.pads is None else self.pads[rows]
        return other
