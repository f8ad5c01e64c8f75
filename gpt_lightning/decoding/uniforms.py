"""Le hasard des tirages : des nombres qui ne dépendent que de la graine et de la ligne, et le jeton que chacun tire.

Légende des formes : R lignes, V vocabulaire.
"""

import torch
from torch import Tensor


class Uniforms:
    """Des nombres de [0, 1) : ceux de la ligne r viennent d'un générateur semé par (seed, r), un par pas.

    Ils sont tirés par blocs de `BLOCK` pas ; sans graine, du générateur de torch.
    """

    BLOCK = 256

    def __init__(self, seed: int | None, rows: range, device: torch.device) -> None:
        self._device, self._n_rows, self._step = device, len(rows), 0
        self._block: Tensor  # (R, BLOCK)
        self._generators: list[torch.Generator] | None = None
        if seed is not None:
            seeds = ((seed * 1_000_003 + row) % 2**63 for row in rows)
            self._generators = [torch.Generator().manual_seed(row_seed) for row_seed in seeds]

    def next(self) -> Tensor:
        """Les nombres du pas suivant, (R,)."""
        place = self._step % self.BLOCK
        if place == 0:
            self._block = self._draw_block().to(self._device)
        self._step += 1
        return self._block[:, place]

    def _draw_block(self) -> Tensor:
        if self._generators is None:
            return torch.rand(self._n_rows, self.BLOCK)
        return torch.stack([torch.rand(self.BLOCK, generator=generator) for generator in self._generators])


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Un rang par ligne, tiré par l'inverse de la répartition : (R, V), (R,) -> (R,)."""
    cumulative = logits.softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    thresholds = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    ranks = torch.searchsorted(cumulative, thresholds, right=True).squeeze(-1)
    return ranks.clamp(max=logits.shape[-1] - 1)  # des NaN n'ont pas de rang
