"""La perte d'un modèle sur un texte entier, chaque jeton prédit une fois.

Légende des formes : B lot, T jetons, C emb_dim.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_lightning.errors import UserError
from gpt_lightning.model.classes import confusion
from gpt_lightning.model.classifier import GPTClassifier, labels_loss
from gpt_lightning.model.fast.cross_entropy import linear_cross_entropy
from gpt_lightning.model.gpt import GPTModel

ROWS = 256  # lignes de logits d'une tête quantifiée, calculées à la fois


@dataclass(frozen=True)
class Score:
    """`loss` en nats par jeton prédit, `tokens` prédits, `bytes` de texte UTF-8."""

    loss: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        return self.loss * self.tokens / math.log(2) / self.bytes


def score(
    model: GPTModel,
    ids: Sequence[int],
    n_bytes: int,
    *,
    max_length: int,
    stride: int,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """La perte de `model` sur un texte de (N,) jetons et `n_bytes` octets, en fenêtres qui avancent de `stride`.

    Chaque jeton sauf le premier est prédit une fois, avec max_length - stride jetons devant lui, sauf au début.
    `progress` reçoit les jetons prédits et leur total. UserError si la fenêtre ne va pas au modèle ou au texte.
    """
    if max_length > model.config.context_length:
        context = model.config.context_length
        raise UserError(f"data.max_length={max_length} dépasse le contexte du modèle : essayez {context}.")
    if not 1 <= stride <= max_length:
        raise UserError(
            f"data.stride={stride} sauterait des jetons : il faut de 1 à data.max_length={max_length}."
        )
    if len(ids) < 2:
        raise UserError("Le texte a moins de deux jetons : il n'y a rien à prédire.")
    device, total, scored = next(model.parameters()).device, 0.0, 0
    with torch.inference_mode():
        for group in _batches(_windows(len(ids), max_length, stride), batch_size):
            length = group[0][1] - group[0][0]
            rows = torch.stack([torch.as_tensor(ids[start : end + 1]).long() for start, end, _ in group])
            x, y = rows[:, :-1].to(device), rows[:, 1:].to(device)  # (B, T), (B, T)
            new = torch.tensor([length - count for _, _, count in group], device=device)
            fresh = torch.arange(length, device=device) >= new[:, None]  # (B, T) pas encore prédits
            hidden, wanted = model.hidden(x)[fresh], y[fresh]
            mean = _mean_loss(model, hidden, wanted)
            total, scored = total + float(mean) * len(wanted), scored + len(wanted)
            progress(scored, len(ids) - 1)
    return Score(total / scored, scored, n_bytes)


def score_answers(
    model: GPTModel,
    batches: Sequence[Any],
    n_bytes: int,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """La perte de `model` sur les réponses de conversations, et `n_bytes` octets de réponses.

    `batches` sont des `data.answers.Answers`. UserError si une ligne est plus longue que le contexte.
    """
    device, total, scored = next(model.parameters()).device, 0.0, 0
    everything = sum(len(one.wanted) for one in batches)
    with torch.inference_mode():
        for one in batches:
            segments = None if one.segments is None else one.segments.to(device)
            hidden = model.hidden(one.ids.to(device), segments=segments).flatten(0, 1)[one.where.to(device)]
            total += float(_mean_loss(model, hidden, one.wanted.to(device))) * len(one.wanted)
            scored += len(one.wanted)
            progress(scored, everything)
    return Score(total / scored, scored, n_bytes)


def score_labels(
    model: GPTClassifier,
    batches: Sequence[Any],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[float, Tensor]:
    """La perte moyenne de `model` sur des textes étiquetés, en nats, et leur matrice de confusion (E, E).

    `batches` sont des `data.labelled.LabelBatch` ; chaque texte compte autant.
    """
    device, total, everything = next(model.parameters()).device, 0.0, sum(len(one.wanted) for one in batches)
    size = model.class_head.out_features
    counts = torch.zeros(size, size, dtype=torch.int64)
    with torch.inference_mode():
        for one in batches:
            scores = model.classify(one.ids.to(device), one.where.to(device)).float().cpu()
            total += float(labels_loss(scores, one.wanted)) * len(one.wanted)
            counts += confusion(one.wanted, scores.argmax(-1), size)
            progress(int(counts.sum()), everything)
    return total / everything, counts


def _windows(n_tokens: int, max_length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(début, fin, jetons nouveaux) : la fenêtre lit [début, fin) et prédit [début + 1, fin + 1)."""
    seen, start = 0, 0
    while seen < n_tokens - 1:
        end = min(start + max_length, n_tokens - 1)
        yield start, end, end - seen
        seen, start = end, start + stride


def _batches(windows: Iterable[tuple[int, int, int]], size: int) -> Iterator[list[tuple[int, int, int]]]:
    """Par lots de même longueur."""
    batch: list[tuple[int, int, int]] = []
    for window in windows:
        if batch and (len(batch) == size or window[1] - window[0] != batch[0][1] - batch[0][0]):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _mean_loss(model: GPTModel, hidden: Tensor, wanted: Tensor) -> Tensor:
    """La perte moyenne, par morceaux de lignes : (N, C), (N,) -> (). La tête peut être quantifiée."""
    head, size = model.out_head, model.config.vocab_size
    if isinstance(head, nn.Linear):
        return linear_cross_entropy(hidden, head.weight, wanted, size)
    parts = zip(hidden.split(ROWS), wanted.split(ROWS), strict=True)
    sums = [F.cross_entropy(head(x)[:, :size].float(), y, reduction="sum") for x, y in parts]
    return torch.stack(sums).sum() / len(hidden)
