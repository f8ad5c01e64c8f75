"""Ranger autrement les dimensions d'un modèle, avant de mesurer ce que lui coûte l'int4 : mêmes sorties.

Un modèle venu d'un fichier déjà quantifié est sur la grille de ce fichier, et l'int4 semble ne rien lui coûter. Rangés
par la taille des poids qui les lisent, les dimensions du flux résiduel, les neurones cachés et les dimensions de V
quittent ces groupes. Légende des formes : C emb_dim, H têtes, K têtes de K et V, D largeur d'une tête.
"""

import torch
from torch import Tensor

from gpt_lightning.model.gpt import GPTModel

READ = ("att.W_query", "att.W_key", "att.W_value", "ff.layers.0", "ff.gate")  # ce qui lit le flux résiduel
WRITTEN = ("att.out_proj", "ff.layers.2")  # et ce qui s'y ajoute
NORMS = ("norm1.scale", "norm1.shift", "norm2.scale", "norm2.shift")


class Regrouping:
    """Les paramètres d'un modèle, dont les lignes ou les colonnes se rangent sur place."""

    def __init__(self, model: GPTModel) -> None:
        self.parameters, self.config = (
            dict(model.named_parameters()),
            model.config,
        )  # la tête liée n'y est pas deux fois
        self.blocks = [f"trf_blocks.{layer}." for layer in range(model.config.n_layers)]

    def take(self, order: Tensor, *names: str, columns: bool = False) -> None:
        """Range les colonnes, ou les lignes et leur biais, des couches de ces noms ; les absentes sont passées."""
        for name in names:
            for suffix in ("", ".weight") if columns else ("", ".weight", ".bias"):
                if (parameter := self.parameters.get(name + suffix)) is not None:
                    parameter.data = parameter.data.index_select(-1 if columns else 0, order)

    def sizes(self, *names: str) -> Tensor:
        """La taille de chaque colonne de ces couches, ensemble : n fois (N, K) -> (K,)."""
        present = [self.parameters[name + ".weight"] for name in names if name + ".weight" in self.parameters]
        return torch.stack([weight.float().square().mean(0) for weight in present]).sum(0)

    def sort_values(self, block: str) -> None:
        """Les dimensions de V de chaque tête, par la taille des poids d'out_proj : un groupe de têtes les partage."""
        width, keys = self.config.head_width, self.config.kv_heads
        sizes = self.sizes(block + "att.out_proj").view(keys, -1, width)  # (K, H / K, D)
        order = sizes.sum(1).argsort(-1)  # (K, D)
        self.take(_flat(order), block + "att.W_value")
        self.take(_flat(order.repeat_interleave(sizes.shape[1], 0)), block + "att.out_proj", columns=True)

    def sort_neurons(self, block: str) -> None:
        """Les neurones cachés, par la taille des poids qui les lisent."""
        order = self.sizes(block + "ff.layers.2").argsort()
        self.take(order, block + "ff.layers.0", block + "ff.gate")
        self.take(order, block + "ff.layers.2", columns=True)

    def sort_residual(self) -> None:
        """Les dimensions du flux résiduel, par la taille des poids qui les lisent."""
        readers, writers, norms = (
            [block + name for block in self.blocks for name in names] for names in (READ, WRITTEN, NORMS)
        )
        order = self.sizes(*readers).argsort()
        self.take(order, *readers, "tok_emb", "pos_emb", "out_head", "class_head", columns=True)
        self.take(order, *writers, *norms, "final_norm.scale", "final_norm.shift")


@torch.no_grad()
def regroup(model: GPTModel) -> GPTModel:
    """`model`, ses dimensions rangées sur place."""
    regrouping = Regrouping(model)
    for block in regrouping.blocks:
        regrouping.sort_values(block)
        regrouping.sort_neurons(block)
    regrouping.sort_residual()
    return model


def _flat(order: Tensor) -> Tensor:
    """Les rangs dans toutes les têtes mises bout à bout, d'après ceux de chacune : (K, D) -> (K D,)."""
    starts = order.shape[1] * torch.arange(len(order), device=order.device)
    return (order + starts[:, None]).flatten()
