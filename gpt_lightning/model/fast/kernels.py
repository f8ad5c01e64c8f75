"""Les opérations du modèle en deux jeux : les noyaux fusionnés de torch, et les formules de reference.py.

`model.kernels` en choisit un quand le modèle est construit ; la passe avant appelle ce qu'elle a reçu.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from gpt_lightning.model import reference
from gpt_lightning.model.fast.attention import attention
from gpt_lightning.model.fast.cross_entropy import cross_entropy, head_loss


class Kernels(NamedTuple):
    """Les opérations, avec les formes que reference.py leur donne.

    `head_loss(x, tête, cibles, vocabulaire)` est la perte depuis le flux résiduel : (..., C), (...) -> ().
    """

    layer_norm: Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    gelu: Callable[[Tensor], Tensor]
    gelu_tanh: Callable[[Tensor], Tensor]
    silu: Callable[[Tensor], Tensor]
    attention: Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]
    cross_entropy: Callable[[Tensor, Tensor], Tensor]
    head_loss: Callable[[Tensor, nn.Linear, Tensor, int], Tensor]


def _layer_norm(x: Tensor, scale: Tensor, shift: Tensor | None, eps: float) -> Tensor:
    return F.layer_norm(x, scale.shape, scale, shift, eps)


def _rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    # du même type : un noyau d'un seul tenant, et aucun avertissement de torch en bf16-mixed
    return F.rms_norm(x, scale.shape, scale.to(x.dtype), eps)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _head_loss(x: Tensor, head: nn.Linear, targets: Tensor, vocab_size: int) -> Tensor:
    return reference.cross_entropy(head(x)[..., :vocab_size], targets)


KERNELS = {
    "fused": Kernels(_layer_norm, _rms_norm, F.gelu, _gelu_tanh, F.silu, attention, cross_entropy, head_loss),
    "reference": Kernels(
        reference.layer_norm,
        reference.rms_norm,
        reference.gelu,
        reference.gelu_tanh,
        reference.silu,
        reference.attention,
        reference.cross_entropy,
        _head_loss,
    ),
}
