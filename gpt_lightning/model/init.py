"""Les poids de départ : des couches qui ne tirent rien, et les deux façons de les tirer toutes ensemble."""

import math

import torch
from torch import nn


class Linear(nn.Linear):
    """Le modèle tire tous ses poids à la fin, ou les lit d'un fichier : cette couche linéaire ne tire donc rien."""

    def reset_parameters(self) -> None:
        """Rien : voir `initialise`."""


class Embedding(nn.Embedding):
    """Comme `Linear`, une table de vecteurs qui ne tire rien : le modèle tire ses poids, ou les lit d'un fichier."""

    def reset_parameters(self) -> None:
        """Rien : voir `initialise`."""


def initialise(module: nn.Module) -> None:
    """Tire les poids de chaque couche de `module` comme torch le fait par défaut, dans l'ordre d'écriture."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            nn.Linear.reset_parameters(layer)
        elif isinstance(layer, Embedding):
            nn.Embedding.reset_parameters(layer)


@torch.no_grad()
def initialise_like_gpt2(model: nn.Module, n_layers: int) -> None:
    """Tire les poids, d'écart type 0,02 ; les deux projections qui rejoignent le résidu sont réduites de √(2 L)."""
    residual = 0.02 / math.sqrt(2 * n_layers)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.zero_()
        elif parameter.dim() == 2:
            into_residual = name.endswith(("out_proj.weight", "ff.layers.2.weight"))
            parameter.normal_(std=residual if into_residual else 0.02)
