"""Les mêmes jetons, plus vite : rien ici ne change un texte, et l'on peut sauter ce fichier.

Légende des formes : R lignes, V vocabulaire.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gpt_lightning.decoding.filters import NEVER, crossing, from_entropy
from gpt_lightning.decoding.uniforms import draw

FIRST = 128  # candidats que l'on filtre d'abord


def keep_top_p(logits: Tensor, p: float, everything: Tensor | None = None) -> Tensor:
    """`filters.keep_top_p` sans tri : (R, V) -> (R, V).

    `everything`, (R, 1), est log Σ exp de tous les logits quand ceux-ci n'en sont que les plus grands.
    """
    if p >= 1:
        return logits
    distance = logits.amax(-1, keepdim=True) - logits
    probs = logits.softmax(-1) if everything is None else (logits - everything).exp()
    return logits.masked_fill(distance > _reach(distance, probs, p), NEVER)


def keep_typical_p(logits: Tensor, p: float) -> Tensor:
    """`filters.keep_typical_p` sans tri : (R, V) -> (R, V)."""
    if p >= 1:
        return logits
    distance, probs = from_entropy(logits)
    return logits.masked_fill(distance > _reach(distance, probs, p), NEVER)


def _reach(distance: Tensor, probs: Tensor, mass: float, *, first: int = 128, bins: int = 2048) -> Tensor:
    """La plus petite distance d, (R, 1), telle que les jetons à d ou moins pèsent au moins `mass`.

    Le vocabulaire n'est jamais trié en entier. Les `first` plus proches suffisent souvent ; sinon un histogramme
    des distances (0 à 20 nats) trouve la case où la somme franchit `mass`, et seule cette case est triée.
    """
    near = distance.topk(min(first, distance.shape[-1]), dim=-1, largest=False)
    total = probs.gather(-1, near.indices).cumsum(-1)
    if bool((total[..., -1] >= mass).all()) or total.shape == probs.shape:
        return near.values.gather(-1, crossing(total, mass))
    cells = (distance * (bins / 20)).clamp(max=bins - 1).long()
    by_cell = torch.zeros(*probs.shape[:-1], bins, device=probs.device).scatter_add_(-1, cells, probs)
    total = by_cell.cumsum(-1)
    cell = crossing(total, mass)
    before = (total - by_cell).gather(-1, cell)
    inside = cells == cell
    size = int(inside.sum(-1).max())
    near = distance.masked_fill(~inside, float("inf")).topk(size, dim=-1, largest=False)
    weights = probs.gather(-1, near.indices).masked_fill(near.values.isinf(), 0)
    last = crossing(before + weights.cumsum(-1), mass).minimum(inside.sum(-1, keepdim=True) - 1)
    return near.values.gather(-1, last.clamp(min=0))  # une case vide : les arrondis gardent tout


def pick_among_the_first(
    logits: Tensor,
    temperature: float,
    apply_filters: Callable[[Tensor, Tensor], Tensor],
    uniform: Tensor,
) -> Tensor | None:
    """Le jeton tiré en ne filtrant que les FIRST plus grands logits, (R,) ; None si cela ne suffit pas.

    `apply_filters(logits, log Σ exp du vocabulaire)` garde un début du vocabulaire rangé par logit : si le dernier
    des FIRST est écarté, ce qui suit l'est aussi, ex æquo compris.
    """
    if logits.device.type != "cpu" or logits.shape[-1] <= 2 * FIRST:
        return None  # sur GPU, vérifier que cela suffit attendrait l'appareil
    first = logits.topk(FIRST, dim=-1)
    remaining = apply_filters(first.values, (logits / temperature).logsumexp(-1, keepdim=True))
    if bool(torch.isfinite(remaining[:, -1]).any()):
        return None
    where, order = first.indices.sort(dim=-1)  # la répartition se lit dans l'ordre des identifiants
    return where.gather(-1, draw(remaining.gather(-1, order), uniform)[:, None]).squeeze(-1)
