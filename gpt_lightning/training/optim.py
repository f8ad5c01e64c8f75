"""L'optimiseur et le rythme d'apprentissage."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from gpt_lightning.training.muon import MuonAdamW

RULES = ("adamw", "muon")
SCHEDULES = ("constant", "linear", "cosine", "wsd")
DECAYED = ("matrices", "all")
PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
Length = int | float | str


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Un optimiseur et son rythme. Lève ValueError, en une phrase, sur une valeur impossible.

    Une durée (`warmup`, `decay`) est un nombre de pas, une fraction de la course si elle est < 1, ou un nombre de
    jetons écrit "2Mtok" (k, M, G).
    """

    rule: str = "adamw"  # adamw | muon (les matrices des blocs ; le reste suit AdamW)
    lr: float = 1e-3  # rythme d'apprentissage au sommet
    weight_decay: float = 0.1  # Loshchilov et Hutter, « Decoupled Weight Decay Regularization », 2019
    betas: Sequence[float] = (0.9, 0.95)  # 0,95 oublie plus vite que 0,999 : moins d'à-coups en langue
    eps: float = 1e-8
    momentum: float = 0.95  # de Muon
    momentum_warmup: int = 300  # pas où le moment monte de 0,85 à `momentum`
    ns_steps: int = 5  # itérations de Newton-Schulz
    decayed: str = "matrices"  # matrices : ni biais ni normes | all : tous, comme l'original
    schedule: str = "cosine"  # constant | linear | cosine | wsd (montée, palier, descente vers zéro)
    warmup: Length = 0.05  # montée
    decay: Length = 0.2  # descente de wsd
    min_lr_ratio: float = 0.0  # où linear, cosine et wsd finissent, en fraction de lr
    factory: Callable[..., torch.optim.Optimizer] | None = (
        None  # l'optimiseur de `_target_`, à la place de rule
    )

    def __post_init__(self):
        for name in ("lr", "weight_decay", "eps", "min_lr_ratio"):
            _positive(name, getattr(self, name))
        if self.lr == 0:
            raise ValueError("optim.lr=0 : il faut un nombre positif.")
        if self.min_lr_ratio > 1:
            raise ValueError(f"optim.min_lr_ratio={self.min_lr_ratio} : il faut au plus 1.")
        for name in ("warmup", "decay"):
            steps_of(getattr(self, name), 100, 1, name)
        self._check_algorithm()

    def _check_algorithm(self) -> None:
        betas = list(self.betas) if isinstance(self.betas, Sequence) else []
        if len(betas) != 2 or not all(isinstance(b, int | float) and 0 <= b < 1 for b in betas):
            raise ValueError(
                f"optim.betas={self.betas!r} : il faut deux nombres de [0, 1), comme [0.9, 0.95]."
            )
        for name, least in (("momentum_warmup", 0), ("ns_steps", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"optim.{name}={value!r} : il faut un entier d'au moins {least}.")
        _positive("momentum", self.momentum)
        if self.momentum >= 1:
            raise ValueError(f"optim.momentum={self.momentum} : il faut moins de 1.")
        for name, choices in (("rule", RULES), ("schedule", SCHEDULES), ("decayed", DECAYED)):
            if getattr(self, name) not in choices:
                raise ValueError(f"optim.{name}={getattr(self, name)} : les choix sont {', '.join(choices)}.")

    @classmethod
    def from_dict(cls, values: dict[str, Any], factory: Callable | None = None) -> "OptimConfig":
        """La configuration d'un dictionnaire ; une clé inconnue est une ValueError.

        `factory(groupes, lr=...)` est l'optimiseur que `_target_` et `arguments` décrivent.
        """
        known = [field.name for field in fields(cls) if field.name != "factory"]
        given = {key: value for key, value in values.items() if key not in ("_target_", "arguments")}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(
                f"Clé inconnue dans optim : {', '.join(unknown)} (connues : {', '.join(known)})."
            )
        return cls(**given, factory=factory)

    def factor(self, step: int, total_steps: int, tokens_per_step: int = 1) -> float:
        """Le rythme du pas `step` (le premier est 0) en fraction de lr, sur une course de `total_steps`."""
        warmup = steps_of(self.warmup, total_steps, tokens_per_step)
        if step < warmup:
            return (step + 1) / warmup
        if self.schedule == "constant":
            return 1.0
        start = warmup
        if self.schedule == "wsd":
            start = max(warmup, total_steps - steps_of(self.decay, total_steps, tokens_per_step))
        progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
        falling = 0.5 * (1 + math.cos(math.pi * progress)) if self.schedule == "cosine" else 1 - progress
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * falling


def steps_of(amount: Length, total_steps: int, tokens_per_step: int, name: str = "warmup") -> int:
    """Une durée en pas d'optimiseur. ValueError si elle ne se comprend pas."""
    if isinstance(amount, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)tok(?:ens)?", amount.strip())
        if not found:
            raise ValueError(
                f'optim.{name}={amount} : il faut des pas (200), une fraction (0.1) ou des jetons ("2Mtok").'
            )
        return math.ceil(float(found[1]) * PREFIXES[found[2]] / tokens_per_step)
    _positive(name, amount)
    return round(amount * total_steps) if amount < 1 else int(amount)


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"optim.{name} doit être un nombre, pas {value!r}.")
    if not value >= 0:
        raise ValueError(f"optim.{name}={value} : il faut un nombre positif.")


def build_optimizer(model: nn.Module, config: OptimConfig, *, fused: bool = True) -> torch.optim.Optimizer:
    """L'optimiseur des paramètres de `model`, par groupes : qui décroît, qui suit Muon.

    `fused=False` pour un GradScaler : un AdamW fusionné lui cacherait l'échelle des gradients que l'on coupe.
    ValueError si l'optimiseur de `factory` ne se construit pas ainsi.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if config.rule == "muon" and "trf_blocks" in name and p.dim() == 2]
    rest = _without(hidden, (p for _, p in named))
    decayed = [p for p in rest if config.decayed == "all" or p.dim() >= 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": _without(decayed, rest), "weight_decay": 0.0},
    ]
    muon = {
        "muon": True,
        "weight_decay": config.weight_decay,
        "momentum": config.momentum,
        "momentum_start": min(0.85, config.momentum),
        "momentum_warmup": config.momentum_warmup,
        "ns_steps": config.ns_steps,
    }
    groups = [group for group in (*groups, {"params": hidden, **muon}) if group["params"]]
    if config.factory is not None:
        try:
            return config.factory(groups, lr=config.lr)
        except (TypeError, ValueError) as error:
            raise ValueError(f"L'optimiseur de optim._target_ ne se construit pas ainsi : {error}") from None
    return (MuonAdamW if hidden else torch.optim.AdamW)(
        groups,
        lr=config.lr,
        betas=tuple(config.betas),
        eps=config.eps,
        fused=fused and all(p.device.type in ("cpu", "cuda") for _, p in named),
    )


def _without(taken: Iterable[Tensor], parameters: Iterable[Tensor]) -> list[Tensor]:
    taken_ids = {id(p) for p in taken}
    return [p for p in parameters if id(p) not in taken_ids]
