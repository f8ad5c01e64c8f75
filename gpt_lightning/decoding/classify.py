"""Classer des textes, lot par lot : donner la probabilité de chaque étiquette.

Légende des formes : N textes, T jetons, E étiquettes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gpt_lightning.decoding.text import TextCodec


@torch.inference_mode()
def classify(
    model: Any,  # un GPTClassifier : la tête de classification n'est pas de cette pièce
    tokenizer: TextCodec,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    cut: Callable[[int], None] = lambda rank: None,
) -> list[Tensor]:
    """Les probabilités (E,) de chaque texte, dans l'ordre. Un texte n'y change rien pour un autre.

    Un texte plus long que `max_length` (par défaut, le contexte du modèle) est coupé à la fin, et `cut` reçoit son
    rang. UserError si le tokenizer ne lit pas un texte.
    """
    room, device = max_length or model.config.context_length, next(model.parameters()).device
    rows = [tokenizer.encode(text.strip()) or [tokenizer.eos_id or 0] for text in texts]
    for rank, row in enumerate(rows):
        if len(row) > room:
            cut(rank)
    by_rank: dict[int, Tensor] = {}
    by_length = sorted(range(len(rows)), key=lambda rank: len(rows[rank]))
    for start in range(0, len(rows), batch_size):
        ranks = by_length[start : start + batch_size]
        batch = [rows[rank][:room] for rank in ranks]
        width = max(map(len, batch))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in batch], device=device)  # (N, T)
        where = torch.tensor([n * width + len(row) - 1 for n, row in enumerate(batch)], device=device)
        shares = model.classify(ids, where).float().softmax(-1).cpu()
        by_rank |= dict(zip(ranks, shares, strict=True))
    return [by_rank[rank] for rank in range(len(rows))]
