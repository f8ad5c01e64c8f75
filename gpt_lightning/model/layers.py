"""Les couches : normalisation, activation, réseau position par position.

Chaque classe tient ses paramètres et appelle l'opération du jeu choisi par `config.kernels` ; sa formule est dans
reference.py. Légende des formes : B lot, T jetons, C emb_dim.
"""

import torch
from torch import Tensor, nn

from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.fast.kernels import KERNELS


class Linear(nn.Linear):
    """Une couche linéaire qui ne tire pas ses poids : `GPTModel` les tire tous ensemble, ou les lit d'un fichier."""

    def reset_parameters(self) -> None:
        """Rien : voir `initialise`."""


class Embedding(nn.Embedding):
    """Une table de vecteurs qui ne tire pas ses poids, comme `Linear`."""

    def reset_parameters(self) -> None:
        """Rien : voir `initialise`."""


def initialise(module: nn.Module) -> None:
    """Tire les poids de chaque couche de `module` comme torch le fait par défaut, dans l'ordre d'écriture."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            nn.Linear.reset_parameters(layer)
        elif isinstance(layer, Embedding):
            nn.Embedding.reset_parameters(layer)


class LayerNorm(nn.Module):
    """(x - moyenne) / racine(variance + eps) * scale + shift, sur la dernière dimension.

    Source : Ba, Kiros et Hinton, « Layer Normalization », 2016.
    """

    def __init__(self, config: GPTConfig, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps, self._norm = eps, KERNELS[config.kernels].layer_norm
        self.scale = nn.Parameter(torch.ones(config.emb_dim))
        self.shift = nn.Parameter(torch.zeros(config.emb_dim)) if config.bias else None

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self._norm(x, self.scale, self.shift, self.eps)


class RMSNorm(nn.Module):
    """x / racine(moyenne(x²) + eps) * scale : ni moyenne retirée, ni décalage.

    Source : Zhang et Sennrich, « Root Mean Square Layer Normalization », 2019.
    """

    def __init__(self, config: GPTConfig, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps, self._norm = eps, KERNELS[config.kernels].rms_norm
        self.scale = nn.Parameter(torch.ones(config.emb_dim))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self._norm(x, self.scale, self.eps)


class GELU(nn.Module):
    """x Φ(x), où Φ est la répartition normale ; GPT-2 utilise l'approximation `gelu_tanh`.

    Source : Hendrycks et Gimpel, « Gaussian Error Linear Units », 2016.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        kernels = KERNELS[config.kernels]
        self._gelu = kernels.gelu if config.activation == "gelu" else kernels.gelu_tanh

    def forward(self, x: Tensor) -> Tensor:
        return self._gelu(x)


class FeedForward(nn.Module):
    """C -> 4 C -> C, à chaque position séparément."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Linear(config.emb_dim, config.hidden_dim, bias=config.bias),
            GELU(config),
            Linear(config.hidden_dim, config.emb_dim, bias=config.bias),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.layers(x)


class SwiGLU(nn.Module):
    """silu(x W) * (x V), puis une projection : la porte module ce qui passe.

    La projection s'appelle layers.2, comme dans FeedForward : les noms sont le format de fichier.
    Source : Shazeer, « GLU Variants Improve Transformer », 2020.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self._silu = KERNELS[config.kernels].silu
        self.gate = Linear(config.emb_dim, config.hidden_dim, bias=config.bias)
        up = Linear(config.emb_dim, config.hidden_dim, bias=config.bias)
        down = Linear(config.hidden_dim, config.emb_dim, bias=config.bias)
        self.layers = nn.ModuleDict({"0": up, "2": down})

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.layers["2"](self._silu(self.gate(x)) * self.layers["0"](x))


class NoPositions(nn.Module):
    """Remplace `pos_emb` quand les positions sont dans l'attention (rope) : ajoute zéro."""

    def forward(self, positions: Tensor) -> Tensor:
        return positions.new_zeros(())


def build_norm(config: GPTConfig) -> nn.Module:
    """La normalisation que `config.norm` nomme."""
    return LayerNorm(config) if config.norm == "layernorm" else RMSNorm(config)


def build_feed_forward(config: GPTConfig) -> nn.Module:
    """Le réseau position par position que `config.activation` nomme."""
    return SwiGLU(config) if config.activation == "swiglu" else FeedForward(config)
