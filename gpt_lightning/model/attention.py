"""L'attention causale à plusieurs têtes.

Légende des formes : B lot, T jetons de la requête, S jetons vus, C emb_dim, H têtes, D = C / H.
Source : Vaswani et al., « Attention Is All You Need », 2017, section 3.2.
"""

import torch
from torch import Tensor, nn

from gpt_lightning.model import reference
from gpt_lightning.model.cache import KVCache
from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.fast.kernels import KERNELS
from gpt_lightning.model.layers import Linear


class MultiHeadAttention(nn.Module):
    """softmax(Q Kᵀ / √D) V, où la position t ne voit que les positions <= t.

    Le calcul est celui de `config.kernels` : `scaled_dot_product_attention` de torch, ou la formule de reference.py.
    """

    def __init__(self, config: GPTConfig, layer: int = 0) -> None:
        super().__init__()
        self.layer = layer  # rang du bloc, et de ses clés dans le cache
        self.n_heads, self.head_dim, self.drop_rate = config.n_heads, config.head_dim, config.drop_rate
        self.W_query = Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.W_key = Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.W_value = Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.out_proj = Linear(config.emb_dim, config.emb_dim, bias=config.bias)
        self._attention = KERNELS[config.kernels].attention
        self.rotary = RotaryPositions(config) if config.positions == "rope" else NoRotation()

    def forward(
        self, x: Tensor, positions: Tensor, cache: KVCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`mask`, (B, 1, T, T), vrai où le jeton peut regarder ; None : tout ce qui le précède."""
        q, k, v = self.project(x)  # (B, H, T, D)
        q, k = self.rotary(q, positions), self.rotary(k, positions)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, H, S, D)
            mask = cache.mask  # (B, 1, T, S)
        dropout = self.drop_rate if self.training else 0.0
        context = self._attention(q, k, v, mask, dropout)
        return self.out_proj(context.transpose(1, 2).flatten(2))  # (B, T, C)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K et V : (B, T, C) -> trois fois (B, H, T, D)."""
        return self._heads(self.W_query(x)), self._heads(self.W_key(x)), self._heads(self.W_value(x))

    def _heads(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, H, T, D)
        return x.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)

    def weights(self, x: Tensor, positions: Tensor) -> Tensor:
        """Les poids d'attention softmax(Q Kᵀ / √D), masqués : (B, T, C) -> (B, H, T, T). Pour les images."""
        q, k, _ = self.project(x)
        q, k = self.rotary(q, positions), self.rotary(k, positions)
        return reference.attention_weights(q, k)


class NoRotation(nn.Module):
    """Positions apprises : Q et K passent inchangées."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return x


class RotaryPositions(nn.Module):
    """Tourne chaque paire (x_i, x_{i+D/2}) d'un angle position / base^(2i/D).

    Le produit Q K ne dépend alors que de l'écart des positions. Source : Su et al., « RoFormer », 2021.
    """

    def __init__(self, config: GPTConfig, base: float = 10_000.0) -> None:
        super().__init__()
        self._half, self.base = config.head_dim // 2, base

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:  # (B, H, T, D), (T,) ou (B, T)
        steps = torch.arange(self._half, device=x.device) / self._half
        angles = positions.unsqueeze(-1) * self.base**-steps  # (..., T, D/2), en float32 quelle que soit x
        if angles.dim() == 3:
            angles = angles.unsqueeze(1)  # (B, 1, T, D/2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
