"""Ce qu'une configuration met à la place de ce qu'a GPT-2 : `norm`, `activation` et `positions` le nomment.

Légende des formes : B lot, T jetons, C emb_dim, H têtes, D largeur d'une tête.
"""

import torch
from torch import Tensor, nn

from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.fast.kernels import KERNELS
from gpt_lightning.model.init import Linear


class RMSNorm(nn.Module):
    """x / racine(moyenne(x²) + eps) * scale : ni moyenne retirée, ni décalage.

    Source : Zhang et Sennrich, « Root Mean Square Layer Normalization », 2019.
    """

    def __init__(self, config: GPTConfig, width: int | None = None) -> None:
        super().__init__()
        self.eps, self._norm = config.norm_eps, KERNELS[config.kernels].rms_norm
        self.scale = nn.Parameter(torch.ones(config.emb_dim if width is None else width))

    def forward(self, x: Tensor) -> Tensor:  # (..., C) -> (..., C), ou D si `width` le dit
        return self._norm(x, self.scale, self.eps)


class SwiGLU(nn.Module):
    """silu(x W) * (x V), puis une projection : la porte module ce qui passe.

    La projection s'appelle layers.2, comme dans FeedForward : les noms sont le format de fichier.
    Source : Shazeer, « GLU Variants Improve Transformer », 2020.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self._silu = KERNELS[config.kernels].silu
        self.gate = Linear(config.emb_dim, config.hidden_width, bias=config.bias)
        up = Linear(config.emb_dim, config.hidden_width, bias=config.bias)
        down = Linear(config.hidden_width, config.emb_dim, bias=config.bias)
        self.layers = nn.ModuleDict({"0": up, "2": down})

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.layers["2"](self._silu(self.gate(x)) * self.layers["0"](x))


class RotaryPositions(nn.Module):
    """Tourne chaque paire (x_i, x_{i+D/2}) d'un angle position / base^(2i/D).

    Le produit Q K ne dépend alors que de l'écart des positions. Source : Su et al., « RoFormer », 2021.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self._half, self.base = config.head_width // 2, config.rope_base

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:  # (B, H, T, D), (T,) ou (B, T)
        steps = torch.arange(self._half, device=x.device) / self._half
        angles = positions.unsqueeze(-1) * self.base**-steps  # (..., T, D/2), en float32 quelle que soit x
        if angles.dim() == 3:
            angles = angles.unsqueeze(1)  # (B, 1, T, D/2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class NoRotation(nn.Module):
    """Positions apprises : Q et K passent inchangées."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return x


class NoPositions(nn.Module):
    """Remplace `pos_emb` quand les positions sont dans l'attention (rope) : ajoute zéro."""

    def forward(self, positions: Tensor) -> Tensor:
        return positions.new_zeros(())
