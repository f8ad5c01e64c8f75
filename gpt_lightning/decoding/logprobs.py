"""Ce que le modèle pensait d'un jeton : sa log-probabilité, son rang, et ses rivaux.

Légende des formes : T jetons, K candidats, V vocabulaire.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gpt_lightning.decoding.strategy import check_numbers
from gpt_lightning.model.cache import LanguageModel


class Scored(NamedTuple):
    """Un jeton, sa log-probabilité (nats, avant tout filtre), son rang (1 : le plus probable), et les K premiers."""

    id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()


def score_tokens(logits: Tensor, ids: Sequence[int], top: int = 0) -> list[Scored]:
    """La mesure de chaque jeton de `ids` d'après les logits de sa place : (T, V), T identifiants -> T mesures."""
    traces = logits.float().log_softmax(-1)
    own = traces.gather(1, torch.tensor(ids, device=logits.device)[:, None])  # (T, 1)
    ranks = ((traces > own).sum(-1) + 1).tolist()
    best = traces.topk(min(top, traces.shape[-1]), dim=-1)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    rivals = [tuple(zip(*pair, strict=True)) for pair in pairs]
    return [Scored(*values) for values in zip(ids, own[:, 0].tolist(), ranks, rivals, strict=True)]


@torch.inference_mode()
def score_text(model: LanguageModel, ids: Sequence[int], top: int = 0) -> list[Scored]:
    """La mesure de chaque jeton de `ids` sauf le premier, que rien ne précède.

    Au-delà du contexte, la fenêtre avance par moitiés : chaque jeton en a au moins une demie devant lui. UserError si
    un logit n'est pas un nombre.
    """
    context, device = model.config.context_length, next(model.parameters()).device
    scored: list[Scored] = []
    start = 0
    while len(scored) < len(ids) - 1:
        window = ids[start : start + context]
        logits = model(torch.tensor([window], device=device))[0]  # (T, V)
        check_numbers(logits)
        fresh = len(scored) - start  # le premier rang dont le jeton suivant n'est pas mesuré
        following = ids[start + fresh + 1 : start + len(window) + 1]
        scored += score_tokens(logits[fresh : fresh + len(following)], following, top)
        start = len(scored) - context // 2
    return scored
