"""La perte : entropie croisée de la tête, en entier ou par morceaux de lignes.

Légende des formes : B lot, T jetons d'une fenêtre, N jetons, C emb_dim, V vocabulaire.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# octets de logits tenus à la fois : 512 lignes du vocabulaire de GPT-2 en float32, 1 024 en bf16
LOGITS = 100 << 20
# octets dont la softmax se calcule à la fois, en float32 : ils tiennent dans le cache du processeur
PIECE = 6 << 20


def head_loss(x: Tensor, head: nn.Linear, targets: Tensor, vocab_size: int) -> Tensor:
    """La perte depuis le flux résiduel : (B, T, C), (B, T) ou (N, C), (N,) -> ().

    Sur CPU, tête et entropie croisée sont calculées ensemble, par morceaux ; sur GPU ou compilées, séparément.
    """
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return linear_cross_entropy(x.flatten(0, -2), head.weight, targets.flatten(), vocab_size)
    return cross_entropy(head(x)[..., :vocab_size], targets)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Entropie croisée moyenne en nats, calculée en float32 : (B, T, V), (B, T) ou (N, V), (N,) -> ()."""
    return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
    """cross_entropy(x @ weight.T, targets) sans jamais tenir les N x V logits : (N, C), (V, C), (N,) -> ().

    Les lignes de `weight` au-delà de `vocab_size` sont ignorées. Les produits sont dans le type d'autocast, s'il y en a
    un, la softmax en float32. Sur CPU, allouer les logits coûte autant que les calculer ; les morceaux réutilisent un
    tampon, et le gradient est calculé en même temps que la perte.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        if torch.is_grad_enabled():
            return _LinearCrossEntropy.apply(x, weight, targets, vocab_size, dtype)
        head, rows = weight[:vocab_size].to(dtype), _rows_at_once(vocab_size, dtype)
        losses = [
            F.cross_entropy((part.to(dtype) @ head.T).float(), labels, reduction="sum")
            for part, labels in zip(x.split(rows), targets.split(rows), strict=True)
        ]
        return torch.stack(losses).sum() / len(x)


def _rows_at_once(vocab_size: int, dtype: torch.dtype) -> int:
    return max(1, LOGITS // (vocab_size * dtype.itemsize))


class _LinearCrossEntropy(torch.autograd.Function):
    """La perte et son gradient en une passe : les logits d'un morceau deviennent, sur place, leur gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, vocab_size: int, dtype: torch.dtype
    ) -> Tensor:
        head, inputs = weight.detach()[:vocab_size].to(dtype), x.detach().to(dtype)
        learns = ctx.needs_input_grad[1]  # LoRA gèle la tête
        grad_x, grad_weight = torch.empty_like(inputs), torch.empty_like(weight) if learns else None
        if grad_weight is not None:  # le premier morceau d'un autre type s'y copie : rien à annuler d'abord
            grad_weight[0 if dtype == weight.dtype else vocab_size :].zero_()
        total = torch.zeros((), device=x.device)
        at_once = min(len(x), _rows_at_once(vocab_size, dtype))
        piece = max(1, PIECE // (4 * vocab_size))
        # des lignes alignées sur 64 nombres : le produit y gagne un dixième en float32
        buffer = torch.empty(at_once, -(-vocab_size // 64) * 64, dtype=dtype, device=x.device)[:, :vocab_size]
        for start in range(0, len(x), at_once):
            rows, labels = inputs[start : start + at_once], targets[start : start + at_once, None]
            logits = torch.mm(rows, head.T, out=buffer[: len(rows)])
            for part, target in zip(logits.split(piece), labels.split(piece), strict=True):
                total += _softmax_minus_one_hot(part, target)
            # d perte / d logits = (softmax - un_en_la_cible) / N ; le 1 / N attend que les matrices soient petites
            torch.mm(logits, head, out=grad_x[start : start + at_once])
            if grad_weight is None:
                continue
            if dtype == weight.dtype:
                grad_weight[:vocab_size].addmm_(logits.T, rows)  # sans tampon de la taille de la tête
            elif start:
                grad_weight[:vocab_size] += logits.T @ rows
            else:
                grad_weight[:vocab_size] = logits.T @ rows
        ctx.save_for_backward(
            grad_x.to(x.dtype).div_(len(x)), None if grad_weight is None else grad_weight.div_(len(x))
        )
        return total / len(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        grad_x, grad_weight = ctx.saved_tensors
        if grad.item() != 1:  # déjà le gradient de la moyenne : rien à faire sans accumulation
            grad_x = grad_x * grad.to(grad_x.dtype)
            grad_weight = None if grad_weight is None else grad_weight * grad
        return grad_x, grad_weight, None, None, None


def _softmax_minus_one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    """Remplace les logits (R, V) par softmax(logits) - un_en_la_cible ; renvoie la somme des pertes : (R, 1) -> ()."""
    p = logits.float()  # les logits mêmes en float32, une copie sinon
    target_logits, top = p.gather(1, targets), p.amax(1, keepdim=True)
    torch.softmax(p, 1, out=p)
    # le plus probable ne s'annule jamais : log Σ exp = son logit - log(sa probabilité)
    total = (top - p.amax(1, keepdim=True).log() - target_logits).sum()
    p.scatter_add_(1, targets, p.new_full(targets.shape, -1.0))
    logits.copy_(p)
    return total
