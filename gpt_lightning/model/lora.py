"""LoRA : à une matrice gelée s'ajoute le produit de deux petites, qui seules apprennent.

Légende des formes : K entrées, N sorties, R rang.
Source : Hu et al., « LoRA: Low-Rank Adaptation of Large Language Models », 2021 ; l'échelle `rslora` vient de
Kalajdzievski, « A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA », 2023.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_lightning.errors import UserError, choice, number, whole
from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.gpt import GPTModel
from gpt_lightning.model.init import Linear
from gpt_lightning.typing import Settings, State

A, B = "lora_A", "lora_B"
ALL = ("W_query", "W_key", "W_value", "out_proj", "layers.0", "layers.2", "gate")  # les couches d'un bloc


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Quelles couches s'adaptent, et comment. UserError, en une phrase, sur une valeur impossible."""

    rank: int = 8  # R : colonnes de A et lignes de B
    alpha: float = 16.0  # la correction est multipliée par alpha / rang
    modules: tuple[str, ...] = ("W_query", "W_value")  # les couches, par la fin de leur nom ; all : toutes
    rslora: bool = False  # diviser alpha par la racine du rang : un grand rang apprend alors aussi vite
    drop_rate: float = 0.0  # dropout de ce que A lit, pendant l'entraînement

    def __post_init__(self) -> None:
        whole("lora.rank", self.rank, 1, 1 << 16)
        number("lora.alpha", self.alpha, above=0)
        choice("lora.rslora", self.rslora, (True, False))
        if number("lora.drop_rate", self.drop_rate) >= 1:
            raise UserError(f"lora.drop_rate={self.drop_rate} : il faut 0 <= drop_rate < 1.")
        if not self.modules or not all(isinstance(module, str) for module in self.modules):
            raise UserError(
                "lora.modules doit nommer des couches : essayez lora.modules=[W_query,W_value], ou all."
            )

    @classmethod
    def from_dict(cls, values: Settings) -> "LoRAConfig":
        """La configuration d'un dictionnaire ; `modules` est un nom ou une liste. UserError sur une clé inconnue."""
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - names):
            raise UserError(
                f"Clé inconnue dans lora : {', '.join(unknown)} (connues : {', '.join(sorted(names))})."
            )
        modules = values.get("modules", cls.modules)
        listed = tuple(modules) if isinstance(modules, list | tuple) else (modules,)
        return cls(**{**values, "modules": listed})

    def to_dict(self) -> State:
        """Les champs en valeurs simples, tels que le checkpoint les garde."""
        return {**asdict(self), "modules": list(self.modules)}

    @property
    def scale(self) -> float:
        """Ce qui multiplie la correction B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LoRALinear(Linear):
    """x Wᵀ + b + s (x Aᵀ) Bᵀ, où W et b sont ceux de `layer` : (..., K) -> (..., N).

    A (R, K) est tirée, B (N, R) part de zéro : au premier pas, la couche est exactement la couche d'origine. Les noms
    des paramètres de celle-ci ne changent pas.
    """

    def __init__(self, layer: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(
            layer.in_features, layer.out_features, bias=layer.bias is not None, device=torch.device("meta")
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = config.scale
        self.drop = nn.Dropout(config.drop_rate)
        self.lora_A = nn.Parameter(layer.weight.new_empty(config.rank, layer.in_features))
        self.lora_B = nn.Parameter(layer.weight.new_zeros(layer.out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # comme torch tire une couche linéaire

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(self.drop(x), self.lora_A), self.lora_B)


def correction(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Ce que les deux petites matrices ajoutent à la grande : (R, K), (N, R) -> (N, K)."""
    return scale * (b @ a)


def adapt(model: GPTModel, config: LoRAConfig) -> GPTModel:
    """`model`, dont les couches choisies deviennent, sur place, des LoRALinear.

    La tête n'en est jamais : elle est souvent l'embedding lui-même. UserError si un nom ne désigne aucune couche.
    """
    for name, layer in list(target_layers(model, config)):
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, LoRALinear(layer, config))
    return model


def target_layers(model: nn.Module, config: LoRAConfig) -> Iterator[tuple[str, nn.Linear]]:
    """Les couches, avec leur nom, que `config.modules` désigne par la fin de leur nom. UserError s'il n'y en a pas."""
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith("trf_blocks.")
    }
    asked = ALL if "all" in config.modules else config.modules
    for suffix in config.modules:
        if suffix != "all" and not any(f".{name}".endswith(f".{suffix}") for name in layers):
            suffixes = [part for part in ALL if any(name.endswith(f".{part}") for name in layers)]
            raise UserError(
                f"lora.modules : {suffix} n'est pas une couche qui s'adapte ; il y a {', '.join(suffixes)}, ou all."
            )
    return (
        (name, layer)
        for name, layer in layers.items()
        if any(f".{name}".endswith(f".{suffix}") for suffix in asked)
    )


def is_adapter(name: str) -> bool:
    """Vrai pour le nom d'un paramètre que LoRA ajoute."""
    return name.endswith((f".{A}", f".{B}"))


def merge(state: Mapping[str, Tensor], config: LoRAConfig) -> dict[str, Tensor]:
    """Les tenseurs d'un modèle adapté, ses corrections ajoutées aux matrices : ceux d'un modèle ordinaire."""
    plain = {name: tensor for name, tensor in state.items() if not is_adapter(name)}
    for name in plain:
        layer = name.removesuffix(".weight")
        if (a := state.get(f"{layer}.{A}")) is not None:
            plain[name] = plain[name] + correction(a, state[f"{layer}.{B}"], config.scale).to(
                plain[name].dtype
            )
    return plain


def adapter_shapes(config: GPTConfig, lora: LoRAConfig) -> dict[str, tuple[int, int]]:
    """Le nom et la forme de chaque adaptateur d'un modèle de cette configuration."""
    with torch.device("meta"):
        layers = list(target_layers(GPTModel(config, draw=False), lora))
    shapes = {}
    for name, layer in layers:
        shapes[f"{name}.{A}"] = (lora.rank, layer.in_features)
        shapes[f"{name}.{B}"] = (layer.out_features, lora.rank)
    return shapes
