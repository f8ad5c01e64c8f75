"""La stratégie de décodage : une valeur gelée, des logits au jeton suivant.

Légende des formes : R lignes, V vocabulaire.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt_lightning.decoding import filters


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Quels filtres appliquer, dans cet ordre : température, top-k, top-p. ValueError sur une valeur absurde."""

    temperature: float = 1.0  # 0 : greedy, le plus probable à chaque pas
    top_k: int | None = None  # None : tous les jetons
    top_p: float | None = None  # None : tout le noyau

    def __post_init__(self):
        _number("temperature", self.temperature, 0, None)
        _number("top_k", self.top_k, 1, None, integer=True)
        _number("top_p", self.top_p, 0, 1)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def __call__(self, logits: Tensor) -> Tensor:
        """Les logits filtrés, en float32 : (R, V) -> (R, V). Greedy ne garde que le plus grand."""
        logits = logits.float()
        if self.greedy:
            return filters.keep_top_k(logits, 1)
        logits = filters.with_temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = filters.keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = filters.keep_top_p(logits, self.top_p)
        return logits

    def choose(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Le jeton suivant de chaque ligne : (R, V), (R,) nombres dans [0, 1) -> (R,) identifiants.

        Le tirage inverse la fonction de répartition : un nombre par ligne suffit, et le même nombre donne le
        même jeton quels que soient le lot et la machine. ValueError si les logits ne sont pas des nombres.
        """
        if torch.isnan(logits).any():
            raise ValueError(
                "Le modèle rend des logits NaN : son entraînement a divergé, ou le fichier est abîmé."
            )
        if self.greedy:
            return logits.argmax(-1)
        cumulative = self(logits).softmax(-1).cumsum(-1)
        total = cumulative[:, -1:]
        wanted = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)


def _number(name: str, value: Any, least: float, most: float | None, *, integer: bool = False) -> None:
    if value is None and name != "temperature":
        return
    kinds = (int,) if integer else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = "un entier" if integer else "un nombre"
        raise ValueError(f"decoding.{name} doit être {wanted}, pas {value!r}.")
    if value < least or (most is not None and value > most):
        limits = f"au moins {least}" if most is None else f"entre {least} et {most}"
        raise ValueError(f"decoding.{name}={value} : il faut {limits}.")
