"""Les préfixes : le début d'un texte, s'il était déjà celui d'un autre, n'est pas relu.

Les clés et les valeurs d'un jeton ne dépendent que de lui et de ceux qui le précèdent : deux textes qui commencent par
les mêmes jetons y ont les mêmes. Elles sont gardées par blocs, chacun rangé à la suite d'un autre : ce que cent textes
ont en commun n'est gardé qu'une fois.
Légende des formes : L couches, H têtes de K et V, D dimension d'une tête.
Source : Kwon et al., « Efficient Memory Management for Large Language Model Serving with PagedAttention », 2023.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model.cache import KVCache, LanguageModel, cache_dtype

BLOCK = 16  # jetons d'un bloc
EVERYONE = ""  # le domaine que tout le monde partage ; None : ni repris, ni gardé


@dataclass(eq=False)
class Block:
    """Les clés et les valeurs de BLOCK jetons, (2 L, H, BLOCK, D)."""

    state: Tensor


# la place d'un bloc : celui qu'il suit (pour le premier d'un texte, le domaine), et ses jetons
Place: TypeAlias = tuple[Block | str, tuple[int, ...]]


class PrefixCache:
    """Les préfixes que `model` a lus, dans `limit` octets au plus : les moins récents s'en vont. 0 n'en garde aucun.

    Deux textes ne partagent rien s'ils ne sont pas du même domaine (`scope`). UserError si un bloc ne tient pas.
    """

    def __init__(self, model: LanguageModel, limit: int) -> None:
        config, parameter = model.config, next(model.parameters())
        self.dtype = cache_dtype(config, parameter.device, parameter.dtype) or parameter.dtype
        width = 2 * config.n_layers * config.kv_heads * config.head_width
        self.model, self.block_bytes = model, width * BLOCK * self.dtype.itemsize
        self.size = limit // self.block_bytes  # en blocs
        # du moins récent au plus récent, et chacun l'est moins que celui qu'il suit : le premier n'est suivi de rien
        self._blocks: OrderedDict[Place, Block] = OrderedDict()
        if limit and not self.size:
            least = -(-self.block_bytes // 1_000_000)
            raise UserError(
                f"prefix_cache_mb={limit // 1_000_000} : {BLOCK} jetons de ce modèle n'y tiennent pas ; donnez "
                f"{least} au moins, ou 0."
            )

    @property
    def bytes(self) -> int:
        """Les octets gardés."""
        return len(self._blocks) * self.block_bytes

    def count(self, ids: Sequence[int], scope: str | None = EVERYONE) -> int:
        """Les jetons du début de `ids` qui ne sont pas à relire ; le dernier l'est : on veut ses logits."""
        return BLOCK * len(self._path(ids[:-1], scope))

    def restore(
        self, cache: KVCache, texts: Sequence[Sequence[int]], scopes: Sequence[str | None] | None = None
    ) -> int:
        """Met dans `cache`, vide, ce qui est gardé de ces textes, alignés à droite : le premier rang qui est à lire."""
        if cache.dtype != self.dtype:
            return 0
        width = max(map(len, texts))
        pads = [width - len(text) for text in texts]
        paths = [
            self._path(text[:-1], scope)
            for text, scope in zip(texts, scopes or [EVERYONE] * len(texts), strict=True)
        ]
        start = min(pad + BLOCK * len(path) for pad, path in zip(pads, paths, strict=True))
        for row, (pad, path) in enumerate(zip(pads, paths, strict=True)):
            if start > pad:
                states = [self._blocks[place].state for place in path[: -((pad - start) // BLOCK)]]
                cache.fill(row, pad, torch.cat(states, dim=2)[:, :, : start - pad])
            self._touch(path)
        cache.advance(start)
        return start

    def keep(self, ids: Sequence[int], cache: KVCache, row: int = 0, scope: str | None = EVERYONE) -> None:
        """Garde ce que la ligne `row` de `cache` a lu : les jetons `ids`, par blocs entiers."""
        if scope is None or cache.dtype != self.dtype:
            return
        path = self._path(ids, scope)
        self._touch(path)
        starts = range(BLOCK * len(path), BLOCK * min(len(ids) // BLOCK, self.size), BLOCK)
        while self._blocks and len(self._blocks) + len(starts) > self.size:
            self._blocks.popitem(last=False)
        pad = 0 if cache.pads is None else int(cache.pads[row])
        before, added = self._blocks[path[-1]] if path else scope, list[tuple[Place, Block]]()
        for start in starts:
            block = Block(cache.extract(row, pad + start, pad + start + BLOCK))
            added.append(((before, tuple(ids[start : start + BLOCK])), block))
            before = block
        self._blocks.update(reversed(added))
        self._touch(path)

    def clear(self) -> None:
        """Ne garde plus rien."""
        self._blocks.clear()

    def _path(self, ids: Sequence[int], scope: str | None) -> list[Place]:
        """Les places des blocs qui commencent ce texte, du premier au dernier."""
        path: list[Place] = []
        before: Block | str | None = scope if self._blocks else None
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            if before is None:
                break
            place = before, tuple(ids[start : start + BLOCK])
            before = self._blocks.get(place)
            if before is not None:
                path.append(place)
        return path

    def _touch(self, path: Sequence[Place]) -> None:
        for place in reversed(path):
            self._blocks.move_to_end(place)
