"""Afficher le texte des jetons : jamais une moitié de caractère, jamais un début de texte d'arrêt."""

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from gpt_lightning.decoding.generation import stream
from gpt_lightning.decoding.prefixes import PrefixCache
from gpt_lightning.decoding.strategy import Strategy
from gpt_lightning.model.cache import LanguageModel


class TextCodec(Protocol):
    """Ce que la génération attend d'un tokenizer."""

    @property
    def eos_id(self) -> int | None: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def token_bytes(self, index: int) -> bytes: ...


@dataclass
class GrowingText:
    """Le texte d'une complétion, donné à mesure qu'il est sûr.

    Un caractère peut tenir sur deux jetons, un texte de `stop` aussi : ce qui pourrait encore changer est
    retenu. Le texte d'arrêt lui-même n'est pas donné.
    """

    decode: Callable[[list[int]], str]
    stop: Sequence[str] = ()
    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    _shown: int = 0

    def push(self, token: int) -> str:
        """Ajoute un jeton ; renvoie le texte nouveau, peut-être vide."""
        self.ids.append(token)
        return self._grow(final=False)

    def finish(self) -> str:
        """Renvoie le reste, quand plus rien ne viendra."""
        return self._grow(final=True)

    def _grow(self, final: bool) -> str:
        if self.stopped:
            return ""
        text = self.decode(self.ids)
        positions = [text.index(stop) for stop in self.stop if stop in text]
        if positions:
            self.stopped = True
            text = text[: min(positions)]
        elif not final:
            text = text.rstrip("\ufffd")
            text = text[: len(text) - max((_overlap(text, stop) for stop in self.stop), default=0)]
        new, self._shown = text[self._shown :], max(self._shown, len(text))
        return new


def _overlap(text: str, stop: str) -> int:
    """Longueur du plus long début de `stop` qui termine `text`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def prompt_ids(tokenizer: TextCodec, prompt: str) -> list[int]:
    """Les jetons d'un texte de départ, après celui que le tokenizer met devant un texte, s'il en a un.

    Vide, il commence par la fin de texte (ou le premier jeton).
    """
    start, ids = opening_id(tokenizer), tokenizer.encode(prompt)
    if start is not None:
        return [start, *ids]
    return ids or [tokenizer.eos_id if tokenizer.eos_id is not None else 0]


def prompt_text(tokenizer: TextCodec, ids: Sequence[int]) -> str:
    """Le texte de départ dont ce sont les jetons."""
    return tokenizer.decode(ids[1:] if ids and ids[0] == opening_id(tokenizer) else ids)


def opening_id(tokenizer: TextCodec) -> int | None:
    """Le jeton qui n'a pas de texte et commence tout texte de départ ; None pour presque tous les tokenizers."""
    return getattr(tokenizer, "bos_id", None)


@dataclass
class Continuation:
    """La complétion d'un texte : ses jetons, son texte, leurs log-probabilités (vide si non demandées), et sa fin.

    `reason` vaut eos, stop ou length ; None tant que la complétion n'est pas finie. `unread` compte les jetons du début
    du texte de départ qui n'entrent pas dans le contexte.
    """

    prompt: str
    unread: int = 0
    ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[float] = field(default_factory=list)
    reason: str | None = None


class TextStream:
    """Les complétions des textes de `prompts`, `num_samples` chacun : itérer donne (ligne, bout de texte affichable).

    `rows` tient une `Continuation` par ligne, à jour à chaque pas, même si l'on s'arrête avant la fin. La ligne r
    continue prompts[r // num_samples]. `ids` donne les jetons de chaque texte s'ils ne sont pas ceux du
    tokenizer : une conversation dans son gabarit, dont `prompts` est la question. Les autres arguments sont ceux de
    `stream`.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: TextCodec,
        prompts: Sequence[str],
        *,
        strategy: Strategy,
        max_new_tokens: int,
        seed: int | None = None,
        num_samples: int = 1,
        stop: Sequence[str] = (),
        logprobs: bool = False,
        first_row: int = 0,
        ids: Sequence[list[int]] | None = None,
    ) -> None:
        self._stop = stop
        if ids is None:
            starts = [prompt_ids(tokenizer, prompt) for prompt in prompts]
        else:
            starts = [list(start) for start in ids]
        self._stream = partial(
            stream,
            model,
            starts,
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            eos_id=tokenizer.eos_id,
            seed=seed,
            num_samples=num_samples,
            logprobs=logprobs,
            first_row=first_row,
        )
        context = model.config.context_length
        self.rows: list[Continuation] = []
        self._decoders = []
        for prompt, start in zip(prompts, starts, strict=True):
            for _ in range(num_samples):
                self.rows.append(Continuation(prompt, max(0, len(start) - context)))
                own = tokenizer.decode if ids else continuation_decoder(tokenizer, prompt, start)
                self._decoders.append(own)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        texts = [GrowingText(decode, self._stop) for decode in self._decoders]
        until = self._stops if self._stop else None
        for tokens in self._stream(until=until):
            for token in tokens:
                row = self.rows[token.row]
                row.ids.append(token.id)
                if token.logprob is not None:
                    row.logprobs.append(token.logprob)
                text = "" if token.reason == "eos" else texts[token.row].push(token.id)
                if token.reason is not None:
                    row.reason = token.reason
                    text += texts[token.row].finish()
                row.text += text
                if text:
                    yield token.row, text
        for row in self.rows:
            row.reason = row.reason or "length"  # max_new_tokens=0

    def _stops(self, row: int, new: list[int]) -> bool:
        text = self._decoders[row](new)
        return any(stop in text for stop in self._stop)


class AnswerStream(TextStream):
    """La réponse à une conversation, dont `ids` sont les jetons : `beginning` est le début de réponse à continuer.

    Le texte est ce qui suit ce début ; "" : la réponse n'est pas commencée. Ce que `prefixes` garde des tours d'avant
    n'est pas relu. `options` sont celles de `TextStream`.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: TextCodec,
        ids: list[int],
        beginning: str,
        prefixes: PrefixCache | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, tokenizer, [beginning], ids=[ids], **options)
        self._stream = partial(self._stream, prefixes=prefixes)
        self._decoders = [continuation_decoder(tokenizer, beginning, ids)]


def continuation_decoder(tokenizer: TextCodec, prompt: str, ids: list[int]) -> Callable[[list[int]], str]:
    """Une fonction qui décode la complétion de `prompt` : un mot y prend une espace devant lui, une apostrophe non."""
    if not prompt:
        return tokenizer.decode
    tail = ids[-16:]  # assez pour savoir ce qui précède, sans tout relire à chaque jeton
    before = len(tokenizer.decode(tail)) - _count_replacements(tokenizer, tail)
    return lambda new: tokenizer.decode(tail + new)[before:]


def _count_replacements(tokenizer: TextCodec, ids: list[int]) -> int:
    """Compte les caractères de remplacement qui finissent ce texte parce que son dernier caractère n'est pas entier."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(b"".join(tokenizer.token_bytes(index) for index in ids))
    return len(decoder.getstate()[0].decode("utf-8", "replace"))
