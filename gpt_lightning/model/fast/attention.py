"""L'attention causale du jeu « fused » : le noyau de torch, ou deux produits de matrices.

Le noyau de torch, `scaled_dot_product_attention`, ne garde pas les poids, (B, H, T, T) : sur CPU, il relit les
scores bloc par bloc et refait la softmax dans la passe arrière. Pour une fenêtre courte, garder les poids et laisser
les produits à la bibliothèque va plus vite (benchmarks/NOTES.md). C'est donc ce qui s'exécute quand on entraîne sur
CPU, sans masque, une fenêtre de `LONGEST` jetons au plus : 256 en float32, 1 024 en bf16. L'entraînement par défaut
est dans ce cas. Partout ailleurs (GPU, fenêtre plus longue, évaluation, génération, textes mis bout à bout), c'est
le noyau de torch.
Légende des formes : B lot, H têtes, K têtes de K et V, T jetons de la requête, S jetons vus, D largeur d'une tête,
N = B H.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_lightning.model.reference import share

# jetons ; au-delà, le noyau de torch
LONGEST = {torch.bfloat16: 1024, torch.float16: 1024, torch.float32: 256}


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(Q Kᵀ / √D) V : (B, H, T, D), (B, K, S, D), (B, K, S, D) -> (B, H, T, D).

    `mask` (B ou 1, 1, T, S) est vrai où le jeton peut regarder ; None : le passé et lui-même.
    """
    if q.dtype != k.dtype:  # le cache d'un modèle en bf16, sur CPU
        return attention(q.to(k.dtype), k, v, mask, dropout).to(q.dtype)
    causal = mask is None and q.shape[-2] != 1  # un jeton seul voit tout ce qui le précède
    if causal and _products_pay(q):
        return causal_attention(q, share(k, q.shape[1]), share(v, q.shape[1]), dropout)
    shared = True if k.shape[1] != q.shape[1] else False  # noqa: SIM210  compilée, la comparaison est un symbole
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout, enable_gqa=shared
    )


def _products_pay(q: Tensor) -> bool:
    """Vrai si cette attention, (B, H, T, D), va plus vite en produits."""
    return q.device.type == "cpu" and q.requires_grad and q.shape[-2] <= LONGEST.get(q.dtype, 0)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """L'attention causale en produits, dont les poids attendent la passe arrière : (B, H, T, D) x 3 -> (B, H, T, D)."""
    with torch.autocast(q.device.type, enabled=False):
        return _CausalAttention.apply(q, k, v, dropout)


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        shape, scale = q.shape, q.shape[-1] ** -0.5
        q, k, v = (heads.flatten(0, 1) for heads in (q, k, v))  # (N, T, D)
        future = torch.full(shape[-2:-1] * 2, float("-inf"), dtype=q.dtype, device=q.device).triu(1)
        weights = torch.softmax(torch.baddbmm(future.expand(len(q), -1, -1), q, k.mT, alpha=scale), -1)
        dropped, mask = torch.native_dropout(weights, dropout, True) if dropout else (weights, None)
        ctx.save_for_backward(q, k, v, weights, dropped, mask)
        ctx.scale, ctx.dropout = scale, dropout
        return torch.bmm(dropped, v).view(shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights, dropped, mask = ctx.saved_tensors
        shape, grad = grad.shape, grad.flatten(0, 1)
        grad_weights = torch.bmm(grad, v.mT)
        if mask is not None:
            grad_weights *= mask.to(grad.dtype) / (1 - ctx.dropout)
        # la softmax : d scores = poids * (d poids - Σ poids d poids)
        scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        grad_q, grad_k = torch.bmm(scores, k), torch.bmm(scores.mT, q)
        return grad_q.view(shape), grad_k.view(shape), torch.bmm(dropped.mT, grad).view(shape), None
