"""La boucle de génération : `stream` est la primitive, `generate` la recueille.

Légende des formes : P textes de départ, R lignes (P x num_samples), T jetons, V vocabulaire.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gpt_lightning.decoding import beam
from gpt_lightning.decoding.context import Reader
from gpt_lightning.decoding.lookup import Lookup
from gpt_lightning.decoding.prefixes import PrefixCache
from gpt_lightning.decoding.strategy import Strategy, check_numbers
from gpt_lightning.decoding.token import Ending, Token
from gpt_lightning.decoding.uniforms import Uniforms
from gpt_lightning.errors import UserError, whole
from gpt_lightning.model.cache import LanguageModel

BURST = 8  # jetons que le GPU écrit sans qu'on l'attende


@torch.inference_mode()
def stream(
    model: LanguageModel,
    prompts: Tensor | Sequence[Sequence[int]],
    *,
    strategy: Strategy,
    max_new_tokens: int,
    eos_id: int | None = None,
    seed: int | None = None,
    num_samples: int = 1,
    until: Callable[[int, list[int]], bool] | None = None,
    logprobs: bool = False,
    first_row: int = 0,
    prefixes: PrefixCache | None = None,
) -> Iterator[list[Token]]:
    """Donne, à chaque pas, le jeton nouveau de chaque ligne encore active.

    `prompts` est (P, T) ou P listes de longueurs quelconques, non vides ; la ligne r continue le texte
    r // num_samples. Un texte plus long que le contexte n'est lu que par sa fin. `until(ligne, jetons)` arrête une
    ligne. Les clés et valeurs sont en cache tant que le texte tient dans context_length ; au-delà la fenêtre
    glisse, et comme les positions changent toutes, chaque pas relit la fenêtre entière. Le tirage de la ligne r ne
    dépend que de (seed, first_row + r). Un faisceau (strategy.num_beams > 1) ne connaît son texte qu'à la fin : ses
    jetons viennent alors, et `num_samples` en demande les meilleurs. Ce que `prefixes` garde du début d'un texte n'est
    pas relu, et ce qui est lu ici, même interrompu, y reste. UserError si un texte est vide, si un nombre n'a pas de
    sens, ou si le modèle donne des NaN.
    """
    whole("max_new_tokens", max_new_tokens, 0)
    whole("num_samples", num_samples, 1)
    if seed is not None:
        whole("seed", seed, 0)
    ending = Ending(max_new_tokens, eos_id, until)
    reader = Reader(model, prompts, max_new_tokens, prefixes)
    if max_new_tokens == 0:
        return
    try:
        if strategy.num_beams > 1:
            hypotheses = beam.search(reader, strategy, ending, num_samples)
            yield from _as_stream(hypotheses, logprobs)
        else:
            n_rows = reader.n_rows * num_samples
            uniforms = Uniforms(seed, range(first_row, first_row + n_rows), reader.device)
            yield from _decode_one_by_one(reader, strategy, ending, uniforms, num_samples, logprobs)
    finally:
        reader.remember()


def _decode_one_by_one(
    reader: Reader,
    strategy: Strategy,
    ending: Ending,
    uniforms: Uniforms,
    num_samples: int,
    logprobs: bool,
) -> Iterator[list[Token]]:
    """Écrit un jeton par ligne et par pas. Un GPU, attendu tous les `BURST` pas, a pu écrire après la fin."""
    # 1. préremplir
    logits = reader.prefill(num_samples)  # (R, V)
    active = list(range(reader.n_rows))
    produced: list[list[int]] = [[] for _ in active]
    unseen: list[tuple[Tensor, ...]] = []  # ce qui est écrit, et que l'on n'a pas encore attendu
    lookup = None if strategy.lookup_ngram is None else Lookup(reader, strategy.lookup_ngram)
    burst = _burst(reader, strategy)
    while True:
        # 2. choisir
        ids = reader.ids if strategy.rereads else None
        chosen = strategy.pick(logits, uniforms.next(), ids, reader.width)  # (R,)
        # 3. écrire
        reader.write(chosen)
        unseen.append((chosen, logits.amax(-1), reader.logprobs(logits, chosen) if logprobs else chosen))
        # 4. s'arrêter
        if len(unseen) == min(burst, ending.max_new_tokens - len(produced[active[0]])):
            for values, scores in _fetch(unseen):
                tokens = []
                for row in active:
                    produced[row].append(values[row])
                    reason = ending.reason(row, produced[row])
                    tokens.append(Token(row, values[row], reason, scores[row] if logprobs else None))
                yield tokens
                active = [token.row for token in tokens if token.reason is None]
                if not active:
                    return
            unseen = []
        # 5. lire le suivant, ou ce qui en était deviné
        logits = reader.read(chosen) if lookup is None else lookup.read(chosen, active)


def _burst(reader: Reader, strategy: Strategy) -> int:
    """Le nombre de jetons à écrire avant de les lire : attendre le GPU à chacun le laisserait oisif."""
    return BURST if reader.device.type == "cuda" and strategy.lookup_ngram is None else 1


def _fetch(steps: list[tuple[Tensor, ...]]) -> Iterator[tuple[list, list]]:
    """Attend ensemble les jetons et les log-probabilités de chaque pas. UserError si un logit est NaN."""
    ids, highest, scores = (torch.stack(each) for each in zip(*steps, strict=True))
    check_numbers(highest)
    yield from zip(ids.tolist(), scores.tolist(), strict=True)


def _as_stream(hypotheses: list[beam.Hypothesis], logprobs: bool) -> Iterator[list[Token]]:
    for step in range(max(len(hypothesis.ids) for hypothesis in hypotheses)):
        yield [
            Token(
                row,
                hypothesis.ids[step],
                hypothesis.reason if step + 1 == len(hypothesis.ids) else None,
                hypothesis.logprobs[step] if logprobs else None,
            )
            for row, hypothesis in enumerate(hypotheses)
            if step < len(hypothesis.ids)
        ]


def generate(
    model: LanguageModel,
    ids: Tensor | Sequence[Sequence[int]],
    *,
    strategy: Strategy,
    max_new_tokens: int,
    eos_id: int | None = None,
    stop: Sequence[str] = (),
    decode: Callable[[list[int]], str] | None = None,
    seed: int | None = None,
    num_samples: int = 1,
) -> Tensor | list[list[int]]:
    """Les textes de départ et leurs complétions : (P, T) -> (R, T + n), ou une liste par ligne si `ids` en est une.

    Une ligne s'arrête après `eos_id`, quand `decode` de sa complétion contient un des textes `stop`, ou à
    max_new_tokens. Dans un tenseur, une ligne finie plus tôt est complétée par `eos_id` (0 s'il n'y en a pas).
    Les log-probabilités sont dans les `Token` de `stream(..., logprobs=True)`. UserError : voir `stream`.
    """
    if stop and decode is None:
        raise UserError("stop= cherche des textes : donnez decode=tokenizer.decode.")
    until = (
        (lambda row, new: any(text in decode(new) for text in stop)) if stop and decode is not None else None
    )
    rows = [[int(token) for token in prompt] for prompt in ids for _ in range(num_samples)]
    for tokens in stream(
        model,
        ids,
        strategy=strategy,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
        seed=seed,
        num_samples=num_samples,
        until=until,
    ):
        for token in tokens:
            rows[token.row].append(token.id)
    if not isinstance(ids, Tensor):
        return rows
    width = max(map(len, rows))
    fill = 0 if eos_id is None else eos_id
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows], device=ids.device)
