"""Le protocole d'OpenAI : d'une demande à des suites à écrire, et de ce qui s'écrit à des réponses.

Source : la documentation de l'API d'OpenAI, routes /v1/completions et /v1/chat/completions.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gpt_lightning.decoding.batching import Row
from gpt_lightning.decoding.scored import Scored
from gpt_lightning.decoding.text import continuation_decoder, prompt_ids
from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.serving.fields import (
    COMMON,
    IDLE,
    Field,
    Refused,
    anything,
    boolean,
    integer,
    read,
    strategy,
)
from gpt_lightning.serving.worker import Choice, Piece, Shown
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.tokenizers.template import Message, Template

FINISH = {"eos": "stop", "stop": "stop", "length": "length"}
TAIL = 16  # jetons qui suffisent à savoir ce qu'un de plus ajoute au texte
CHOICES = 128  # suites d'une demande, toutes ensemble
COMPLETION = COMMON | {
    "prompt": Field(anything),
    "max_tokens": Field(integer(0, 1 << 20), 16),
    "n": Field(integer(1, CHOICES), 1),
    "echo": Field(boolean, False),
    "logprobs": Field(integer(0, 5)),
}
COMPLETION_IDLE = IDLE | {"best_of": (1,), "suffix": ("",)}
CHAT = COMMON | {
    "messages": Field(anything),
    "max_tokens": Field(integer(1, 1 << 20)),
    "max_completion_tokens": Field(integer(1, 1 << 20)),
    "n": Field(integer(1, CHOICES), 1),
    "logprobs": Field(boolean, False),
    "top_logprobs": Field(integer(0, 20)),
}
CHAT_IDLE = IDLE | {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
}
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Model(NamedTuple):
    """Ce qu'il faut savoir du modèle pour lire une demande : son nom, son tokenizer, ses limites, son gabarit."""

    name: str
    tokenizer: Tokenizer
    context: int
    rows: int  # suites qui s'écrivent ensemble, au plus
    template: Template | None = None
    created: int = 0

    def listed(self) -> dict[str, Any]:
        """Le modèle, tel que /v1/models le montre."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "gpt_lightning"}


@dataclass(frozen=True)
class Request:
    """Une demande lue : ses suites, par texte de départ, et la forme de sa réponse."""

    id: str
    created: int
    model: Model
    chat: bool
    groups: list[list[Choice]]
    prompts: list[list[int]]  # les jetons de chaque texte de départ
    n: int
    stream: bool
    usage: bool  # finir un flux par le compte des jetons
    top: int | None  # candidats montrés à chaque jeton ; None : aucune mesure
    max_tokens: int
    echoed: list[str | None] | None = None  # les textes de départ, à rendre devant leur suite

    @property
    def choices(self) -> list[Choice]:
        """Toutes les suites, dans l'ordre de leurs rangs."""
        return [one for group in self.groups for one in group]

    def counted(self, written: int) -> dict[str, int]:
        """Le compte des jetons, quand `written` ont été écrits."""
        read_once = sum(map(len, self.prompts))
        return {
            "prompt_tokens": read_once,
            "completion_tokens": written,
            "total_tokens": read_once + written,
        }


def completion(body: Mapping[str, Any], model: Model) -> Request:
    """Une demande de /v1/completions. Refused, qui nomme le champ, si elle n'a pas de sens."""
    values = read(body, COMPLETION, COMPLETION_IDLE)
    known_model(values["model"], model)
    prompts = _prompts(values["prompt"], values["n"], model)
    texts = [text for text, _ in prompts]
    decoders = [decoder(model.tokenizer, text, ids) for text, ids in prompts]
    shown = texts if values["echo"] else None
    return _request(
        values, model, [ids for _, ids in prompts], decoders, top=values["logprobs"], echoed=shown
    )


def chat(body: Mapping[str, Any], model: Model) -> Request:
    """Une demande de /v1/chat/completions. Refused si le modèle n'a jamais appris à répondre."""
    values = read(body, CHAT, CHAT_IDLE)
    known_model(values["model"], model)
    if model.template is None:
        raise Refused(
            "Ce modèle n'a pas appris à répondre : /v1/completions continue un texte, et python train.py "
            "experiment=instruct lui apprend.",
            param="messages",
            code="not_a_chat_model",
        )
    if values["top_logprobs"] is not None and not values["logprobs"]:
        raise Refused("top_logprobs demande logprobs=true.", param="top_logprobs")
    if values["max_tokens"] is not None and values["max_completion_tokens"] is not None:
        raise Refused(
            "max_tokens est l'ancien nom de max_completion_tokens : donnez l'un des deux.", param="max_tokens"
        )
    values["max_tokens"] = values["max_completion_tokens"] or values["max_tokens"] or model.context
    values["stop"] = (*values["stop"], *model.template.stop)
    try:
        ids = model.template.opening(_messages(values["messages"]))
    except UserError as error:
        raise Refused(str(error), param="messages") from None
    top = (values["top_logprobs"] or 0) if values["logprobs"] else None
    return _request(values, model, [ids], [model.tokenizer.decode], top=top, is_chat=True)


