"""Le gabarit d'une conversation : écrire des messages en identifiants, et marquer ceux qui sont à apprendre.

`texte` écrit des titres français et n'a besoin d'aucun jeton nouveau : il va à tout tokenizer. `chatml` encadre chaque
message de deux jetons spéciaux. Ce qu'un message contient reste du texte, même s'il ressemble à un jeton spécial.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gpt_lightning.errors import UserError, choice
from gpt_lightning.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt_lightning.tokenizers.chat import END, START, ChatTokenizer

TEMPLATES = ("texte", "chatml")
ROLES = ("system", "user", "assistant")
TITLES = {"system": "### Consigne :", "user": "### Question :", "assistant": "### Réponse :"}
FINISHED = "\n\n### Fin"  # la fin d'une réponse, pour un tokenizer sans jeton de fin de texte


class Message(NamedTuple):
    """Ce que dit un rôle : system (la consigne), user (la question) ou assistant (la réponse)."""

    role: str
    content: str


class Part(NamedTuple):
    """Un bout de conversation : du texte, ou l'identifiant d'un jeton ; `learned` s'il est de l'assistant."""

    content: str | int
    learned: bool = False


@dataclass(frozen=True)
class Template:
    """Le gabarit `name` pour `tokenizer`. UserError si ce tokenizer ne sait pas écrire ses titres."""

    name: str
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        choice("data.template", self.name, TEMPLATES)
        if self.name == "chatml":
            if not isinstance(self.tokenizer, ChatTokenizer):
                raise UserError("Le gabarit chatml demande un tokenizer qui a ses deux jetons.")
            return
        for title in TITLES.values():
            try:
                written = self.tokenizer.decode(self.tokenizer.encode(title))
            except UserError:
                written = ""
            if _letters(written) != _letters(title):
                raise UserError(
                    f"data.template=texte : ce tokenizer ne sait pas écrire « {title} » ; prenez data.template=chatml."
                )

    def render(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Les identifiants de la conversation, et lesquels sont à apprendre : les réponses et leur fin."""
        ids: list[int] = []
        mask: list[bool] = []
        for part in self._parts(messages):
            new = [part.content] if isinstance(part.content, int) else self.tokenizer.encode(part.content)
            ids += new
            mask += [part.learned] * len(new)
        return ids, mask

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Les identifiants de la conversation, jusqu'à l'endroit où l'assistant répond."""
        return self.render(messages)[0] + self._heading("assistant", bool(messages))

    def asking(self, question: str) -> list[int]:
        """Les identifiants d'une seule question, jusqu'à l'endroit où l'assistant répond."""
        return self.opening([Message("user", question)])

    @property
    def eos_id(self) -> int | None:
        """Le jeton qui finit une réponse ; None si c'est un texte, celui de `stop`."""
        return self.tokenizer.eos_id

    @property
    def stop(self) -> tuple[str, ...]:
        """Les textes qui finissent une réponse, si ce n'est pas un jeton."""
        return () if self.eos_id is not None else (FINISHED.strip(),)

    def _heading(self, role: str, follows: bool) -> list[int]:
        parts = self._before(role, follows)
        encoded = [[part] if isinstance(part, int) else self.tokenizer.encode(part) for part in parts]
        return [index for ids in encoded for index in ids]

    def _parts(self, messages: Sequence[Message]) -> Iterator[Part]:
        for rank, (role, content) in enumerate(messages):
            answers = role == "assistant"
            yield from map(Part, self._before(role, rank > 0))
            yield Part(content.strip(), answers)
            if self.name == "chatml":
                yield Part(self._chat.eos_id, answers)
            elif answers:
                yield Part(FINISHED if self.eos_id is None else self.eos_id, True)

    def _before(self, role: str, follows: bool) -> list[str | int]:
        """Ce qui précède un message."""
        if self.name == "chatml":
            return [*(["\n"] if follows else []), self._chat.start_id, f"{role}\n"]
        return [("\n\n" if follows else "") + f"{TITLES[role]}\n"]

    @property
    def _chat(self) -> ChatTokenizer:
        assert isinstance(self.tokenizer, ChatTokenizer)
        return self.tokenizer


def template_for(name: str, tokenizer: Tokenizer) -> Template:
    """Le gabarit `name` ; chatml ajoute ses deux jetons au tokenizer s'il ne les a pas."""
    if name == "chatml" and not isinstance(tokenizer, ChatTokenizer):
        tokenizer = ChatTokenizer(tokenizer)
    return Template(name, tokenizer)


def jinja(name: str) -> str:
    """Le gabarit tel que `apply_chat_template` de Hugging Face le lit."""
    loop = "{% for message in messages %}"
    if name == "chatml":
        body = (
            f"{{% if not loop.first %}}{{{{ '\\n' }}}}{{% endif %}}{{{{ '{START}' + message.role + '\\n' + "
        )
        body += f"(message.content | trim) + '{END}' }}}}"
        after = f"{{{{ '\\n{START}assistant\\n' }}}}"
    else:
        titles = ", ".join(f"'{role}': '{title}'" for role, title in TITLES.items())
        body = f"{{% if not loop.first %}}{{{{ '\\n\\n' }}}}{{% endif %}}{{{{ {{{titles}}}[message.role] + '\\n' + "
        body += f"(message.content | trim) + ('{END_OF_TEXT}' if message.role == 'assistant' else '') }}}}"
        after = f"{{{{ '\\n\\n{TITLES['assistant']}\\n' }}}}"
    return f"{loop}{body}{{% endfor %}}{{% if add_generation_prompt %}}{after}{{% endif %}}"


def _letters(text: str) -> str:
    return "".join(text.split())
