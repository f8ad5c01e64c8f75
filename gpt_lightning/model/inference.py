"""Un modèle prêt à écrire : Q, K et V en un seul produit, et des poids en int8 ou int4 si on le demande.

C'est une autre forme du même modèle, pour l'inférence seule : elle se construit après avoir lu les poids, et ne s'écrit
dans aucun fichier.
"""

import torch
from torch import Tensor, nn

from gpt_lightning.model.attention import MultiHeadAttention
from gpt_lightning.model.gpt import GPTModel
from gpt_lightning.model.layers import Linear
from gpt_lightning.model.quantized import QuantizedLinear

BITS = {"int8": 8, "int4": 4}


class JoinedAttention(MultiHeadAttention):
    """La même attention, dont Q, K et V sortent d'un seul produit : (B, T, C) -> (B, T, 3 C)."""

    W_qkv: nn.Module

    @classmethod
    def of(cls, att: MultiHeadAttention) -> "JoinedAttention":
        """L'attention `att`, ses trois matrices mises bout à bout."""
        parts = (att.W_query, att.W_key, att.W_value)
        joined = Linear(
            att.W_query.in_features, 3 * att.W_query.out_features, bias=att.W_query.bias is not None
        )
        joined.weight = nn.Parameter(torch.cat([one.weight.detach() for one in parts]), requires_grad=False)
        if joined.bias is not None:
            joined.bias = nn.Parameter(torch.cat([one.bias.detach() for one in parts]), requires_grad=False)
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.__dict__ |= att.__dict__
        kept = {name: one for name, one in att._modules.items() if one not in parts}
        made._modules = {"W_qkv": joined, **kept}
        return made

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K et V : (B, T, C) -> trois fois (B, H, T, D)."""
        q, k, v = (self._heads(part) for part in self.W_qkv(x).chunk(3, dim=-1))
        return q, k, v


def for_inference(model: GPTModel, dtype: str = "fp32") -> GPTModel:
    """`model`, changé sur place pour écrire vite ; `dtype` int8 ou int4 quantifie ses couches, et une copie de sa tête.

    Les embeddings, les normes et l'attention gardent leur type.
    """
    for block in model.trf_blocks:
        assert isinstance(block.att, MultiHeadAttention)
        block.att = JoinedAttention.of(block.att)
    if dtype in BITS:
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, QuantizedLinear(child.weight, child.bias, BITS[dtype]))
    return model.requires_grad_(False).eval()


def supported(dtype: str) -> bool:
    """Vrai si ce torch sait multiplier des poids de ce type sur ce processeur."""
    try:
        layer = QuantizedLinear(torch.ones(16, 32), None, BITS[dtype])
        return bool(torch.isfinite(layer(torch.ones(1, 32))).all())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
