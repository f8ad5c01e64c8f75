"""Le cache des clés et des valeurs : ce que la génération n'a pas à recalculer.

Légende des formes : L couches, B lot, H têtes de K et V, S capacité en jetons, D dimension d'une tête, T jetons
nouveaux.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gpt_lightning.model.config import GPTConfig


class LanguageModel(Protocol):
    """Ce que la génération attend d'un modèle."""

    config: GPTConfig

    def __call__(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor: ...

    def next_logits(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


def cache_dtype(
    config: GPTConfig, device: torch.device | str | None, dtype: torch.dtype | None
) -> torch.dtype | None:
    """Le type du cache d'un modèle en `dtype`.

    Sur CPU, c'est float32 pour bf16 : pour une ligne, le noyau d'attention de torch y va quatre fois plus vite.
    """
    on_cpu = torch.device(device or "cpu").type == "cpu"
    return torch.float32 if dtype == torch.bfloat16 and on_cpu and config.kernels == "fused" else dtype


class KVCache:
    """Clés et valeurs déjà calculées, L fois (B, H, S, D), et le nombre de jetons qu'elles contiennent.

    C'est un argument de la passe avant, pas un état du modèle : le modèle appelle `prepare` au début de la passe,
    chaque couche `append`, et le modèle `advance` à la fin. `pads` (B,) compte les jetons de remplissage à gauche de
    chaque ligne : ils ne sont jamais vus, et les positions comptent après eux.
    """

    # préparés pour la passe en cours :
    indices: Tensor  # (T,) rangs, dans le tampon, de ses jetons
    mask: Tensor | None  # (B ou 1, 1, T, S) vrai où le jeton peut regarder ; None : tout ce qui le précède
    _occupied: int | None  # jetons du tampon qu'elle lit, les siens compris ; None : tous

    def __init__(
        self, keys: list[Tensor], values: list[Tensor], position: Tensor, pads: Tensor | None = None
    ) -> None:
        # un tenseur par couche : d'un seul, le graphe compilé recopierait tout à chaque jeton
        self.keys, self.values, self.position, self.pads = keys, values, position, pads
        self.slots = torch.arange(keys[0].shape[2], device=position.device)

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
        """Un cache vide pour `batch_size` lignes de `capacity` jetons d'un modèle en `dtype`."""
        dtype = cache_dtype(config, device, dtype)
        shape, layers = (batch_size, config.kv_heads, capacity, config.head_width), range(config.n_layers)
        keys, values = ([torch.zeros(shape, device=device, dtype=dtype) for _ in layers] for _ in range(2))
        return cls(keys, values, torch.zeros((), dtype=torch.int64, device=device), pads)

    def prepare(self, length: int) -> Tensor:
        """Prépare une passe de `length` jetons ; renvoie leurs positions, (T,) ou (B, T) avec des remplissages."""
        self.indices, self.mask = self.position + self.slots[:length], None
        # sur un GPU ou compilée, lire la position ferait attendre, ou recompiler : la passe lit alors tout le tampon
        readable = self.position.device.type == "cpu" and not torch.compiler.is_compiling()
        before = int(self.position) if readable else None
        self._occupied = None if before is None else before + length
        if self.pads is None and before is not None and (length == 1 or before == 0):
            return self.indices
        slots = self.slots[: self._occupied]
        causal = slots <= self.indices[:, None]  # (T, S)
        if self.pads is None:
            self.mask = causal[None, None]
            return self.indices
        itself = slots == self.indices[:, None]  # un remplissage se voit lui-même : softmax défini
        real = slots >= self.pads[:, None, None]  # (B, 1, S)
        self.mask = (causal & (real | itself))[:, None]
        return (self.indices - self.pads[:, None]).clamp(min=0)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Range (B, H, T, D) à la suite dans la couche `layer` ; renvoie ce qui s'y lit, (B, H, S, D)."""
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(2, self.indices, k.to(keys.dtype))
        values.index_copy_(2, self.indices, v.to(values.dtype))
        if self._occupied is None:
            return keys, values
        return keys[:, :, : self._occupied], values[:, :, : self._occupied]

    def advance(self, length: int) -> None:
        """Compte `length` jetons de plus ; un nombre négatif les oublie."""
        self.position += length

    @property
    def dtype(self) -> torch.dtype:
        return self.keys[0].dtype

    def extract(self, row: int, start: int, end: int) -> Tensor:
        """Une copie de ce que la ligne `row` contient aux rangs [start, end), (2 L, H, end - start, D)."""
        return torch.stack([buffer[row, :, start:end] for buffer in (*self.keys, *self.values)])

    def fill(self, row: int, start: int, state: Tensor) -> None:
        """Met dans la ligne `row`, à partir du rang `start`, ce que `extract` avait copié."""
        for buffer, part in zip((*self.keys, *self.values), state, strict=True):
            buffer[row, :, start : start + state.shape[2]] = part

    def select(self, rows: Tensor) -> "KVCache":
        """Un cache fait des lignes `rows` (B',) de celui-ci."""
        pads = None if self.pads is None else self.pads[rows]
        keys, values = ([layer[rows] for layer in layers] for layers in (self.keys, self.values))
        return KVCache(keys, values, self.position.clone(), pads)


# la passe compilée d'un modèle (fast/inference.py). Elle le reçoit sans le tenir : il s'en va quand plus personne ne
# s'en sert
COMPILED: WeakKeyDictionary[LanguageModel, Callable[..., Tensor]] = WeakKeyDictionary()


def step_of(model: LanguageModel) -> Callable[[Tensor, KVCache], Tensor]:
    """La passe que la génération répète, un jeton par ligne : (B, 1) -> (B, V). Compilée, si `model` l'est."""
    compiled = COMPILED.get(model)
    return model.next_logits if compiled is None else partial(compiled, model)
