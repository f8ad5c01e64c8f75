"""Le gabarit d'une conversation : écrire des messages en identifiants, et marquer ceux qui sont à apprendre.

`texte` écrit des titres français et n'a besoin d'aucun jeton nouveau : il va à tout tokenizer. Les autres encadrent
chaque message de jetons spéciaux : `chatml`, que ses deux jetons, ajoutés s'il le faut, ouvrent aussi à tout tokenizer,
`llama3` et `qwen3`. « nom:consigne » donne une consigne à la conversation qui n'en a pas. Ce qu'un message contient
reste du texte, même s'il ressemble à un jeton spécial.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from os.path import commonprefix
from typing import NamedTuple

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import from_state
from gpt_lightning.tokenizers.base import MarkedTokenizer, Tokenizer
from gpt_lightning.tokenizers.chat import MARKS, ChatTokenizer
from gpt_lightning.tokenizers.dialects import (
    DIALECTS,
    FINISHED,
    NO_THOUGHT,
    TEMPLATES,
    THOUGHT,
    TITLES,
    Dialect,
    read_name,
)
from gpt_lightning.tokenizers.huggingface import HuggingFaceTokenizer
from gpt_lightning.tokenizers.jinja import jinja
from gpt_lightning.tokenizers.messages import Message, arrange


class Part(NamedTuple):
    """Un bout de conversation : du texte, ou l'identifiant d'un jeton.

    `answers` s'il est d'une réponse, `learned` si son message peut être appris.
    """

    content: str | int
    answers: bool
    learned: bool


@dataclass(frozen=True)
class Template:
    """Le gabarit `name` pour `tokenizer`. UserError si ce tokenizer n'a pas ses jetons, ou n'écrit pas ses titres."""

    name: str
    tokenizer: Tokenizer
    key: str = "data.template"  # le réglage que les phrases nomment

    def __post_init__(self) -> None:
        read_name(self.name, self.key)
        if missing := [mark for mark in self.dialect.marks if self._special_id(mark) is None]:
            raise UserError(
                f"{self.key}={self.kind} : ce tokenizer n'a pas {', '.join(missing)} ; prenez {self.key}=chatml, qui "
                f"ajoute ses jetons, ou {self.key}=texte, qui n'en a pas."
            )
        if self.kind != "texte":
            return
        for title in TITLES.values():
            try:
                written = self.tokenizer.decode(self.tokenizer.encode(title))
            except UserError:
                written = ""
            if _letters(written) != _letters(title):
                raise UserError(
                    f"{self.key}=texte : ce tokenizer ne sait pas écrire « {title} » ; prenez {self.key}=chatml."
                )

    @cached_property
    def kind(self) -> str:
        """Le nom, sans la consigne."""
        return read_name(self.name, self.key)[0]

    @cached_property
    def dialect(self) -> Dialect:
        return DIALECTS[self.kind]

    def render(
        self, messages: Sequence[Message], *, everything: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Les identifiants de la conversation, et lesquels sont à apprendre : les réponses et leur fin.

        `everything` apprend aussi le reste, mais jamais un message marqué. BadMessage si `arrange` refuse les messages.
        """
        ids: list[int] = []
        mask: list[bool] = []
        for part, new in self._encode([*self._parts(arrange(messages)), *self._read(self.last)]):
            ids += new
            mask += [part.learned and (part.answers or everything)] * len(new)
        return ids, mask

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Les identifiants de la conversation, jusqu'à l'endroit où l'assistant répond.

        Si elle finit par un message de l'assistant, c'est le début de sa réponse : ils s'arrêtent au bout, sans sa fin.
        """
        return self._open(arrange(messages))

    def asking(self, question: str) -> list[int]:
        """Les identifiants d'une seule question, jusqu'à l'endroit où l'assistant répond ; elle peut être vide."""
        message = Message("user", question)
        return self._open(arrange([message]) if question.strip() else [message])

    def _open(self, messages: Sequence[Message]) -> list[int]:
        unfinished = messages[-1].role == "assistant"
        parts = [*self._parts(messages, unfinished=unfinished)]
        if not unfinished:
            parts += self._read(self._before("assistant", True) + NO_THOUGHT * self.dialect.thinks)
        return [index for _, new in self._encode(parts) for index in new]

    @cached_property
    def eos_id(self) -> int | None:
        """Le jeton qui finit une réponse ; None si c'est un texte, celui de `stop`."""
        return self._special_id(self.dialect.end) if self.dialect.marks else self.tokenizer.eos_id

    @property
    def stop(self) -> tuple[str, ...]:
        """Les textes qui finissent une réponse, si ce n'est pas un jeton."""
        return () if self.eos_id is not None else (FINISHED.strip(),)

    @property
    def last(self) -> str:
        """Ce qui suit une conversation finie : ce qui sépare deux messages, si les jetons sont ceux du tokenizer.

        C'est ce que le gabarit officiel écrit. Après les jetons que `ChatTokenizer` ajoute, il n'y a rien.
        """
        added = isinstance(self.tokenizer, ChatTokenizer) and self.tokenizer.adds
        return self.dialect.separator if self.dialect.marks and not added else ""

    def jinja(self) -> str:
        """Le gabarit tel que `apply_chat_template` de Hugging Face le lit."""
        end = FINISHED if self.eos_id is None else self.tokenizer.decode([self.eos_id])
        return jinja(self.name, end=end, last=self.last)

    @cached_property
    def _joins(self) -> bool:
        return isinstance(self._base, MarkedTokenizer)

    @cached_property
    def _base(self) -> Tokenizer:
        """Le tokenizer, sans les jetons que ChatTokenizer ajoute."""
        return self.tokenizer.base if isinstance(self.tokenizer, ChatTokenizer) else self.tokenizer

    def _special_id(self, content: str) -> int | None:
        return self.tokenizer.special_id(content) if isinstance(self.tokenizer, MarkedTokenizer) else None

    def _encode(self, parts: Sequence[Part]) -> Iterator[tuple[Part, list[int]]]:
        """Les identifiants de chaque bout.

        Avec un tokenizer qui a ses jetons spéciaux, le texte entre deux de ces jetons s'encode d'un seul tenant, comme
        le fait transformers : un jeton à cheval sur deux bouts est du second. Avec un autre, chaque bout est encodé
        seul.
        """
        for is_mark, run in groupby(parts, lambda part: isinstance(part.content, int)):
            if is_mark or not self._joins:
                for part in run:
                    yield part, self._ids(part.content)
                continue
            texts, text, done = list(run), "", 0
            everything = self._ids("".join(str(part.content) for part in texts))
            for part in texts[:-1]:
                text += str(part.content)
                end = max(done, len(commonprefix([self._ids(text), everything])))
                yield part, everything[done:end]
                done = end
            yield texts[-1], everything[done:]

    def _ids(self, content: str | int) -> list[int]:
        if isinstance(content, int):
            return [content]
        if isinstance(self._base, HuggingFaceTokenizer):
            return self._base.encode_content(content)
        return self.tokenizer.encode(content)

    def _read(self, text: str, answers: bool = False, learned: bool = True) -> list[Part]:
        """Les bouts de `text`, que le gabarit écrit : ses jetons spéciaux en sont."""
        pieces = self._cut.split(text) if self._marks else [text]
        contents = [self._marks.get(piece, piece) for piece in pieces if piece]
        return [Part(content, answers, learned) for content in contents]

    @cached_property
    def _cut(self) -> re.Pattern[str]:
        return re.compile(f"({'|'.join(map(re.escape, self._marks))})")

    @cached_property
    def _marks(self) -> dict[str, int]:
        """Les jetons spéciaux que le gabarit écrit, ceux que le tokenizer a."""
        marks = (*self.dialect.marks, *(THOUGHT if self.dialect.thinks else ()))
        return {mark: index for mark in marks if (index := self._special_id(mark)) is not None}

    def _parts(self, messages: Sequence[Message], *, unfinished: bool = False) -> Iterator[Part]:
        """Les bouts de ces messages ; `unfinished` : sans la fin du dernier."""
        told = [message._replace(content=message.content.strip()) for message in messages]
        system = read_name(self.name, self.key)[1]
        if system is not None and told[0].role != "system":
            told.insert(0, Message("system", system))
        asked = _last_question(told)
        for rank, (role, content, learned) in enumerate(told):
            answers, is_last = role == "assistant", rank == len(told) - 1
            before, thought = self._before(role, rank > 0), ""
            if answers and self.dialect.thinks:
                thought, content = split_thought(content)
                if rank > asked and not thought and is_last:
                    before += NO_THOUGHT
            yield from self._read(before, learned=learned)
            if thought and rank > asked:
                yield from self._read("<think>\n", True, learned)
                yield Part(thought, True, learned)
                yield from self._read("\n</think>\n\n", True, learned)
            yield Part(content, answers, learned)
            if not (unfinished and is_last):
                yield from self._after(answers, learned)

    def _before(self, role: str, follows: bool) -> str:
        """Ce qui précède un message."""
        first = self.dialect.separator if follows else self.dialect.start
        return first + self.dialect.heading.format(role=role, title=TITLES[role])

    def _after(self, answers: bool, learned: bool) -> list[Part]:
        """Ce qui finit un message."""
        if self.dialect.marks:
            return self._read(self.dialect.end, answers, learned)
        return [Part(FINISHED if self.eos_id is None else self.eos_id, True, learned)] if answers else []


