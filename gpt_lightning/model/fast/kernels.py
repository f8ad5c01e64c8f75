"""Les opérations du modèle en deux jeux : les noyaux fusionnés de torch, et les formules de reference.py.

`model.kernels` en choisit un quand le modèle est construit ; la passe avant appelle ce qu'elle a reçu.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from gpt_lightning.model import reference
from gpt_lightning.model.fast import attention, cross_entropy


class Kernels(NamedTuple):
    """Les opérations, avec les formes que reference.py leur donne.

    `head_loss(x, poids, cibles, vocabulaire)` est la perte depuis le flux résiduel, quand elle se calcule sans tenir
    les logits : (N, C), (V, C), (N,) -> (). None : la tête, puis `cross_entropy`.
    """

    layer_norm: Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    gelu: Callable[[Tensor], Tensor]
    gelu_tanh: Callable[[Tensor], Tensor]
    silu: Callable[[Tensor], Tensor]
    attention: Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]
    cross_entropy: Callable[[Tensor, Tensor], Tensor]
    head_loss: Callable[[Tensor, Tensor, Tensor, int], Tensor] | None


def _layer_norm(x: Tensor, scale: Tensor, shift: Tensor | None, eps: float) -> Tensor:
    return F.layer_norm(x, scale.shape, scale, shift, eps)


def _rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, scale.shape, scale, eps)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    alone = q.shape[-2] == 1  # un jeton voit tout ce qui le précède
    if mask is None and not alone and attention.pays(q):
        return attention.causal_attention(q, k, v, dropout)
    causal = mask is None and not alone
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout)


KERNELS = {
    "fused": Kernels(
        _layer_norm,
        _rms_norm,
        F.gelu,
        _gelu_tanh,
        F.silu,
        _attention,
        cross_entropy.cross_entropy,
        cross_entropy.linear_cross_entropy,
    ),
    "reference": Kernels(
        reference.layer_norm,
        reference.rms_norm,
        reference.gelu,
        reference.gelu_tanh,
        reference.silu,
        reference.attention,
        reference.cross_entropy,
        None,
    ),
}
