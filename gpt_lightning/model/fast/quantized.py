"""Des couches linéaires en int8 et en int4, écrites à la main sur les produits que torch fournit.

Écrire un jeton lit tous les poids une fois : quatre ou huit fois moins d'octets, c'est presque autant de temps gagné.
Les activations sont en bf16. Légende des formes : M lignes, K entrées, N sorties, G = K / GROUP groupes.
"""

import torch
from torch import Tensor, nn

GROUP = 32  # poids d'une ligne qui partagent une échelle et un zéro, en int4
ROWS, WIDTH = 16, 32  # les noyaux lisent par 16 lignes et 32 colonnes, sans vérifier : des zéros complètent


class QuantizedLinear(nn.Module):
    """x Wᵀ + b, où W n'est gardée qu'en `bits` bits.

    En int8, une échelle par ligne : W = échelle * entier de [-127, 127]. En int4, une échelle et un zéro par groupe de
    32 : W = échelle * (entier de [0, 15] - 8) + zéro.
    """

    packed: Tensor  # int8 (N, K), ou ce que le noyau d'int4 en a rangé
    scales: Tensor  # (N,), ou (G, N, 2)
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, bits: int) -> None:
        super().__init__()
        self.bits, self.rows, self.width = bits, weight.shape[0], weight.shape[1]
        self.missing = -self.width % WIDTH
        padded = nn.functional.pad(weight.detach().float(), (0, self.missing, 0, -self.rows % ROWS))
        packed, scales = _int8(padded) if bits == 8 else _int4(padded)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:  # (..., K) -> (..., N)
        rows = x.reshape(-1, self.width).to(torch.bfloat16)
        rows = nn.functional.pad(rows, (0, self.missing)) if self.missing else rows.contiguous()
        if self.bits == 8:
            y = torch._weight_int8pack_mm(rows, self.packed, self.scales)
        else:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, GROUP, self.scales)
        y = y[:, : self.rows].to(x.dtype).view(*x.shape[:-1], self.rows)
        return y if self.bias is None else y + self.bias


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).to(torch.bfloat16)  # (N,)
    entire = (weight / scales.float()[:, None]).round().clamp(-127, 127)
    return entire.to(torch.int8), scales


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = weight.view(len(weight), -1, GROUP)  # (N, G, 32)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale = ((high - low) / 15).clamp(min=1e-12).to(torch.bfloat16).float()
    zero = (low + 8 * scale).to(torch.bfloat16).float()  # arrondis d'abord : les entiers les corrigent
    entire = ((groups - zero) / scale + 8).round().clamp(0, 15)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(entire.to(torch.int32).view_as(weight), 1)
    both = torch.stack((scale.squeeze(-1).T, zero.squeeze(-1).T), dim=-1)  # (G, N, 2)
    return packed, both.to(torch.bfloat16).contiguous()
