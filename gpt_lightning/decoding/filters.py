"""Les filtres : des fonctions pures logits -> logits, par lot, en float32. Un jeton écarté vaut -inf.

Légende des formes : R lignes, V vocabulaire, T jetons déjà écrits.
Aucun filtre ne boucle sur les lignes ni ne vide une ligne. Pour top-p et typical, la génération exécute ceux de
fast.py, qui gardent les mêmes jetons sans trier le vocabulaire.
"""

import math

import torch
from torch import Tensor

from gpt_lightning.errors import number, whole

NEVER = float("-inf")


def with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """logits / temperature : < 1 aiguise la distribution, > 1 l'aplatit. (R, V) -> (R, V)."""
    return logits.float() / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Garde les k plus grands logits (et leurs ex æquo). Fan et al., 2018. (R, V) -> (R, V)."""
    threshold = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < threshold, NEVER)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Garde les plus probables jusqu'à ce que leur somme atteigne p, celui qui franchit p compris (et ses ex æquo).

    p >= 1 garde tout, p = 0 le premier. Holtzman et al., « The Curious Case of Neural Text Degeneration », 2020.
    (R, V) -> (R, V).
    """
    if p >= 1:
        return logits
    ordered, ranks = logits.sort(-1, descending=True)  # les plus probables d'abord
    total = logits.softmax(-1).gather(-1, ranks).cumsum(-1)
    return logits.masked_fill(logits < ordered.gather(-1, crossing(total, p)), NEVER)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Garde les jetons au moins p fois aussi probables que le premier. Nguyen et al., « Min-p Sampling », 2024.

    p = 0 garde tout, p = 1 le premier. (R, V) -> (R, V).
    """
    if p <= 0:
        return logits
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), NEVER)


def keep_typical_p(logits: Tensor, p: float) -> Tensor:
    """Garde, jusqu'à la somme p, les jetons dont la surprise est la plus proche de la surprise moyenne (l'entropie).

    Le plus probable peut en sortir : il est parfois trop attendu. p >= 1 garde tout.
    Meister et al., « Locally Typical Sampling », 2023. (R, V) -> (R, V).
    """
    if p >= 1:
        return logits
    distance, probs = from_entropy(logits)
    ordered, ranks = distance.sort(-1)  # les plus proches de l'entropie d'abord
    total = probs.gather(-1, ranks).cumsum(-1)
    return logits.masked_fill(distance > ordered.gather(-1, crossing(total, p)), NEVER)


def from_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """|surprise - entropie| de chaque jeton, en nats, et sa probabilité : (R, V) -> (R, V), (R, V)."""
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs.masked_fill(probs == 0, 0)).sum(-1, keepdim=True)
    return (entropy + log_probs).abs(), probs


def crossing(total: Tensor, mass: float) -> Tensor:
    """Le premier rang, (R, 1), où la somme atteint `mass` ; le dernier si les arrondis l'en empêchent."""
    return (total < mass).sum(-1, keepdim=True).clamp(max=total.shape[-1] - 1)


def penalise_repetitions(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Divise par `penalty` les logits positifs des jetons déjà dans `ids`, multiplie les négatifs. 1 : rien.

    Keskar et al., « CTRL », 2019. (R, V), (R, T) identifiants, -1 pour un remplissage -> (R, V).
    """
    seen = torch.zeros(len(logits), logits.shape[-1] + 1, dtype=torch.bool, device=logits.device)
    seen.scatter_(1, ids % seen.shape[1], True)  # -1 devient la colonne de trop
    changed = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen[:, :-1], changed, logits)


def penalise_counts(logits: Tensor, ids: Tensor, presence: float, frequency: float) -> Tensor:
    """Retire `presence` au logit de chaque jeton de `ids`, et `frequency` autant de fois qu'il y est. 0 et 0 : rien.

    Ce sont `presence_penalty` et `frequency_penalty` de l'API d'OpenAI ; `ids` y sont les jetons que le modèle écrit.
    (R, V), (R, T) identifiants, -1 pour ce qui ne compte pas -> (R, V).
    """
    counts = torch.zeros(len(logits), logits.shape[-1] + 1, device=logits.device)
    counts.scatter_add_(1, ids % counts.shape[1], torch.ones_like(ids, dtype=counts.dtype))
    counts = counts[:, :-1]  # -1 est la colonne de trop
    return logits - presence * (counts > 0) - frequency * counts


def forbid_repeated_ngrams(logits: Tensor, ids: Tensor, n: int) -> Tensor:
    """Écarte les jetons qui finiraient une suite de n jetons déjà dans `ids`. Paulus et al., 2017.

    (R, V), (R, T) identifiants, -1 pour un remplissage -> (R, V).
    """
    if ids.shape[1] < n:
        return logits
    grams = ids.unfold(1, n, 1)  # (R, T - n + 1, n)
    last = ids[:, ids.shape[1] - n + 1 :].unsqueeze(1)  # (R, 1, n - 1)
    again = (grams[..., :-1] == last).all(-1) & (grams >= 0).all(-1)
    never = torch.zeros(len(logits), logits.shape[-1] + 1, dtype=torch.bool, device=logits.device)
    never.scatter_(1, torch.where(again, grams[..., -1], logits.shape[-1]), True)
    never = never[:, :-1]
    return logits.masked_fill(never & ~never.all(-1, keepdim=True), NEVER)  # tout écarter serait ne rien dire


def softmax_avec_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Les probabilités softmax(logits / temperature), sur la dernière dimension.

    UserError si la température n'est pas positive.
    """
    number("temperature", temperature, above=0)
    return with_temperature(logits, temperature).softmax(-1)


def echantillonner_multinomial(probas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Un indice tiré selon chaque ligne de probabilités : (..., V) -> (..., 1)."""
    return torch.multinomial(probas, num_samples=1, generator=generator)


def top_k_sampling(logits: Tensor, k: int, temperature: float = 1.0) -> Tensor:
    """Les probabilités après top-k puis température : (..., V) -> (..., V), zéro hors des k premiers."""
    whole("top_k", k)
    return softmax_avec_temperature(keep_top_k(logits, k), temperature)


def top_p_sampling(logits: Tensor, p: float, temperature: float = 1.0) -> Tensor:
    """Les probabilités après température puis top-p : (..., V) -> (..., V), zéro hors du noyau."""
    number("top_p", p, 0, 1)
    number("temperature", temperature, above=0)
    return keep_top_p(with_temperature(logits, temperature), p).softmax(-1)
