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
# parts de l'étendue d'un groupe que ses seize valeurs couvrent d'abord : la meilleure, puis ajustée
SHRINKS = 1.0, 0.9, 0.8
LEAST = 1e-3  # ce que compte au moins une entrée, en part de la moyenne de toutes
CHUNK = 1 << 20  # poids que l'on quantifie à la fois


def quantize(weight: Tensor, bias: Tensor | None, bits: int, sizes: Tensor | None = None) -> Product:
    """La couche de ces poids, en `bits` bits : (N, K), (N,) ou None.

    `sizes`, (K,), le carré moyen de chaque entrée : l'int4 arrondit mieux les poids que de grandes entrées multiplient.
    """
    return Int4Linear(weight, bias, sizes) if bits == 4 else Int8Linear(weight, bias)


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

    def __init__(self, weight: Tensor, bias: Tensor | None, sizes: Tensor | None = None) -> None:
        super().__init__(weight, bias)
        sizes = weight.new_ones(weight.shape[1]) if sizes is None else sizes
        sizes = sizes.float() + LEAST * sizes.float().mean() + TINY
        self.packed, self.scales = _int4(_complete(weight), pad(sizes, (0, self.missing)))
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


def _int4(weight: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Ce que le noyau range de (N, K), et les échelles et zéros (G, N, 2), d'après le carré moyen des entrées (K,)."""
    groups, sizes = weight.unflatten(1, (-1, GROUP)), sizes.view(-1, GROUP)  # (N, G, 32), (G, 32)
    shares = sizes / sizes.sum(-1, keepdim=True)
    parts = [_nearest(part, shares) for part in groups.split(max(1, CHUNK // weight.shape[1]))]
    entire, scale, zero = (torch.cat(each) for each in zip(*parts, strict=True))
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(entire.view(weight.shape).int(), 1)
    both = torch.cat((scale, zero), dim=-1).transpose(0, 1)
    return packed, both.to(torch.bfloat16).contiguous()


def _nearest(groups: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Les entiers, l'échelle et le zéro de chaque groupe, (N, G, 32), (N, G, 1), (N, G, 1) : ceux de moindre erreur.

    L'erreur est carrée, et chaque poids y compte pour sa part, (G, 32), de somme 1.
    """
    low, high = groups.aminmax(dim=-1, keepdim=True)
    tries = []
    for shrink in SHRINKS:
        scale = (high - low) * shrink / 15
        first = _round(groups, shares, scale, (low + high + scale) / 2)
        tries += [first, _round(groups, shares, *_fit(groups, shares, first[1]))]
    best: tuple[Tensor, ...] = tries[0]
    for made in tries[1:]:
        best = tuple(torch.where(made[0] < best[0], new, old) for new, old in zip(made, best, strict=True))
    return best[1], best[2], best[3]


def _round(
    groups: Tensor, shares: Tensor, scale: Tensor, zero: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """L'erreur, les entiers, l'échelle et le zéro : ces deux-là arrondis d'abord, les entiers les corrigent."""
    scale = scale.clamp(min=TINY).to(torch.bfloat16).float()
    zero = zero.to(torch.bfloat16).float()
    entire = ((groups - zero) / scale + 8).round_().clamp_(0, 15)
    error = torch.addcmul(zero - groups, entire - 8, scale).square_().mul_(shares).sum(-1, keepdim=True)
    return error, entire.to(torch.uint8), scale, zero


def _fit(groups: Tensor, shares: Tensor, entire: Tensor) -> tuple[Tensor, Tensor]:
    """L'échelle et le zéro de moindre erreur pour ces entiers : une régression de chaque groupe sur les siens."""
    levels = entire.float() - 8
    middle, mean = ((shares * part).sum(-1, keepdim=True) for part in (levels, groups))
    levels -= middle
    spread = (shares * levels.square()).sum(-1, keepdim=True).clamp(min=TINY)
    scale = (shares * levels * (groups - mean)).sum(-1, keepdim=True) / spread
    return scale, mean - scale * middle