def template_for(name: str, tokenizer: Tokenizer, key: str = "data.template") -> Template:
    """Le gabarit `name` ; celui de chatml ajoute ses deux jetons au tokenizer s'il ne les a pas.

    Son tokenizer finit un texte par le jeton qui finit une réponse.
    """
    dialect = DIALECTS[read_name(name, key)[0]]
    has_marks = isinstance(tokenizer, MarkedTokenizer) and all(
        tokenizer.special_id(mark) is not None for mark in dialect.marks
    )
    if isinstance(tokenizer, HuggingFaceTokenizer) and (has_marks or dialect.marks == MARKS):
        tokenizer = tokenizer.with_special(dialect.marks)
    elif dialect.marks == MARKS and not has_marks:
        tokenizer = ChatTokenizer(tokenizer)
    elif dialect.marks and isinstance(tokenizer, ChatTokenizer):
        tokenizer = tokenizer if dialect.marks == MARKS else tokenizer.base
    template = Template(name, tokenizer, key)
    if template.eos_id == tokenizer.eos_id:
        return template
    return replace(template, tokenizer=from_state({**tokenizer.state(), "end": dialect.end}))


def _last_question(messages: Sequence[Message]) -> int:
    """Le rang de la dernière question, qui n'est pas la réponse d'un outil ; celui du dernier message, sans elle."""
    asked = len(messages) - 1
    for rank, (role, content, _) in enumerate(messages):
        told = content.startswith("<tool_response>") and content.endswith("</tool_response>")
        if role == "user" and not told:
            asked = rank
    return asked


def split_thought(content: str) -> tuple[str, str]:
    """La réflexion d'une réponse, et la réponse."""
    if "</think>" not in content:
        return "", content
    thought = content.split("</think>")[0].rstrip("\n").split("<think>")[-1]
    return thought.strip("\n"), content.split("</think>")[-1].lstrip("\n")


def _letters(text: str) -> str:
    return "".join(text.split())


__all__ = [
    "FINISHED",
    "TEMPLATES",
    "TITLES",
    "Message",
    "Template",
    "jinja",
    "template_for",
]
