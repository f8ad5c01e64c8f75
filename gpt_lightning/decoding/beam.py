"""La recherche en faisceau : garder les meilleurs débuts de texte, plutôt que le meilleur jeton.

Légende des formes : P textes de départ, F faisceaux, V vocabulaire.
Source : Graves, « Sequence Transduction with Recurrent Neural Networks », 2012 ; pénalité de longueur de
Wu et al., « Google's Neural Machine Translation System », 2016.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt_lightning.decoding.context import Reader
from gpt_lightning.decoding.strategy import Strategy, check_numbers
from gpt_lightning.decoding.token import Ending
from gpt_lightning.errors import UserError

NEVER = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """Une complétion finie : son score (somme des log-probabilités / longueur ** length_penalty), ses jetons."""

    score: float
    ids: list[int]
    logprobs: list[float]
    reason: str


def search(reader: Reader, strategy: Strategy, ending: Ending, num_samples: int) -> list[Hypothesis]:
    """Les `num_samples` meilleures complétions de chaque texte, la meilleure d'abord : P x num_samples hypothèses.

    À chaque pas, les 2 F meilleures complétions d'un jeton de plus sont triées ; celles qui finissent sortent du
    faisceau, les autres le remplissent. Un texte est fini quand aucune complétion en cours ne peut dépasser les F
    retenues à sa longueur d'aujourd'hui. UserError si num_samples dépasse num_beams.
    """
    width, n_texts = strategy.num_beams, reader.n_rows
    if num_samples > width:
        raise UserError(
            f"num_samples={num_samples} : un faisceau de decoding.num_beams={width} n'a que {width} textes."
        )
    logits = reader.prefill(width)  # (P F, V)
    scores = torch.full((n_texts, width), NEVER, device=reader.device)
    scores[:, 0] = 0  # les F lignes d'un texte sont encore la même
    beams: list[list[int]] = [[] for _ in range(n_texts * width)]
    traces: list[list[float]] = [[] for _ in beams]
    done: list[list[Hypothesis]] = [[] for _ in range(n_texts)]
    for length in range(1, ending.max_new_tokens + 1):
        check_numbers(logits)
        candidates = _best(strategy, reader, logits, scores)
        raw = logits.float().log_softmax(-1)
        selected: list[tuple[int, int, float]] = []
        for index in range(n_texts):
            running = []
            for rank, (row, token, total) in enumerate(candidates[index]):
                ids = [*beams[row], token]
                reason = ending.reason(index * num_samples, ids)
                if reason is None:
                    running.append((row, token, total))
                elif rank < width:
                    score = total / length**strategy.length_penalty
                    trace = [*traces[row], float(raw[row, token])]
                    done[index].append(Hypothesis(score, ids, trace, reason))
            done[index] = sorted(done[index], key=lambda hypothesis: -hypothesis.score)[:width]
            if _is_finished(done[index], running, length, strategy):
                running = []
            selected += running[:width] + [(index * width, 0, NEVER)] * (width - len(running))
        if all(total == NEVER for _, _, total in selected):
            break
        traces = [[*traces[row], float(raw[row, token])] for row, token, _ in selected]
        beams = [[*beams[row], token] for row, token, _ in selected]
        scores = torch.tensor([total for _, _, total in selected], device=reader.device).view(n_texts, width)
        chosen = torch.tensor([token for _, token, _ in selected], device=reader.device)
        reader.select(torch.tensor([row for row, _, _ in selected], device=reader.device))
        reader.write(chosen)
        logits = reader.read(chosen)
    return [hypothesis for hypotheses in done for hypothesis in hypotheses[:num_samples]]


def _best(
    strategy: Strategy, reader: Reader, logits: Tensor, scores: Tensor
) -> list[list[tuple[int, int, float]]]:
    """Les 2 F meilleures complétions possibles de chaque texte : (ligne, jeton, somme), la meilleure d'abord."""
    (n_texts, width), size = scores.shape, logits.shape[-1]
    ids = reader.ids if strategy.rereads else None
    log_probs = strategy.penalise(logits.float().log_softmax(-1), ids, reader.width)
    totals = (scores[..., None] + log_probs.view(n_texts, width, size)).flatten(1)  # (P, F V)
    best = totals.topk(min(2 * width, totals.shape[1]), dim=-1)
    return [
        [(index * width + flat // size, flat % size, total) for flat, total in pairs if total != NEVER]
        for index, pairs in enumerate(
            zip(indices, values, strict=True)
            for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
    ]


def _is_finished(done: list[Hypothesis], running: list[tuple], length: int, strategy: Strategy) -> bool:
    """Vrai si le texte est fini : il a F hypothèses, qu'aucune complétion en cours ne dépasse à sa longueur."""
    if not running or len(done) < strategy.num_beams:
        return not running
    return done[-1].score >= running[0][2] / length**strategy.length_penalty
