"""Un jeton produit, et ce qui arrête une ligne."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    """Un jeton produit : sa ligne, son identifiant, et pourquoi la ligne s'arrête (None si elle continue).

    `reason` vaut eos (fin de texte), stop (`until` l'a demandé) ou length (max_new_tokens atteint). `logprob` est
    la log-probabilité, en nats, que le modèle lui donnait avant tout filtre ; None si on ne l'a pas demandée.
    """

    row: int
    id: int
    reason: str | None = None
    logprob: float | None = None


@dataclass(frozen=True)
class Ending:
    """Quand une ligne s'arrête : `eos_id`, `until(ligne, jetons produits)`, ou `max_new_tokens`."""

    max_new_tokens: int
    eos_id: int | None = None
    until: Callable[[int, list[int]], bool] | None = None

    def reason(self, row: int, new: list[int]) -> str | None:
        if self.eos_id is not None and new[-1] == self.eos_id:
            return "eos"
        if self.until is not None and self.until(row, new):
            return "stop"
        return "length" if len(new) >= self.max_new_tokens else None
