"""Les filtres : des fonctions pures logits -> logits, par lot, en float32. Un jeton écarté vaut -inf.

Légende des formes : R lignes, V vocabulaire. Aucun filtre ne boucle sur les lignes ni ne vide une ligne.
"""

import torch
from torch import Tensor

NEVER = float("-inf")


def with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """logits / temperature : < 1 aiguise la distribution, > 1 l'aplatit. (R, V) -> (R, V)."""
    return logits.float() / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Garde les k plus grands logits (et leurs ex æquo). Fan et al., 2018. (R, V) -> (R, V)."""
    threshold = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < threshold, NEVER)


def keep_top_p(logits: Tensor, p: float, *, first: int = 128) -> Tensor:
    """Garde les plus probables jusqu'à ce que leur somme atteigne p, celui qui franchit p compris.

    Le vocabulaire n'est pas trié en entier : on regarde les `first` premiers, puis quatre fois plus tant que
    leur somme reste sous p. Holtzman et al., « The Curious Case of Neural Text Degeneration », 2020.
    (R, V) -> (R, V).
    """
    if p >= 1:
        return logits
    log_total = logits.logsumexp(-1, keepdim=True)
    size = min(first, logits.shape[-1])
    while True:
        top = logits.topk(size, dim=-1)
        cumulative = (top.values - log_total).exp().cumsum(-1)
        if size == logits.shape[-1] or bool((cumulative[..., -1] >= p).all()):
            break
        size = min(4 * size, logits.shape[-1])
    before = cumulative - (top.values - log_total).exp()  # somme de ceux qui sont devant
    kept = top.values.masked_fill(before >= p, NEVER)
    kept[..., 0] = top.values[..., 0]  # le premier reste, même à p = 0
    return torch.full_like(logits, NEVER).scatter(-1, top.indices, kept)


def softmax_avec_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Les probabilités softmax(logits / temperature), sur la dernière dimension.

    ValueError si la température n'est pas positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} : il faut un nombre positif (0 est le décodage greedy).")
    return with_temperature(logits, temperature).softmax(-1)


def echantillonner_multinomial(probas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Un indice tiré selon chaque ligne de probabilités : (..., V) -> (..., 1)."""
    return torch.multinomial(probas, num_samples=1, generator=generator)


def top_k_sampling(logits: Tensor, k: int, temperature: float = 1.0) -> Tensor:
    """Les probabilités après top-k puis température : (..., V) -> (..., V), zéro hors des k premiers."""
    if k < 1:
        raise ValueError(f"top_k={k} : il faut un entier d'au moins 1.")
    return softmax_avec_temperature(keep_top_k(logits, k), temperature)


def top_p_sampling(logits: Tensor, p: float, temperature: float = 1.0) -> Tensor:
    """Les probabilités après température puis top-p : (..., V) -> (..., V), zéro hors du noyau."""
    if not 0 <= p <= 1:
        raise ValueError(f"top_p={p} : il faut un nombre entre 0 et 1.")
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} : il faut un nombre positif (0 est le décodage greedy).")
    return keep_top_p(with_temperature(logits, temperature), p).softmax(-1)
