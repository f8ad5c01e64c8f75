"""Les couches : normalisation, activation, réseau position par position.

Chaque classe appelle le noyau fusionné de torch s'il existe ; sa formule est l'oracle de son test.
Légende des formes : B lot, T jetons, C emb_dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_lightning.model.config import GPTConfig


class LayerNorm(nn.Module):
    """(x - moyenne) / racine(variance + eps) * scale + shift, sur la dernière dimension.

    Source : Ba, Kiros et Hinton, « Layer Normalization », 2016.
    """

    def __init__(self, emb_dim: int, *, bias: bool = True, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return F.layer_norm(x, self.scale.shape, self.scale, self.shift, self.eps)


class RMSNorm(nn.Module):
    """x / racine(moyenne(x²) + eps) * scale : ni moyenne retirée, ni décalage.

    Source : Zhang et Sennrich, « Root Mean Square Layer Normalization », 2019.
    """

    def __init__(self, emb_dim: int, *, bias: bool = False, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return F.rms_norm(x, self.scale.shape, self.scale, self.eps)


class GELU(nn.Module):
    """x Φ(x), où Φ est la répartition normale ; `tanh` est l'approximation que GPT-2 utilise.

    Source : Hendrycks et Gimpel, « Gaussian Error Linear Units », 2016.
    """

    def __init__(self, approximate: str = "tanh"):
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)


class FeedForward(nn.Module):
    """C -> 4 C -> C, à chaque position séparément."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.emb_dim, config.hidden_dim, bias=config.bias),
            GELU("tanh" if config.activation == "gelu_tanh" else "none"),
            nn.Linear(config.hidden_dim, config.emb_dim, bias=config.bias),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.layers(x)


class SwiGLU(nn.Module):
    """silu(x W) * (x V), puis une projection : la porte module ce qui passe.

    Source : Shazeer, « GLU Variants Improve Transformer », 2020.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=config.bias)
        self.layers = nn.Sequential(
            nn.Linear(config.emb_dim, config.hidden_dim, bias=config.bias),
            nn.Identity(),  # la projection garde le nom layers.2, comme dans FeedForward
            nn.Linear(config.hidden_dim, config.emb_dim, bias=config.bias),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.layers[2](F.silu(self.gate(x)) * self.layers[0](x))


class NoPositions(nn.Module):
    """Tient la place de `pos_emb` quand les positions sont dans l'attention (rope) : ajoute zéro."""

    def forward(self, positions: Tensor) -> Tensor:
        return positions.new_zeros(())


def build_norm(config: GPTConfig) -> nn.Module:
    """La normalisation que `config.norm` nomme."""
    return {"layernorm": LayerNorm, "rmsnorm": RMSNorm}[config.norm](config.emb_dim, bias=config.bias)


def build_feed_forward(config: GPTConfig) -> nn.Module:
    """Le réseau position par position que `config.activation` nomme."""
    return SwiGLU(config) if config.activation == "swiglu" else FeedForward(config)
