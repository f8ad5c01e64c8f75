"""Des couches linéaires en int8 et en int4, écrites à la main sur les produits que torch fournit.

Écrire un jeton lit tous les poids une fois : quatre ou huit fois moins d'octets, c'est presque autant de temps gagné.
Les activations sont en bf16 : en int8, quelques grandes effaceraient les autres (benchmarks/NOTES.md). Une ligne ne
dépend jamais de ses voisines : un texte est le même seul ou dans un lot.
Légende des formes : M lignes, K entrées, N sorties, G = K / GROUP groupes.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpt_lightning.model.fast.products import Product

GROUP = 32  # poids d'une ligne qui partagent une échelle et un zéro, en int4
# les noyaux de bf16 lisent par 16 lignes et 32 colonnes, sans vérifier : des zéros complètent
ROWS, WIDTH = 16, 32
LEVELS = 127  # entiers de part et d'autre de zéro, en int8
TINY = 1e-12  # l'échelle d'une ligne de zéros
# parts de l'étendue d'un groupe que ses seize valeurs couvrent : la meilleure
SHRINKS = 1.0, 0.95, 0.9, 0.85
CHUNK = 1 << 20  # poids que l'on quantifie à la fois


def quantize(weight: Tensor, bias: Tensor | None, bits: int) -> Product:
    """La couche de ces poids, en `bits` bits : (N, K), (N,) ou None."""
    return Int4Linear(weight, bias) if bits == 4 else Int8Linear(weight, bias)


class Quantized(Product):
    """x Wᵀ + b, x en bf16 ; une sous-classe range W et la multiplie."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.rows, self.missing = len(weight), -weight.shape[1] % WIDTH
        self.cut = self.rows % ROWS != 0
        self.bias = None if bias is None else bias.detach()

    def multiply(self, x: Tensor) -> Tensor:
        """x Wᵀ, bf16, x et W complétés de zéros : (M, K') -> (M, N')."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:  # (..., K) -> (..., N)
        if x.dim() != 2:
            return self.forward(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], self.rows)
        rows = x.to(torch.bfloat16)
        y = self.multiply(pad(rows, (0, self.missing)) if self.missing else rows.contiguous())
        if self.cut:
            y = y[:, : self.rows]
        # la somme est au type de x, qui est celui du biais
        return y.to(x.dtype) if self.bias is None else y + self.bias


class Int8Linear(Quantized):
    """W en int8 : échelle de sa ligne * entier de [-127, 127]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.packed, self.scales = _int8(_complete(weight))

    def multiply(self, x: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x, self.packed, self.scales)


class Int4Linear(Quantized):
    """W en int4 : échelle * (entier de [0, 15] - 8) + zéro, une échelle et un zéro par groupe de 32 poids."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.packed, self.scales = _int4(_complete(weight))
        self._product = torch.ops.aten._weight_int4pack_mm_for_cpu.default

    def multiply(self, x: Tensor) -> Tensor:
        return self._product(x, self.packed, GROUP, self.scales)


def _complete(weight: Tensor) -> Tensor:
    """La matrice en float32, complétée de zéros aux tailles que les noyaux lisent."""
    return pad(weight.detach().float(), (0, -weight.shape[1] % WIDTH, 0, -len(weight) % ROWS))


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Les entiers (N, K) et l'échelle de chaque ligne (N,)."""
    scales = (weight.abs().amax(1) / LEVELS).clamp(min=TINY).to(torch.bfloat16)
    entire = (
        weight / scales.float()[:, None]
    ).round_()  # l'échelle arrondie d'abord : les entiers la corrigent
    return entire.clamp_(-LEVELS, LEVELS).to(torch.int8), scales


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Ce que le noyau range de (N, K), et les échelles et zéros (G, N, 2)."""
    groups = weight.view(-1, GROUP)
    parts = [_nearest(part) for part in groups.split(CHUNK // GROUP)]
    entire, scale, zero = (torch.cat(each) for each in zip(*parts, strict=True))
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(entire.view(weight.shape).int(), 1)
    both = torch.stack((scale, zero), dim=-1).view(len(weight), -1, 2).transpose(0, 1)
    return packed, both.to(torch.bfloat16).contiguous()


def _nearest(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Les entiers, l'échelle et le zéro de chaque groupe, (n, 32), (n, 1), (n, 1) : ceux de moindre erreur carrée."""
    low, high = groups.aminmax(dim=-1, keepdim=True)
    middle = (low + high) / 2
    best: tuple[Tensor, ...] | None = None
    for shrink in SHRINKS:
        scale = ((high - low) * shrink / 15).clamp(min=TINY).to(torch.bfloat16).float()
        zero = (
            (middle + 0.5 * scale).to(torch.bfloat16).float()
        )  # arrondis d'abord : les entiers les corrigent
        entire = ((groups - zero) / scale + 8).round_().clamp_(0, 15)
        error = torch.addcmul(zero - groups, entire - 8, scale).square_().sum(-1, keepdim=True)
        made = (error, entire.to(torch.uint8), scale, zero)
        if best is None:
            best = made
        else:
            better = error < best[0]
            best = tuple(torch.where(better, new, old) for new, old in zip(made, best, strict=True))
    assert best is not None
    return best[1], best[2], best[3]
