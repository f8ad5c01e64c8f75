"""Écrire la réponse à une demande dans la forme du protocole d'OpenAI, d'un coup ou morceau par morceau."""

import itertools
from collections.abc import Iterable, Sequence

from gpt_lightning.decoding.logprobs import Scored
from gpt_lightning.decoding.text import opening_id, prompt_text
from gpt_lightning.serving.choice import Delta, Shown
from gpt_lightning.serving.openai.request import Request
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.typing import JsonObject

FINISH = {"eos": "stop", "stop": "stop", "length": "length"}
TAIL = 16  # jetons qui suffisent à savoir ce qu'un de plus ajoute au texte


def text_increments(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Le texte que chaque jeton ajoute à ceux qui le précèdent ; vide, tant qu'un caractère n'est pas entier."""
    if ids and ids[0] == opening_id(tokenizer):
        return ["", *text_increments(tokenizer, ids[1:])]
    decode, increments = tokenizer.decode, []
    for place in range(len(ids)):
        window = ids[max(0, place + 1 - TAIL) : place + 1]
        before, after = (decode(part).rstrip("\ufffd") if part else "" for part in (window[:-1], window))
        increments.append(after[len(before) :] if after.startswith(before) else decode(window[-1:]))
    return increments


def token_text(tokenizer: Tokenizer, index: int) -> str:
    """Le texte d'un jeton ; un morceau de caractère s'écrit « bytes:\\xe2\\x80 », comme chez OpenAI."""
    return bytes_text(tokenizer.token_bytes(index))


def bytes_text(raw: bytes) -> str:
    """Le texte de ces octets, écrits un à un s'ils ne sont qu'un morceau de caractère."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class Answer:
    """La réponse à une demande, faite des `Delta` de ses complétions : d'un coup, ou morceau par morceau."""

    def __init__(self, request: Request, scores: Sequence[Sequence[Scored]] = ()) -> None:
        """`scores` : les mesures de chaque texte de départ que la réponse répète."""
        self.request, self.scores = request, scores
        self.counts = dict.fromkeys(range(len(request.choices)), 0)
        self._started: set[int] = set()  # les complétions dont le flux a déjà donné un morceau
        self._offsets: dict[int, list[int]] = {}

    def opening(self, index: int) -> Delta | None:
        """Le morceau qui précède la complétion `index` dans la réponse : son texte de départ, avec `echo`."""
        request = self.request
        if request.echoed is None:
            return None
        rank, tokenizer = index // request.n, request.model.tokenizer
        ids = request.prompts[rank]
        text = self._echo(rank)
        if request.top is None:
            return Delta(index, text)
        if rank not in self._offsets:  # les n complétions d'un texte ont le même départ
            ends = itertools.accumulate(map(len, text_increments(tokenizer, ids)), initial=0)
            self._offsets[rank] = [min(len(text), end) for end in itertools.islice(ends, len(ids))]
        first = Shown(Scored(ids[0], float("nan"), 0), 0)  # rien ne le précède : pas de mesure
        return Delta(index, text, (first, *map(Shown, self.scores[rank], self._offsets[rank][1:])))

    def _echo(self, rank: int) -> str:
        """Le texte de départ de rang `rank` ; de simples jetons sont décodés."""
        request = self.request
        assert request.echoed is not None
        text = request.echoed[rank]
        return prompt_text(request.model.tokenizer, request.prompts[rank]) if text is None else text

    def completion_choice(self, piece: Delta, *, shift: int = 0) -> JsonObject:
        """Un morceau de /v1/completions ; `shift` est la longueur de ce qui le précède dans sa complétion."""
        return {
            "index": piece.rank,
            "text": piece.text,
            "logprobs": None if self.request.top is None else self._trace(piece, shift),
            "finish_reason": FINISH[piece.reason] if piece.reason else None,
        }

    def _trace(self, piece: Delta, shift: int) -> JsonObject:
        tokens = piece.tokens
        scores = [token.scored if token.scored.rank > 0 else None for token in tokens]
        return {
            "tokens": [*map(bytes_text, self._bytes_of(piece))],
            "token_logprobs": [score.logprob if score else None for score in scores],
            "top_logprobs": [self._rivals(score) if score and self.request.top else None for score in scores],
            "text_offset": [token.offset + shift for token in tokens],
        }

    def _rivals(self, token: Scored) -> dict[str, float]:
        """Les candidats, et le jeton lui-même s'il n'en est pas."""
        return {self._text(index): value for index, value in (*token.top, (token.id, token.logprob))}

    def _text(self, index: int) -> str:
        return token_text(self.request.model.tokenizer, index)

    def _bytes_of(self, piece: Delta) -> list[bytes]:
        """Les octets de chaque jeton, sans l'espace que le tokenizer ajoute devant un texte et que le texte n'a pas."""
        tokenizer = self.request.model.tokenizer
        raw = [tokenizer.token_bytes(token.scored.id) for token in piece.tokens]
        opening = opening_id(tokenizer)
        first = next((rank for rank, token in enumerate(piece.tokens) if token.scored.id != opening), None)
        if first is not None and piece.tokens[first].offset == 0:
            spaces = (
                len(raw[first]) - len(raw[first].lstrip(b" ")),
                len(piece.text) - len(piece.text.lstrip(" ")),
            )
            raw[first] = raw[first][max(0, spaces[0] - spaces[1]) :]
        return raw

    def chat_logprobs(self, piece: Delta) -> JsonObject | None:
        """Les mesures d'un morceau de /v1/chat/completions."""
        if self.request.top is None:
            return None
        content = []
        bytes_of = self.request.model.tokenizer.token_bytes
        for (scored, *_), raw in zip(piece.tokens, self._bytes_of(piece), strict=True):
            rivals = [_chat_token(bytes_of(index), logprob) for index, logprob in scored.top]
            content.append(_chat_token(raw, scored.logprob) | {"top_logprobs": rivals})
        return {"content": content, "refusal": None}

    def envelope(self, choices: list[JsonObject], *, chunk: bool) -> JsonObject:
        """L'enveloppe des complétions d'une réponse, ou d'un morceau."""
        request = self.request
        kind = "chat.completion" if request.chat else "text_completion"
        return {
            "id": request.id,
            "object": kind + ".chunk" * (chunk and request.chat),
            "created": request.created,
            "model": request.model.name,
            "choices": choices,
        }

    def body(self, pieces: Iterable[Delta]) -> JsonObject:
        """La réponse entière, de tous ses morceaux."""
        request = self.request
        by_rank: dict[int, list[Delta]] = {index: [] for index in self.counts}
        for piece in pieces:
            by_rank[piece.rank].append(piece)
            self.counts[piece.rank] = piece.length
        choices = []
        for index, deltas in by_rank.items():
            text, reason = "".join(delta.text for delta in deltas), deltas[-1].reason if deltas else None
            tokens = tuple(token for delta in deltas for token in delta.tokens)
            joined = Delta(index, text, tokens, reason or "length")
            if request.chat:
                message = {"role": "assistant", "content": text, "refusal": None}
                choice = {"index": index, "message": message, "logprobs": self.chat_logprobs(joined)}
                choices.append(choice | {"finish_reason": FINISH[reason or "length"]})
                continue
            before = self.opening(index)
            choice = self.completion_choice(joined, shift=self._shift(index))
            choices.append(_join(self.completion_choice(before), choice) if before else choice)
        usage = request.token_usage(sum(self.counts.values()))
        return self.envelope(choices, chunk=False) | {"usage": usage}

    def chunks(self, piece: Delta) -> list[JsonObject]:
        """Les morceaux d'un flux que `piece` donne : ce qui précède la complétion d'abord, la première fois."""
        index, first = piece.rank, piece.rank not in self._started
        self._started.add(index)
        self.counts[index] = piece.length
        if self.request.chat:
            reason = FINISH[piece.reason] if piece.reason else None
            opening = {"role": "assistant", "content": "", "refusal": None}
            deltas: list[tuple[JsonObject, JsonObject | None, str | None]] = (
                [(opening, None, None)] if first else []
            )
            deltas.append(({"content": piece.text}, self.chat_logprobs(piece), reason))
            choices = [
                {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": why}
                for delta, logprobs, why in deltas
            ]
        else:
            before = self.opening(index) if first else None
            choices = [
                *([self.completion_choice(before)] if before else []),
                self.completion_choice(piece, shift=self._shift(index)),
            ]
        usage = {"usage": None} if self.request.usage else {}
        return [self.envelope([choice], chunk=True) | usage for choice in choices]

    def _shift(self, index: int) -> int:
        """La longueur de ce qui précède la complétion `index` dans la réponse."""
        return 0 if self.request.echoed is None else len(self._echo(index // self.request.n))

    def last_chunk(self) -> JsonObject | None:
        """Le compte des jetons, qui finit un flux si on l'a demandé."""
        if not self.request.usage:
            return None
        return self.envelope([], chunk=True) | {"usage": self.request.token_usage(sum(self.counts.values()))}


def _join(first: JsonObject, second: JsonObject) -> JsonObject:
    """Joint deux morceaux d'une même complétion."""
    traces = first["logprobs"], second["logprobs"]
    joined = {key: traces[0][key] + traces[1][key] for key in traces[0]} if traces[0] else None
    return second | {"text": first["text"] + second["text"], "logprobs": joined}


def _chat_token(raw: bytes, logprob: float) -> JsonObject:
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}
