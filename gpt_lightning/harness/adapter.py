"""Notre modèle, tel que lm-eval en interroge un : par lots de même longueur, un début lu une fois pour ses réponses.

Légende des formes : G débuts, R réponses, T jetons d'un début, K jetons d'une réponse, C emb_dim, N jetons mesurés.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from gpt_lightning.decoding import Strategy
from gpt_lightning.decoding.batching import Arrival, Batch, Row
from gpt_lightning.decoding.text import opening_id
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTModel
from gpt_lightning.model.cache import KVCache
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.tokenizers.special import prefix_id, special_tokens

TOGETHER = 8192  # jetons d'une passe, remplissage compris
LINES = 1024  # lignes de logits calculées à la fois
ROWS = 16  # textes qui s'écrivent ensemble
Progress = Callable[[int, int], None]
Encoded = tuple[object, list[int], list[int]]  # (la demande, son début, sa réponse), en jetons


class Group(NamedTuple):
    """Un début, et les réponses que l'on y mesure : le rang de la demande, et ses jetons."""

    start: tuple[int, ...]
    answers: list[tuple[int, list[int]]]


class HarnessModel(TemplateLM):
    """`model` et `tokenizer`, pour lm-eval. `cut` compte les demandes dont le début ne tient pas dans le contexte."""

    def __init__(
        self, model: GPTModel, tokenizer: Tokenizer, *, progress: Progress = lambda done, total: None
    ) -> None:
        super().__init__()
        self.model, self.codec, self.progress = model, tokenizer, progress
        self.max_length, self.cut = model.config.context_length, 0
        self._device = next(model.parameters()).device

    @property
    def eot_token_id(self) -> int:
        """Le jeton qui finit un texte."""
        if self.codec.eos_id is None:
            raise UserError(
                "Ce tokenizer n'a pas de fin de texte : le harnais en met une devant un texte vide."
            )
        return self.codec.eos_id

    @property
    def prefix_token_id(self) -> int:
        """Le jeton devant un texte dont on mesure tout."""
        first = prefix_id(self.codec)
        return self.eot_token_id if first is None else first

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Les jetons d'un texte, après celui que le modèle attend devant, sauf avis contraire."""
        ids = self.codec.encode(string, special=True)
        opening = opening_id(self.codec)
        if opening is None or add_special_tokens is False or ids[:1] == [opening]:
            return ids
        return [opening, *ids]

    @torch.inference_mode()
    def _loglikelihood_tokens(self, requests: list[Encoded], **_: object) -> list[tuple[float, bool]]:
        """La log-probabilité de chaque réponse, et si c'est la plus probable, jeton par jeton."""
        measures: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        done = 0
        for batch in self._batches(self._groups(requests)):
            ranks = [rank for group in batch for rank, _ in group.answers]
            for rank, measure in zip(ranks, self._measure(batch), strict=True):
                measures[rank] = measure
            done += len(ranks)
            self.progress(done, len(requests))
        return measures

    def _groups(self, requests: list[Encoded]) -> list[Group]:
        """Les demandes qui ont le même début, ensemble ; les plus longs débuts d'abord."""
        groups: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for rank, (_, start, answer) in enumerate(requests):
            room = self.max_length + 1 - len(answer)
            if room < 1:
                raise UserError(
                    f"Une réponse de {len(answer)} jetons dépasse le contexte ({self.max_length})."
                )
            self.cut += len(start) > room
            groups.setdefault(tuple(start[-room:]), []).append((rank, answer))
        ordered = sorted(groups.items(), key=lambda item: -len(item[0]))
        return [Group(start, answers) for start, answers in ordered]

    def _batches(self, groups: Sequence[Group]) -> Iterator[list[Group]]:
        """Range les débuts par lots qui tiennent dans une passe, et où aucune position ne dépasse le contexte."""
        batch: list[Group] = []
        width = longest = rows = 0
        for group in groups:
            length = max(len(answer) for _, answer in group.answers)
            wide, long = max(width, len(group.start)), max(longest, length)
            more = rows + len(group.answers)
            if batch and (wide + long - 1 > self.max_length or (wide + long) * more > TOGETHER):
                yield batch
                batch, wide, long, more = [], len(group.start), length, len(group.answers)
            batch.append(group)
            width, longest, rows = wide, long, more
        if batch:
            yield batch

    def _measure(self, batch: Sequence[Group]) -> list[tuple[float, bool]]:
        """Lit les débuts de ce lot une fois, puis leurs réponses ; seules celles-ci atteignent la tête."""
        answers = [answer for group in batch for _, answer in group.answers]
        places = [place for place, group in enumerate(batch) for _ in group.answers]
        width, longest = max(len(group.start) for group in batch), max(1, *map(len, answers))
        pads = torch.tensor([width - len(group.start) for group in batch], device=self._device)
        cache = KVCache.empty(
            self.model.config,
            batch_size=len(batch),
            capacity=width + longest - 1,
            pads=pads if bool(pads.any()) else None,
            device=self._device,
            dtype=self.model.tok_emb.weight.dtype,
        )
        starts = self._tensor([[0] * (width - len(group.start)) + list(group.start) for group in batch])
        hidden = self.model.hidden(starts, cache)[places, -1:]  # (R, 1, C)
        targets = self._tensor([answer + [-1] * (longest - len(answer)) for answer in answers])  # (R, K)
        if longest > 1:
            following = cache.select(torch.tensor(places, device=self._device))
            after = self.model.hidden(targets[:, :-1].clamp(min=0), following)  # (R, K - 1, C)
            hidden = torch.cat((hidden, after), dim=1)
        real = targets >= 0
        values, best = self._score(hidden[real], targets[real])
        sizes = list(map(len, answers))
        sums = [float(part.double().sum()) for part in values.split(sizes)]
        return [*zip(sums, (bool(part.all()) for part in best.split(sizes)), strict=True)]

    def _score(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """La log-probabilité de chaque jeton, et si c'est le plus probable : (N, C), (N,) -> (N,), (N,)."""
        values, best = [], []
        for x, y in zip(hidden.split(LINES), targets.split(LINES), strict=True):
            logits = self.model.out_head(x)[:, : self.model.config.vocab_size].float()  # (N, V)
            values.append(logits.log_softmax(-1).gather(1, y[:, None])[:, 0])
            best.append(logits.argmax(-1) == y)
        return torch.cat(values).cpu(), torch.cat(best).cpu()

    def _tensor(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=self._device)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """La log-probabilité de chaque texte, en fenêtres qui se suivent."""
        windows: list[Encoded] = []
        owners = []
        for rank, request in enumerate(requests):
            pairs = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, context_len=1
            )
            made = [(None, *make_disjoint_window(pair)) for pair in pairs]
            windows += made
            owners += [rank] * len(made)
        totals = [0.0] * len(requests)
        for rank, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[rank] += value
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """La suite de chaque texte, jusqu'à l'un des textes d'arrêt de sa tâche : un lot où l'une remplace l'autre."""
        asked = [self._row(rank, *request.args) for rank, request in enumerate(requests)]
        waiting = sorted(
            (row for row, _ in asked), key=lambda row: len(row.ids)
        )  # les plus longs sont lus d'abord
        batch, done = Batch(self.model, min(ROWS, len(waiting))), 0
        while done < len(asked):
            while waiting and batch.free:
                batch.join(Arrival([waiting.pop()]))
            for token in batch.step():
                if token.error is not None:
                    raise token.error
                done += token.reason is not None
            self.progress(done, len(asked))
        return [postprocess_generated_text(self._decode(row), until, None) for row, until in asked]

    def _row(self, rank: int, start: str, options: dict[str, object]) -> tuple[Row, list[str]]:
        """La suite à écrire d'un texte, et ce qui l'arrête. UserError si sa tâche demande ce que l'on ne fait pas."""
        values = dict(normalize_gen_kwargs(options, 256))
        end = special_tokens(self.codec)["eos_token"]
        until = [text for text in handle_stop_sequences(values.pop("until"), end) if text]
        most = values.pop("max_gen_toks")
        room = self.max_length - most
        if room < 1:
            raise UserError(f"Une suite de {most} jetons ne laisse rien du contexte ({self.max_length}).")
        ids = self.tok_encode(start) or [self.prefix_token_id]
        self.cut += len(ids) > room
        row = Row(ids[-room:], _strategy(values), most, eos_id=self.codec.eos_id, seed=rank)
        row.until = lambda token: any(text in self._decode(row) for text in until)
        return row, until

    def _decode(self, row: Row) -> str:
        """Le texte écrit, sans la fin de texte."""
        return self.codec.decode(row.new[:-1] if row.new[-1:] == [row.eos_id] else row.new)


def _strategy(values: dict[str, object]) -> Strategy:
    """La stratégie que ces réglages de tâche demandent. UserError pour un réglage que l'on ne fait pas."""
    sampling = values.pop("do_sample")
    given = {name: value for name, value in values.items() if value is not None}
    if not sampling:
        return Strategy(temperature=0.0)
    try:
        return Strategy(**given)  # type: ignore[arg-type]
    except TypeError:
        raise UserError(f"generation_kwargs : {', '.join(given)} ne se font pas tous ici.") from None
