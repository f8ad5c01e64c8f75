"""Les formules, écrites en toutes lettres : ce que calculent les noyaux de torch.

`model.kernels=reference` construit un modèle avec ces fonctions : on peut l'entraîner et le suivre pas à pas dans un
débogueur. Les tests comparent les noyaux fusionnés à ces formules, et rien d'autre ne leur sert d'oracle.
Légende des formes : B lot, T jetons de la requête, S jetons vus, C emb_dim, H têtes, K têtes de K et V,
D largeur d'une tête, V vocabulaire.
"""

import math

import torch
from torch import Tensor


def softmax(scores: Tensor) -> Tensor:
    """exp(x) / somme(exp(x)) sur la dernière dimension ; retirer le maximum ne change rien, et évite l'infini."""
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor | None, eps: float) -> Tensor:
    """(x - moyenne) / √(variance + eps) * scale + shift, sur la dernière dimension : (B, T, C) -> (B, T, C).

    Source : Ba, Kiros et Hinton, « Layer Normalization », 2016.
    """
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    normed = centred / (variance + eps).sqrt() * scale
    return normed if shift is None else normed + shift


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """x / √(moyenne(x²) + eps) * scale, sur la dernière dimension : (B, T, C) -> (B, T, C).

    Source : Zhang et Sennrich, « Root Mean Square Layer Normalization », 2019.
    """
    return x / ((x**2).mean(-1, keepdim=True) + eps).sqrt() * scale


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), où Φ est la répartition normale. Source : Hendrycks et Gimpel, 2016."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """L'approximation de gelu que GPT-2 utilise : x/2 (1 + tanh(√(2/π) (x + 0,044715 x³)))."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    """x / (1 + exp(-x)) : la porte de SwiGLU."""
    return x * torch.sigmoid(x)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q Kᵀ / √D) : (B, H, T, D), (B, K, S, D) -> (B, H, T, S).

    `mask` (B ou 1, 1, T, S) est vrai où le jeton peut regarder ; None : le passé et lui-même, les T jetons étant les
    derniers des S.
    Source : Vaswani et al., « Attention Is All You Need », 2017, section 3.2.
    """
    k = share(k, q.shape[1])
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(
            k.shape[-2] - q.shape[-2]
        )
    return softmax(scores.masked_fill(~mask, float("-inf")))


def share(x: Tensor, n_heads: int) -> Tensor:
    """Les clés ou les valeurs de chacune des `n_heads` têtes, que des groupes de têtes ont en commun.

    (B, K, S, D) -> (B, H, S, D). Source : Ainslie et al., « GQA », 2023.
    """
    return x if x.shape[1] == n_heads else x.repeat_interleave(n_heads // x.shape[1], dim=1)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(Q Kᵀ / √D) V : (B, H, T, D), (B, K, S, D), (B, K, S, D) -> (B, H, T, D).

    Le dropout éteint chaque poids avec la probabilité `dropout`, et agrandit les autres d'autant.
    """
    weights = attention_weights(q, k, mask)
    if dropout:
        survivors = torch.rand_like(weights) >= dropout
        weights = weights * survivors / (1 - dropout)
    return weights @ share(v, q.shape[1])


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """La moyenne de -log softmax(logits)[cible], en nats et en float32 : (B, T, V), (B, T) -> ()."""
    logits = logits.float()
    largest = logits.amax(-1, keepdim=True)
    log_sum = (logits - largest).exp().sum(-1).log() + largest.squeeze(-1)  # (B, T)
    target_logits = logits.gather(-1, targets[..., None]).squeeze(-1)
    return (log_sum - target_logits).mean()