def _request(
    values: Mapping[str, Any],
    model: Model,
    prompts: list[list[int]],
    decoders: Sequence[Callable[[list[int]], str]],
    *,
    top: int | None,
    echoed: list[str | None] | None = None,
    is_chat: bool = False,
) -> Request:
    n, most = values["n"], values["max_tokens"]
    if n > model.rows:
        raise Refused(f"n={n} : ce serveur écrit {model.rows} suites ensemble, au plus.", param="n")
    for ids in prompts:
        refuse_too_long(model, ids, most, "messages" if is_chat else "prompt")
    how = {"strategy": strategy(values), "max_new_tokens": most, "seed": values["seed"], "top": top}
    how["eos_id"] = model.tokenizer.eos_id
    groups = [
        [
            Choice(rank, Row(ids, rank=rank, **how), decode, values["stop"])
            for rank in range(first * n, (first + 1) * n)
        ]
        for first, (ids, decode) in enumerate(zip(prompts, decoders, strict=True))
    ]
    return Request(
        id=f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=model,
        chat=is_chat,
        groups=groups,
        prompts=prompts,
        n=n,
        stream=values["stream"],
        usage=values["stream_options"],
        top=top,
        max_tokens=most,
        echoed=echoed,
    )


def refuse_too_long(model: Model, ids: Sequence[int], most: int, param: str) -> None:
    """Refused, au nom du champ `param`, si `ids` et une suite de `most` jetons ne tiennent pas dans le contexte."""
    if len(ids) + (most > 0 and len(ids) == model.context) > model.context:
        raise Refused(
            f"{len(ids)} jetons, et ce modèle en lit {model.context}, suite comprise : raccourcissez le texte.",
            param=param,
            code="context_length_exceeded",
        )


def known_model(name: str | None, model: Model) -> None:
    """Refused (404) si ce n'est pas le nom du modèle servi ; aucun nom est le sien."""
    if name not in (None, model.name):
        raise Refused(
            f"Le modèle {name[:60]} n'est pas ici : ce serveur a {model.name}.",
            status=404,
            param="model",
            code="model_not_found",
        )


def _prompts(value: Any, n: int, model: Model) -> list[tuple[str | None, list[int]]]:
    """Les textes de départ (None, s'il n'y a que des jetons) et leurs jetons ; `value` en est un, ou une liste."""
    if value is None:
        value = ""
    listed = value if isinstance(value, list) else [value]
    if value and isinstance(value, list) and all(isinstance(one, int) for one in value):
        listed = [value]
    if not listed:
        raise Refused("prompt est une liste vide.", param="prompt")
    if len(listed) * n > CHOICES:  # avant de lire des textes par milliers
        raise Refused(f"{len(listed)} textes et n={n} : une demande a {CHOICES} suites au plus.", param="n")
    return [_prompt(one, model) for one in listed]


def _prompt(value: Any, model: Model) -> tuple[str | None, list[int]]:
    try:
        if isinstance(value, str):
            return value, prompt_ids(model.tokenizer, value)
        return None, token_ids("prompt", value, model.tokenizer)
    except UserError as error:
        raise Refused(str(error), param="prompt", code="invalid_value") from None


def token_ids(name: str, value: Any, tokenizer: Tokenizer) -> list[int]:
    """Des identifiants du vocabulaire. UserError sinon."""
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{name} : il faut un texte, des identifiants de jetons, ou une liste des uns ou des autres."
        )
    return [whole(name, one, 0, tokenizer.vocab_size - 1) for one in value]


def decoder(tokenizer: Tokenizer, text: str | None, ids: list[int]) -> Callable[[list[int]], str]:
    """Ce qui décode la suite de `text`, dont `ids` sont les jetons ; sans texte, ils en tiennent lieu."""
    return continuation_decoder(tokenizer, tokenizer.decode(ids) if text is None else text, ids)


def _messages(value: Any) -> list[Message]:
    """Les messages d'une conversation. UserError qui dit lequel ne va pas."""
    if not isinstance(value, list) or not value:
        raise UserError("messages : il faut une liste de messages, qui n'est pas vide.")
    found = []
    for rank, one in enumerate(value):
        where = f"messages[{rank}]"
        if not isinstance(one, dict):
            raise UserError(f'{where} : il faut un objet, {{"role": ..., "content": ...}}.')
        unknown = sorted(set(one) - {"role", "content", "name"})
        if any(one[key] not in (None, []) for key in unknown):
            raise UserError(f"{where} : {', '.join(unknown)[:60]} n'est pas pris en charge.")
        role = choice(f"{where}.role", one.get("role"), ROLES)
        found.append(Message(ROLES[role], _content(f"{where}.content", one.get("content"))))
    return found


