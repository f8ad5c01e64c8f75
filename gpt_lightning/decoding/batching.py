"""Des complétions qui s'écrivent ensemble, et dont chacune commence et finit quand elle veut : un lot continu.

`stream` écrit un lot connu d'avance, jusqu'au bout. Ici une complétion entre dans le lot entre deux jetons des
autres, et en sort de même ; un jeton de toutes coûte presque le prix d'un jeton d'une seule : les poids sont lus une
fois.
Légende des formes : R lignes, T jetons, V vocabulaire.
Source : Yu et al., « Orca: A Distributed Serving System for Transformer-Based Generative Models », 2022.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from gpt_lightning.decoding.logprobs import Scored, score_tokens
from gpt_lightning.decoding.prefixes import EVERYONE, PrefixCache
from gpt_lightning.decoding.row_cache import RowCache
from gpt_lightning.decoding.strategy import Strategy, check_numbers
from gpt_lightning.decoding.uniforms import Uniforms
from gpt_lightning.errors import UserError
from gpt_lightning.model.cache import KVCache, LanguageModel

CHUNK = 256  # jetons de départ lus entre deux jetons des autres


class Written(NamedTuple):
    """Un jeton de plus pour une complétion ; `reason` dit pourquoi elle finit, None si elle continue.

    `error` : ce qui l'a fait échouer, elle seule (et `id` ne vaut rien).
    `kept` : ce que les filtres laissent à chacun des rivaux de `scored`, en probabilité, si la complétion le demande.
    """

    row: "Row"
    id: int
    scored: Scored | None
    reason: str | None
    kept: tuple[float, ...] = ()
    error: Exception | None = None


@dataclass(eq=False)
class Row:
    """Une complétion à écrire : les jetons de départ, et comment continuer.

    Elle tire comme la ligne `rank` d'un `stream` de graine `seed`. `until(jeton)` est appelée une fois par jeton, et
    arrête la complétion si elle renvoie vrai. `top` est le nombre de candidats dont on veut la log-probabilité, avec
    celle du jeton ; None, aucune. `filtered` : et leur probabilité après les filtres. `scope` : le domaine où son texte
    reprend ce que d'autres ont lu, et reste ; None : aucun. `cached` compte les jetons qu'il y a repris.
    """

    ids: Sequence[int]
    strategy: Strategy
    max_new_tokens: int
    eos_id: int | None = None
    seed: int | None = None
    rank: int = 0
    until: Callable[[int], bool] = lambda token: False
    top: int | None = None
    filtered: bool = False
    scope: str | None = EVERYONE
    cached: int = 0
    new: list[int] = field(default_factory=list)
    uniforms: Uniforms = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.uniforms = Uniforms(self.seed, range(self.rank, self.rank + 1), torch.device("cpu"))


@dataclass(eq=False)
class Arrival:
    """Des complétions du même départ, qui est lu une seule fois, par morceaux, entre les jetons des autres."""

    rows: list[Row]
    read: int = 0
    cache: KVCache | None = None  # ce qui est lu d'un départ trop long pour une passe

    @property
    def ids(self) -> Sequence[int]:
        """Les jetons de départ."""
        return self.rows[0].ids

    @property
    def scope(self) -> str | None:
        """Le domaine de leurs préfixes."""
        return self.rows[0].scope


class Batch:
    """Le lot d'un modèle, de `rows` lignes au plus : `join` et `leave` quand on veut, `step` écrit un jeton de chacune.

    Une complétion est la même, seule ou en compagnie. Elle finit, par `length`, quand elle remplit le contexte. Ce que
    `prefixes` garde d'un départ n'est pas relu ; ce que le lot lit et écrit y reste.
    """

    def __init__(self, model: LanguageModel, rows: int, prefixes: PrefixCache | None = None) -> None:
        self.model, self.context, self.size = model, model.config.context_length, rows
        assert prefixes is None or prefixes.model is model, "les préfixes d'un autre modèle"
        self.prefixes = PrefixCache(model, 0) if prefixes is None else prefixes
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.cache = RowCache(model, rows, self.device, self.dtype)
        self.rows: list[Row] = []  # celles qui s'écrivent, dans l'ordre du cache
        self.arriving: deque[Arrival] = deque()

    @property
    def free(self) -> int:
        """Les lignes qui restent à prendre."""
        return self.size - len(self.rows) - sum(len(arrival.rows) for arrival in self.arriving)

    def join(self, arrival: Arrival) -> None:
        """Fait entrer des complétions, qui attendent que leur départ soit lu. UserError si elles n'ont pas de place."""
        ids = arrival.ids
        if not ids:
            raise UserError("Un texte de départ est vide : commencez par le jeton de fin de texte.")
        if len(ids) > self.context:
            raise UserError(f"{len(ids)} jetons de départ pour un contexte de {self.context}.")
        assert len(arrival.rows) <= self.free, "demandez `free` avant"
        self.arriving.append(arrival)

    @torch.inference_mode()
    def leave(self, row: Row) -> None:
        """Retire une complétion, où qu'elle en soit ; rien si elle n'est plus là."""
        if row in self.rows:
            self._remove([self.rows.index(row)])
        for arrival in list(self.arriving):
            if row in arrival.rows:
                if len(arrival.rows) == 1:
                    self.arriving.remove(arrival)
                    if arrival.cache is not None:  # ce qui en est lu servira s'il revient
                        self.prefixes.keep(arrival.ids[: arrival.read], arrival.cache, 0, arrival.scope)
                arrival.rows.remove(row)

    @torch.inference_mode()
    def clear(self) -> None:
        """Retire toutes les complétions, et tous les préfixes : le modèle a failli."""
        for rank in reversed(range(len(self.rows))):
            self.cache.leave(rank)
        self.rows.clear()
        self.arriving.clear()
        self.prefixes.clear()

    @torch.inference_mode()
    def step(self) -> list[Written]:
        """Un jeton de chaque complétion qui s'écrit, et le premier de celles dont le départ vient d'être lu en entier.

        UserError si le modèle donne des NaN : le lot ne vaut plus rien, `clear` le vide.
        """
        written: list[Written] = []
        if self.rows:
            last = torch.tensor([[row.new[-1]] for row in self.rows], device=self.device)
            written = self._pick(self.rows, self.model.next_logits(last, self.cache))
            self._remove([rank for rank, token in enumerate(written) if token.reason is not None])
        budget = CHUNK
        while self.arriving and budget > 0:
            together = self._together(budget)
            count, cache, logits = self._read(together, budget)
            budget -= count
            if logits is None:
                break
            written += self._begin(together, cache, logits)
        return written

    def _together(self, budget: int) -> list[Arrival]:
        """Les prochains départs, que l'on lit en une passe si ce qui en reste tient dans `budget` jetons."""
        arrivals, width, unread = [self.arriving[0]], 0, 0
        for count, arrival in enumerate(self.arriving, start=1):
            width = max(width, len(arrival.ids))  # ils sont complétés à gauche
            unread = max(unread, len(arrival.ids) - self.prefixes.count(arrival.ids, arrival.scope))
            if count == 1:
                continue
            room = max(budget, self.context)  # leur cache contient aussi ce qui n'est pas relu
            if arrivals[0].cache is not None or unread * count > budget or width * count > room:
                break
            arrivals.append(arrival)
        return arrivals

    def _read(self, together: Sequence[Arrival], budget: int) -> tuple[int, KVCache, Tensor | None]:
        """Lit des départs, ou `budget` jetons d'un seul : combien de jetons, le cache, les logits (R, V) à la fin."""
        first = together[0]
        cache = self._open(together) if first.cache is None else first.cache
        if len(together) == 1:
            first.cache = cache
            part = [first.ids[first.read : first.read + budget]]
            first.read += len(part[0])
        else:
            width = max(len(arrival.ids) for arrival in together)
            texts = [[0] * (width - len(arrival.ids)) + list(arrival.ids) for arrival in together]
            part = [text[int(cache.position) :] for text in texts]
            first.read = len(first.ids)
        logits = self.model.next_logits(torch.tensor(part, device=self.device), cache)
        return len(part) * len(part[0]), cache, logits if first.read == len(first.ids) else None

    def _open(self, together: Sequence[Arrival]) -> KVCache:
        """Le cache de ces départs, où est déjà ce qui n'en est pas à relire."""
        width = max(len(arrival.ids) for arrival in together)
        pads = torch.tensor([width - len(arrival.ids) for arrival in together], device=self.device)
        cache = KVCache.empty(
            self.model.config,
            batch_size=len(together),
            capacity=width,
            pads=pads if bool(pads.any()) else None,
            device=self.device,
            dtype=self.dtype,
        )
        scopes = [arrival.scope for arrival in together]
        start = self.prefixes.restore(cache, [arrival.ids for arrival in together], scopes)
        for arrival in together:
            arrival.read = max(0, start - width + len(arrival.ids))
            for row in arrival.rows:
                row.cached = arrival.read
        return cache

    def _begin(self, together: Sequence[Arrival], cache: KVCache, logits: Tensor) -> list[Written]:
        """Écrit le premier jeton des complétions de ces départs, qui entrent dans le lot."""
        for _ in together:
            self.arriving.popleft()
        places = [place for place, arrival in enumerate(together) for _ in arrival.rows]
        rows = [row for arrival in together for row in arrival.rows]
        written = self._pick(rows, logits[places])
        for place, arrival in enumerate(together):
            self.prefixes.keep(arrival.ids, cache, place, arrival.scope)
        for place, token in zip(places, written, strict=True):
            if token.reason is None:
                self.cache.enter(cache, place)
                self.rows.append(token.row)
        return written

    def _pick(self, rows: Sequence[Row], logits: Tensor) -> list[Written]:
        """Le jeton suivant de chaque complétion, d'après ses logits (R, V) ; une complétion qui échoue échoue seule."""
        check_numbers(logits)
        tokens: list[Written | None] = [None] * len(rows)
        alike: dict[Strategy, list[int]] = {}  # les complétions de même stratégie se filtrent ensemble
        for rank, row in enumerate(rows):
            alike.setdefault(row.strategy, []).append(rank)
        for strategy, ranks in alike.items():
            some = [rows[rank] for rank in ranks]
            try:
                made = self._pick_alike(strategy, some, logits if len(alike) == 1 else logits[ranks])
            except Exception as error:
                made = [Written(row, -1, None, "error", error=error) for row in some]
            for rank, token in zip(ranks, made, strict=True):
                tokens[rank] = token
        return [token for token in tokens if token is not None]

    def _pick_alike(self, strategy: Strategy, rows: Sequence[Row], logits: Tensor) -> list[Written]:
        """Le jeton suivant de complétions de même stratégie, d'après leurs logits (R, V)."""
        uniform = torch.cat([row.uniforms.next() for row in rows]).to(self.device)
        reread = self._texts(rows) if strategy.rereads else (None, None)
        chosen = strategy.pick(logits, uniform, *reread).tolist()
        asked = [rank for rank, row in enumerate(rows) if row.top is not None]
        traces: dict[int, Scored] = {}
        if asked:
            most = max(rows[rank].top or 0 for rank in asked)
            measures = score_tokens(logits[asked], [chosen[rank] for rank in asked], most)
            traces = dict(zip(asked, measures, strict=True))
        shown = any(row.filtered for row in rows)
        after = strategy(logits, *reread).softmax(-1) if shown else None
        written = []
        for rank, row in enumerate(rows):
            trace = traces.get(rank)
            filtered: list[float] = []
            if trace is not None:
                trace = trace._replace(top=trace.top[: row.top])
                if row.filtered and after is not None:
                    filtered = after[rank, [index for index, _ in trace.top]].tolist()
            written.append(self._append(row, chosen[rank], trace, tuple(filtered)))
        return written

    def _append(self, row: Row, token: int, trace: Scored | None, filtered: tuple[float, ...]) -> Written:
        row.new.append(token)
        reason = None
        try:
            if token == row.eos_id:
                reason = "eos"
            elif row.until(token):
                reason = "stop"
            elif len(row.new) >= row.max_new_tokens or len(row.ids) + len(row.new) > self.context:
                reason = "length"
        except Exception as error:  # un texte qui ne se décode pas
            return Written(row, token, None, "error", error=error)
        return Written(row, token, trace, reason, filtered)

    def _texts(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Les jetons de chaque complétion, départ compris, alignés à droite, et où commence ce qui est écrit."""
        texts = [[*row.ids, *row.new] for row in rows]
        width = max(map(len, texts))
        ids = torch.tensor([[-1] * (width - len(text)) + text for text in texts], device=self.device)
        start = torch.tensor([[width - len(row.new)] for row in rows], device=self.device)
        return ids, start

    def _remove(self, ranks: Sequence[int]) -> None:
        for rank in sorted(ranks, reverse=True):
            row = self.rows[rank]  # son dernier jeton n'est pas lu
            self.prefixes.keep([*row.ids, *row.new[:-1]], self.cache, rank, row.scope)
            self.cache.leave(rank)
            self.rows[rank] = self.rows[-1]
            self.rows.pop()
