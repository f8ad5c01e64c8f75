"""Les produits x Wᵀ + b d'un modèle qui écrit : chacun sait aussi finir par une activation, ou par une somme.

`Product` dit ce qu'est un produit ; une sous-classe le calcule à sa façon, et fait d'un seul appel ce qu'elle sait
faire d'un seul. Légende des formes : M lignes, K entrées, N sorties.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}
# comment oneDNN les nomme : l'opération, et sa variante
FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "silu": ("swish", "")}


class Product(nn.Module):
    """x Wᵀ + b : (..., K) -> (..., N)."""

    def activate(self, x: Tensor, name: str) -> Tensor:
        """L'activation `name` de ce produit : (..., K) -> (..., N)."""
        return ACTIVATIONS[name](self.forward(x))

    def add_to(self, x: Tensor, residual: Tensor) -> Tensor:
        """Ce produit, ajouté à `residual` : (..., K), (..., N) -> (..., N)."""
        return residual + self.forward(x)


class PlainLinear(Product):
    """Le produit de torch, W telle quelle."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class PackedLinear(Product):
    """Le produit de oneDNN, qui a rangé W une fois pour toutes comme il la lit : float32 ou bf16, CPU.

    Le produit de torch relit W telle quelle : sur bien des processeurs il lui faut un quart de temps de plus pour une
    ligne, et deux fois plus pour huit.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        self.bias = None if bias is None else bias.detach()
        pointwise = torch.ops.mkldnn._linear_pointwise
        self._unary, self._binary = pointwise.default, pointwise.binary

    def forward(self, x: Tensor) -> Tensor:
        return self._unary(x, self.packed, self.bias, "none", [], "")

    def activate(self, x: Tensor, name: str) -> Tensor:
        kind, algorithm = FUSED[name]
        return self._unary(x, self.packed, self.bias, kind, [], algorithm)

    def add_to(self, x: Tensor, residual: Tensor) -> Tensor:
        return self._binary(x, residual, self.packed, self.bias, "add")


@lru_cache
def can_pack(dtype: torch.dtype) -> bool:
    """Vrai si oneDNN sait ranger des poids de ce type sur ce processeur, et finir son produit comme torch le fait."""
    if not torch.backends.mkldnn.is_available():
        return False
    draw = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, 64, generator=draw).to(dtype) for n in (48, 2))
    bias, residual = weight[:, 0].clone(), torch.ones(2, 48, dtype=dtype)
    try:
        plain, packed = (
            [layer.forward(x), layer.add_to(x, residual), *(layer.activate(x, name) for name in FUSED)]
            for layer in (PlainLinear(weight, bias), PackedLinear(weight, bias))
        )
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    near = 1e-4 if dtype == torch.float32 else 0.1
    return all(torch.allclose(a, b, atol=near, rtol=near) for a, b in zip(plain, packed, strict=True))