def _content(where: str, value: Any) -> str:
    """Le texte d'un message : une chaîne, ou une liste de morceaux de texte."""
    parts = value if isinstance(value, list) else [{"type": "text", "text": value}]
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise UserError(f'{where} : il faut un texte, ou des morceaux {{"type": "text", "text": ...}}.')
        texts.append(part["text"])
    return "".join(texts)


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
    """La réponse à une demande, faite des `Piece` de ses suites : d'un coup, ou morceau par morceau."""

    def __init__(self, request: Request, measured: Sequence[Sequence[Scored]] = ()) -> None:
        """`measured` : les mesures de chaque texte de départ que la réponse répète."""
        self.request, self.measured = request, measured
        self.counts = dict.fromkeys(range(len(request.choices)), 0)
        self._opened: set[int] = set()
        self._offsets: dict[int, list[int]] = {}

    def opening(self, index: int) -> Piece | None:
        """Ce qui précède la suite `index` dans la réponse : son texte de départ, avec `echo`."""
        one = self.request
        if one.echoed is None or index in self._opened:
            return None
        self._opened.add(index)
        rank, tokenizer = index // one.n, one.model.tokenizer
        ids = one.prompts[rank]
        text = self._echo(rank)
        if one.top is None:
            return Piece(index, text)
        if rank not in self._offsets:  # les n suites d'un texte ont le même départ
            ends = itertools.accumulate(map(len, added(tokenizer, ids)), initial=0)
            self._offsets[rank] = [min(len(text), end) for end in itertools.islice(ends, len(ids))]
        first = Shown(Scored(ids[0], float("nan"), 0), 0)  # rien ne le précède : pas de mesure
        return Piece(index, text, (first, *map(Shown, self.measured[rank], self._offsets[rank][1:])))

    def _echo(self, rank: int) -> str:
        """Le texte de départ de rang `rank` ; de simples jetons sont décodés."""
        one = self.request
        assert one.echoed is not None
        text = one.echoed[rank]
        return one.model.tokenizer.decode(one.prompts[rank]) if text is None else text

    def part(self, piece: Piece, *, shift: int = 0) -> dict[str, Any]:
        """Un morceau de /v1/completions ; `shift` est la longueur de ce qui précède cette suite."""
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
        """Ce qui entoure les suites d'une réponse, ou d'un morceau."""
        one = self.request
        kind = "chat.completion" if one.chat else "text_completion"
        return {
            "id": one.id,
            "object": kind + ".chunk" * (chunk and one.chat),
            "created": one.created,
            "model": one.model.name,
            "choices": choices,
        }

    def whole(self, pieces: Iterable[Piece]) -> dict[str, Any]:
        """La réponse entière, de tous ses morceaux."""
        request = self.request
        texts: dict[int, list[Piece]] = {index: [] for index in self.counts}
        for piece in pieces:
            texts[piece.rank].append(piece)
            self.counts[piece.rank] = piece.length
        choices = []
        for index, several in texts.items():
            text, reason = "".join(one.text for one in several), several[-1].reason if several else None
            tokens = tuple(token for one in several for token in one.tokens)
            joined = Piece(index, text, tokens, reason or "length")
            if request.chat:
                message = {"role": "assistant", "content": text, "refusal": None}
                made = {"index": index, "message": message, "logprobs": self.said(tokens)}
                choices.append(made | {"finish_reason": FINISH[joined.reason or "length"]})
                continue
            before = self.opening(index)
            made = self.part(joined, shift=len(before.text) if before else 0)
            choices.append(_after(self.part(before), made) if before else made)
        found = self.envelope(choices, chunk=False)
        return found | {"usage": request.counted(sum(self.counts.values()))}

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """Les morceaux d'un flux que `piece` donne : ce qui précède la suite d'abord, la première fois."""
        self.counts[piece.rank] = piece.length
        if self.request.chat:
            choice = {
                "index": piece.rank,
                "delta": {"content": piece.text},
                "logprobs": self.said(piece.tokens),
            }
            choices = [choice | {"finish_reason": FINISH[piece.reason] if piece.reason else None}]
            if piece.rank not in self._opened:
                self._opened.add(piece.rank)
                first = {"role": "assistant", "content": "", "refusal": None}
                choices.insert(
                    0, {"index": piece.rank, "delta": first, "logprobs": None, "finish_reason": None}
                )
        else:
            before = self.opening(piece.rank)
            shift = self._shift(piece.rank)
            choices = [*([self.part(before)] if before else []), self.part(piece, shift=shift)]
        found = [self.envelope([one], chunk=True) for one in choices]
        return [one | {"usage": None} for one in found] if self.request.usage else found

    def _shift(self, index: int) -> int:
        one = self.request
        if one.echoed is None:
            return 0
        rank = index // one.n
        return len(self._echo(rank))

    def last_chunk(self) -> dict[str, Any] | None:
        """Le compte des jetons, qui finit un flux si on l'a demandé."""
        if not self.request.usage:
            return None
        return self.envelope([], chunk=True) | {"usage": self.request.counted(sum(self.counts.values()))}


def _after(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Deux morceaux d'une même suite, l'un après l'autre."""
    traces = first["logprobs"], second["logprobs"]
    joined = {key: traces[0][key] + traces[1][key] for key in traces[0]} if traces[0] else None
    return second | {"text": first["text"] + second["text"], "logprobs": joined}
