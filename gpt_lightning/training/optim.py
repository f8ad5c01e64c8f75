"""L'optimiseur et le rythme d'apprentissage."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

SCHEDULES = ("constant", "linear", "cosine", "wsd")
DECAYED = ("matrices", "all")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW et son rythme. Lève ValueError, en une phrase, sur une valeur impossible."""

    lr: float = 1e-3  # rythme d'apprentissage au sommet
    weight_decay: float = 0.1  # Loshchilov et Hutter, « Decoupled Weight Decay Regularization », 2019
    betas: Sequence[float] = (0.9, 0.95)  # 0,95 oublie plus vite que 0,999 : moins d'à-coups en langue
    eps: float = 1e-8
    decayed: str = "matrices"  # matrices : ni biais ni normes | all : tous, comme l'original
    schedule: str = "cosine"  # constant | linear | cosine | wsd (montée, palier, descente vers zéro)
    warmup: int | float = 0.05  # montée : en pas, ou fraction de la course si < 1
    decay: int | float = 0.2  # descente de wsd : en pas, ou fraction de la course si < 1
    min_lr_ratio: float = 0.0  # où linear, cosine et wsd finissent, en fraction de lr

    def __post_init__(self):
        for name in ("lr", "weight_decay", "eps", "warmup", "decay", "min_lr_ratio"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"optim.{name} doit être un nombre, pas {value!r}.")
            if value < 0 or (name == "lr" and value == 0):
                raise ValueError(f"optim.{name}={value} : il faut un nombre positif.")
        if self.min_lr_ratio > 1:
            raise ValueError(f"optim.min_lr_ratio={self.min_lr_ratio} : il faut au plus 1.")
        betas = list(self.betas) if isinstance(self.betas, Sequence) else []
        if len(betas) != 2 or not all(isinstance(b, int | float) and 0 <= b < 1 for b in betas):
            raise ValueError(
                f"optim.betas={self.betas!r} : il faut deux nombres de [0, 1), comme [0.9, 0.95]."
            )
        for name, choices in (("schedule", SCHEDULES), ("decayed", DECAYED)):
            if getattr(self, name) not in choices:
                raise ValueError(f"optim.{name}={getattr(self, name)} : les choix sont {', '.join(choices)}.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OptimConfig":
        """La configuration d'un dictionnaire ; une clé inconnue est une ValueError."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(
                f"Clé inconnue dans optim : {', '.join(unknown)} (connues : {', '.join(known)})."
            )
        return cls(**values)

    def factor(self, step: int, total_steps: int) -> float:
        """Le rythme du pas `step` (le premier est 0) en fraction de lr, sur une course de `total_steps`."""
        warmup = _steps(self.warmup, total_steps)
        if step < warmup:
            return (step + 1) / warmup
        if self.schedule == "constant":
            return 1.0
        start = (
            max(warmup, total_steps - _steps(self.decay, total_steps)) if self.schedule == "wsd" else warmup
        )
        progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
        falling = 0.5 * (1 + math.cos(math.pi * progress)) if self.schedule == "cosine" else 1 - progress
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * falling


def _steps(amount: int | float, total_steps: int) -> int:
    return round(amount * total_steps) if amount < 1 else int(amount)


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW sur les paramètres de `model`, en deux groupes : ceux qui décroissent, et les autres."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if config.decayed == "all" or p.dim() >= 2]
    others = [p for p in parameters if config.decayed != "all" and p.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=tuple(config.betas),
        eps=config.eps,
        fused=all(p.device.type in ("cpu", "cuda") for p in parameters),
    )
