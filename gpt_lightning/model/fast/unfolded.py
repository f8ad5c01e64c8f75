"""Les blocs d'un modèle, dépliés : les mêmes calculs que dans gpt.py, écrits à la suite, sans un appel de module.

Pour un jeton sur CPU, appeler un module coûte autant qu'une petite opération, et une couche en a une dizaine. Ce qui
est le même pour toutes les couches, comme les angles de rope, n'est calculé qu'une fois.
Légende des formes : B lot, T jetons, S jetons vus, M = B T lignes, C emb_dim, H têtes, K têtes de K et V, D largeur
d'une tête.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_lightning.model.cache import KVCache
from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.fast.attention import attention
from gpt_lightning.model.fast.products import Product

Function = Callable[[Tensor], Tensor]
Rotation = tuple[Tensor, Tensor]  # les cosinus et les sinus des positions, (B ou 1, T, 1, D)


class Step(NamedTuple):
    """Ce qu'un bloc applique, dans l'ordre ; None : il ne le fait pas."""

    norm1: Function
    qkv: Function  # (M, C) -> (M, (H + 2 K) D)
    scales: Tensor | None  # de la norme de Q et K, (H + K, D)
    out: Product
    norm2: Function
    up: Product
    gate: Product | None
    down: Product


class Unfolded(nn.ModuleList):
    """Les blocs, qui se comptent et se prennent un à un ; les parcourir n'en donne qu'un, qui les fait tous."""

    def __init__(self, blocks: Iterable[nn.Module], config: GPTConfig | None = None) -> None:
        super().__init__(blocks)
        # dans un tuple : ce n'est pas un bloc de plus. Sans configuration, une part des blocs, qui n'est pas dépliée
        self._flat = None if config is None else (FlatBlocks(list(self.children()), config),)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._flat or tuple(self.children()))


class FlatBlocks(nn.Module):
    """Tous les blocs, à la suite."""

    def __init__(self, blocks: list[nn.Module], config: GPTConfig) -> None:
        super().__init__()
        self._steps = [_step(block, config) for block in blocks]
        self._heads, self._keys, self._width = config.n_heads, config.kv_heads, config.head_width
        self._eps = config.norm_eps
        self._activation = "silu" if config.activation == "swiglu" else config.activation
        self._base = config.rope_base if config.positions == "rope" else None

    def forward(
        self, x: Tensor, positions: Tensor, cache: KVCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Voir TransformerBlock : (B, T, C) -> (B, T, C)."""
        shape, rows = x.shape[:2], x.flatten(0, 1)  # (M, C)
        turn = self._angles(positions, x.dtype)
        for layer, step in enumerate(self._steps):
            q, k, v = self._project(step, step.norm1(rows), shape, turn)
            if cache is not None:
                k, v = cache.append(layer, k, v)  # (B, K, S, D)
                mask = cache.mask
            context = attention(q, k, v, mask, 0.0).transpose(1, 2).reshape(len(rows), -1)  # (M, H D)
            rows = step.out.add_to(context, rows)
            y = step.norm2(rows)
            if step.gate is None:
                y = step.up.activate(y, self._activation)
            else:
                y = step.gate.activate(y, self._activation).mul_(step.up.forward(y))
            rows = step.down.add_to(y, rows)
        return rows.view(x.shape)

    def _project(
        self, step: Step, y: Tensor, shape: torch.Size, turn: Rotation | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K et V d'un bloc : (M, C) -> (B, H, T, D) et deux fois (B, K, T, D)."""
        heads, keys = self._heads, self._keys
        joined = step.qkv(y).view(*shape, heads + 2 * keys, self._width)
        turned, values = (
            joined.split((heads + keys, keys), 2) if step.scales is not None or turn else (joined, None)
        )
        if step.scales is not None:
            turned = F.rms_norm(turned, (self._width,), None, self._eps) * step.scales
        if turn is not None:
            half = turned.roll(self._width // 2, -1)  # les paires (x_i, x_{i+D/2}), échangées
            turned = torch.addcmul(turned * turn[0], half, turn[1])
        if values is None:
            q, k, v = turned.transpose(1, 2).split((heads, keys, keys), 1)
            return q, k, v
        q, k = turned.transpose(1, 2).split((heads, keys), 1)
        return q, k, values.transpose(1, 2)

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> Rotation | None:
        """Les angles de rope, voir RotaryPositions : (T,) ou (B, T) -> (B ou 1, T, 1, D)."""
        if self._base is None:
            return None
        half = self._width // 2
        angles = positions.unsqueeze(-1) * self._base ** -(torch.arange(half, device=positions.device) / half)
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        both = torch.cat((cos, cos), -1).unsqueeze(-2), torch.cat((-sin, sin), -1).unsqueeze(-2)
        return both if angles.dim() == 3 else (both[0][None], both[1][None])


def _step(block: nn.Module, config: GPTConfig) -> Step:
    scales = None
    if config.qk_norm:
        each = (("att.q_norm", config.n_heads), ("att.k_norm", config.kv_heads))
        scales = torch.cat(
            [block.get_submodule(name).get_parameter("scale").expand(n, -1) for name, n in each]
        )
    return Step(
        _norm(block.get_submodule("norm1"), config),
        _product(block, "att.W_qkv").forward,
        scales,
        _product(block, "att.out_proj"),
        _norm(block.get_submodule("norm2"), config),
        _product(block, "ff.layers.0"),
        _product(block, "ff.gate") if config.activation == "swiglu" else None,
        _product(block, "ff.layers.2"),
    )


def _product(block: nn.Module, name: str) -> Product:
    layer = block.get_submodule(name)
    assert isinstance(layer, Product)
    return layer


def _norm(norm: nn.Module, config: GPTConfig) -> Function:
    """La norme de ce module, ses paramètres déjà lus."""
    shape, eps, scale = (config.emb_dim,), config.norm_eps, norm.get_parameter("scale").detach()
    if config.norm == "rmsnorm":
        return lambda x: F.rms_norm(x, shape, scale, eps)
    shift = norm.get_parameter("shift").detach() if config.bias else None
    return lambda x: torch.layer_norm(x, shape, scale, shift, eps, False)
