"""La perte : entropie croisée de la tête, en entier ou par morceaux de lignes.

Légende des formes : N jetons, C emb_dim, V vocabulaire.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 512  # lignes de logits calculées à la fois : 100 Mo pour le vocabulaire de GPT-2


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Entropie croisée moyenne en nats, calculée en float32 : (B, T, V), (B, T) -> ()."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
    """cross_entropy(x @ weight.T, targets) sans jamais tenir les N x V logits : (N, C), (V, C), (N,) -> ().

    Les lignes de `weight` au-delà de `vocab_size` sont ignorées. Sur CPU, allouer les logits coûte autant que
    les calculer ; les morceaux réutilisent un tampon, et le gradient est calculé en même temps que la perte.
    """
    if not torch.is_grad_enabled():
        weight = weight[:vocab_size].to(x.dtype)
        losses = [
            F.cross_entropy((rows @ weight.T).float(), wanted, reduction="sum")
            for rows, wanted in zip(x.split(ROWS), targets.split(ROWS), strict=True)
        ]
        return torch.stack(losses).sum() / len(x)
    return _LinearCrossEntropy.apply(x, weight, targets, vocab_size)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
        head = weight.detach()[:vocab_size].to(x.dtype)
        grad_x = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight)
        total = torch.zeros((), device=x.device)
        buffer = torch.empty(min(ROWS, len(x)), vocab_size, dtype=x.dtype, device=x.device)
        for start in range(0, len(x), ROWS):
            rows, wanted = x[start : start + ROWS], targets[start : start + ROWS, None]
            logits = torch.mm(rows, head.T, out=buffer[: len(rows)])
            p = logits.float()  # le même tampon en float32, une copie sinon
            p -= p.amax(1, keepdim=True)
            total -= p.gather(1, wanted).sum()
            p.exp_()
            normaliser = p.sum(1, keepdim=True)
            total += normaliser.log().sum()
            # d perte / d logits = (softmax - un_en_la_cible) / N
            p /= normaliser * len(x)
            p.scatter_add_(1, wanted, p.new_full(wanted.shape, -1.0 / len(x)))
            grad_logits = p.to(x.dtype)
            torch.mm(grad_logits, head, out=grad_x[start : start + ROWS])
            if grad_logits.dtype == weight.dtype:
                grad_weight[:vocab_size].addmm_(grad_logits.T, rows)  # sans tampon de la taille de la tête
            else:
                grad_weight[:vocab_size] += (grad_logits.T @ rows).to(weight.dtype)
        ctx.save_for_backward(grad_x, grad_weight)
        return total / len(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_x, grad_weight = ctx.saved_tensors
        if grad.item() != 1:  # déjà le gradient de la moyenne : rien à faire sans accumulation
            grad_x, grad_weight = grad_x * grad.to(grad_x.dtype), grad_weight * grad
        return grad_x, grad_weight, None, None
