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
from gpt_lightning.tokenizers.messages import ROLES, Message, arrange

TEMPLATES = ("texte", "chatml")
TITLES = {"system": "### Consigne :", "user": "### Question :", "assistant": "### Réponse :"}
FINISHED = "\n\n### Fin"  # la fin d'une réponse, pour un tokenizer sans jeton de fin de texte


class Part(NamedTuple):
    """Un bout de conversation : du texte, ou l'identifiant d'un jeton.

    `answers` s'il est d'une réponse, `learned` si son message peut être appris.
    """

    content: str | int
    answers: bool
    learned: bool


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

    def render(
        self, messages: Sequence[Message], *, everything: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Les identifiants de la conversation, et lesquels sont à apprendre : les réponses et leur fin.

        `everything` apprend aussi le reste, mais jamais un message marqué. BadMessage si `arrange` refuse les messages.
        """
        ids: list[int] = []
        mask: list[bool] = []
        for part in self._parts(arrange(messages)):
            new = self._encode(part.content)
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
        contents = [part.content for part in self._parts(messages, unfinished=unfinished)]
        contents += [] if unfinished else self._before("assistant", True)
        return [index for content in contents for index in self._encode(content)]

    @property
    def eos_id(self) -> int | None:
        """Le jeton qui finit une réponse ; None si c'est un texte, celui de `stop`."""
        return self.tokenizer.eos_id

    @property
    def stop(self) -> tuple[str, ...]:
        """Les textes qui finissent une réponse, si ce n'est pas un jeton."""
        return () if self.eos_id is not None else (FINISHED.strip(),)

    def _encode(self, content: str | int) -> list[int]:
        return [content] if isinstance(content, int) else self.tokenizer.encode(content)

    def _parts(self, messages: Sequence[Message], *, unfinished: bool = False) -> Iterator[Part]:
        """Les bouts de ces messages ; `unfinished` : sans la fin du dernier."""
        for rank, (role, content, learned) in enumerate(messages):
            answers = role == "assistant"
            yield from (Part(part, False, learned) for part in self._before(role, rank > 0))
            yield Part(content.strip(), answers, learned)
            if unfinished and rank == len(messages) - 1:
                return
            if self.name == "chatml":
                yield Part(self._chat.eos_id, answers, learned)
            elif answers:
                yield Part(FINISHED if self.eos_id is None else self.eos_id, True, learned)

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


# la même lecture que messages.py, dans la langue de Hugging Face ; HEADING, TITLE, END sont propres à un gabarit
_JINJA = """
{%- set roles = ROLES -%}
{%- set last = namespace(role='', asked=false) -%}
{%- for message in messages -%}
  {%- if message.role not in roles -%}{{ raise_exception('role : user, assistant, system') }}{%- endif -%}
  {%- if message.tool_calls -%}{{ raise_exception('tool_calls') }}{%- endif -%}
  {%- set role = roles[message.role] -%}
  {%- set content = message.content -%}
  {%- if content is not string -%}
    {%- if content | rejectattr('type', 'equalto', 'text') | list -%}{{ raise_exception('content') }}{%- endif -%}
    {%- set content = content | map(attribute='text') | join -%}
  {%- endif -%}
  {%- set content = content | replace('\\r\\n', '\\n') | trim -%}
  {%- if content -%}
  {%- if role == 'system' and last.role not in ('', 'system') -%}{{ raise_exception('system') }}{%- endif -%}
  {%- if role == 'user' -%}{%- set last.asked = true -%}{%- endif -%}
  {%- if not last.asked and role == 'assistant' -%}{{ raise_exception('assistant') }}{%- endif -%}
  {%- if role == last.role -%}{{ '\\n\\n' + content }}
  {%- else -%}
    {%- if last.role -%}END{{ 'SEPARATOR' }}{%- endif -%}
    {{ HEADING + content }}
  {%- endif -%}
  {%- set last.role = role -%}
  {%- endif -%}
{%- endfor -%}
{%- if not last.asked -%}{{ raise_exception('user') }}{%- endif -%}
{%- if not add_generation_prompt -%}END
{%- elif last.role != 'assistant' -%}END{{ 'SEPARATORANSWER' }}{%- endif -%}
"""


def jinja(name: str) -> str:
    """Le gabarit tel que `apply_chat_template` de Hugging Face le lit."""
    if name == "chatml":
        pieces = {
            "END": f"{{{{ '{END}' }}}}",
            "HEADING": f"'{START}' + role + '\\n'",
            "SEPARATOR": "\\n",
            "ANSWER": f"{START}assistant\\n",
        }
    else:
        titles = ", ".join(f"'{role}': '{title}'" for role, title in TITLES.items())
        pieces = {
            "END": f"{{%- if last.role == 'assistant' -%}}{{{{ '{END_OF_TEXT}' }}}}{{%- endif -%}}",
            "HEADING": f"{{{titles}}}[role] + '\\n'",
            "SEPARATOR": "\\n\\n",
            "ANSWER": f"{TITLES['assistant']}\\n",
        }
    text = _JINJA.replace("ROLES", str(ROLES))
    for word, piece in pieces.items():
        text = text.replace(word, piece)
    return "".join(line.strip() for line in text.splitlines())


def _letters(text: str) -> str:
    return "".join(text.split())
