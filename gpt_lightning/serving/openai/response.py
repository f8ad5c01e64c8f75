"""La réponse à une demande, dans la forme du protocole d'OpenAI : d'un coup, ou morceau par morceau."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from gpt_lightning.decoding.logprobs import Scored
from gpt_lightning.serving.choice import Delta, Shown
from gpt_lightning.serving.openai.request import Request
from gpt_lightning.tokenizers import Tokenizer

FINISH = {"eos": "stop", "stop": "stop", "length": "length"}
TAIL = 16  # jetons qui suffisent à savoir ce qu'un de plus ajoute au texte


def added(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Ce que chaque jeton ajoute au texte de ceux qui le précèdent ; rien, tant qu'un caractère n'est pas entier."""
    decode, found = tokenizer.decode, []
    for place in range(len(ids)):
        window = ids[max(0, place + 1 - TAIL) : place + 1]
        before, after = (decode(part).rstrip("\ufffd") if part else "" for part in (window[:-1], window))
        found.append(after[len(before) :] if after.startswith(before) else decode(window[-1:]))
    return found


def token_text(tokenizer: Tokenizer, index: int) -> str:
    """Le texte d'un jeton ; un morceau de caractère s'écrit « bytes:\\xe2\\x80 », comme chez OpenAI."""
    raw = tokenizer.token_bytes(index)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class Answer:
    """La réponse à une demande, faite des `Delta` de ses complétions : d'un coup, ou morceau par morceau."""

    def __init__(self, request: Request, measured: Sequence[Sequence[Scored]] = ()) -> None:
        """`measured` : les mesures de chaque texte de départ que la réponse répète."""
        self.request, self.measured = request, measured
        self.counts = dict.fromkeys(range(len(request.choices)), 0)
        self._begun: set[int] = set()  # les complétions dont le flux a déjà donné un morceau
        self._offsets: dict[int, list[int]] = {}

    def opening(self, index: int) -> Delta | None:
        """Ce qui précède la complétion `index` dans la réponse : son texte de départ, avec `echo`."""
        one = self.request
        if one.echoed is None:
            return None
        rank, tokenizer = index // one.n, one.model.tokenizer
        ids = one.prompts[rank]
        text = self._echo(rank)
        if one.top is None:
            return Delta(index, text)
        if rank not in self._offsets:  # les n complétions d'un texte ont le même départ
            ends = itertools.accumulate(map(len, added(tokenizer, ids)), initial=0)
            self._offsets[rank] = [min(len(text), end) for end in itertools.islice(ends, len(ids))]
        first = Shown(Scored(ids[0], float("nan"), 0), 0)  # rien ne le précède : pas de mesure
        return Delta(index, text, (first, *map(Shown, self.measured[rank], self._offsets[rank][1:])))

    def _echo(self, rank: int) -> str:
        """Le texte de départ de rang `rank` ; de simples jetons sont décodés."""
        one = self.request
        assert one.echoed is not None
        text = one.echoed[rank]
        return one.model.tokenizer.decode(one.prompts[rank]) if text is None else text

    def part(self, piece: Delta, *, shift: int = 0) -> dict[str, Any]:
        """Un morceau de /v1/completions ; `shift` est la longueur de ce qui le précède dans sa complétion."""
        return {
            "index": piece.rank,
            "text": piece.text,
            "logprobs": None if self.request.top is None else self._trace(piece.tokens, shift),
            "finish_reason": FINISH[piece.reason] if piece.reason else None,
        }

    def _trace(self, tokens: Iterable[Shown], shift: int) -> dict[str, Any]:
        tokens, named = list(tokens), self._named
        known = [one.scored.rank > 0 for one in tokens]
        return {
            "tokens": [named(one.scored.id) for one in tokens],
            "token_logprobs": [
                one.scored.logprob if k else None for one, k in zip(tokens, known, strict=True)
            ],
            "top_logprobs": [
                self._rivals(one.scored) if k and self.request.top else None
                for one, k in zip(tokens, known, strict=True)
            ],
            "text_offset": [one.offset + shift for one in tokens],
        }

    def _rivals(self, one: Scored) -> dict[str, float]:
        """Les candidats, et le jeton lui-même s'il n'en est pas."""
        return {self._named(index): value for index, value in (*one.top, (one.id, one.logprob))}

    def _named(self, index: int) -> str:
        return token_text(self.request.model.tokenizer, index)

    def said(self, tokens: Iterable[Shown]) -> dict[str, Any] | None:
        """Les mesures d'un morceau de /v1/chat/completions."""
        if self.request.top is None:
            return None
        content = []
        for scored, *_ in tokens:
            rivals = [self._measured(*one) for one in scored.top]
            content.append(self._measured(scored.id, scored.logprob) | {"top_logprobs": rivals})
        return {"content": content, "refusal": None}

    def _measured(self, index: int, logprob: float) -> dict[str, Any]:
        raw = self.request.model.tokenizer.token_bytes(index)
        return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}

    def envelope(self, choices: list[dict[str, Any]], *, chunk: bool) -> dict[str, Any]:
        """Ce qui entoure les complétions d'une réponse, ou d'un morceau."""
        one = self.request
        kind = "chat.completion" if one.chat else "text_completion"
        return {
            "id": one.id,
            "object": kind + ".chunk" * (chunk and one.chat),
            "created": one.created,
            "model": one.model.name,
            "choices": choices,
        }

    def whole(self, pieces: Iterable[Delta]) -> dict[str, Any]:
        """La réponse entière, de tous ses morceaux."""
        request = self.request
        texts: dict[int, list[Delta]] = {index: [] for index in self.counts}
        for piece in pieces:
            texts[piece.rank].append(piece)
            self.counts[piece.rank] = piece.length
        choices = []
        for index, several in texts.items():
            text, reason = "".join(one.text for one in several), several[-1].reason if several else None
            tokens = tuple(token for one in several for token in one.tokens)
            joined = Delta(index, text, tokens, reason or "length")
            if request.chat:
                message = {"role": "assistant", "content": text, "refusal": None}
                made = {"index": index, "message": message, "logprobs": self.said(tokens)}
                choices.append(made | {"finish_reason": FINISH[reason or "length"]})
                continue
            before = self.opening(index)
            made = self.part(joined, shift=self._shift(index))
            choices.append(_after(self.part(before), made) if before else made)
        found = self.envelope(choices, chunk=False)
        return found | {"usage": request.counted(sum(self.counts.values()))}

    def chunks(self, piece: Delta) -> list[dict[str, Any]]:
        """Les morceaux d'un flux que `piece` donne : ce qui précède la complétion d'abord, la première fois."""
        index, first = piece.rank, piece.rank not in self._begun
        self._begun.add(index)
        self.counts[index] = piece.length
        if self.request.chat:
            reason = FINISH[piece.reason] if piece.reason else None
            opening = {"role": "assistant", "content": "", "refusal": None}
            deltas: list[tuple[dict[str, Any], Any, str | None]] = [(opening, None, None)] if first else []
            deltas.append(({"content": piece.text}, self.said(piece.tokens), reason))
            choices = [
                {"index": index, "delta": delta, "logprobs": said, "finish_reason": why}
                for delta, said, why in deltas
            ]
        else:
            before = self.opening(index) if first else None
            choices = [*([self.part(before)] if before else []), self.part(piece, shift=self._shift(index))]
        found = [self.envelope([one], chunk=True) for one in choices]
        return [one | {"usage": None} for one in found] if self.request.usage else found

    def _shift(self, index: int) -> int:
        """La longueur de ce qui précède la complétion `index` dans la réponse."""
        return 0 if self.request.echoed is None else len(self._echo(index // self.request.n))

    def last_chunk(self) -> dict[str, Any] | None:
        """Le compte des jetons, qui finit un flux si on l'a demandé."""
        if not self.request.usage:
            return None
        return self.envelope([], chunk=True) | {"usage": self.request.counted(sum(self.counts.values()))}


def _after(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Deux morceaux d'une même complétion, l'un après l'autre."""
    traces = first["logprobs"], second["logprobs"]
    joined = {key: traces[0][key] + traces[1][key] for key in traces[0]} if traces[0] else None
    return second | {"text": first["text"] + second["text"], "logprobs": joined}
