"""Des fichiers de conversations à une liste de messages : quatre formats, reconnus à leurs clés.

    Alpaca       {"instruction": ..., "input": ..., "output": ...}
    messages     {"messages": [{"role": ..., "content": ...}, ...]}
    ShareGPT     {"conversations": [{"from": ..., "value": ...}, ...]}
    deux textes  {"prompt": ..., "completion": ...}

Un fichier est une liste JSON (.json) ou un objet par ligne (.jsonl).
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gpt_lightning.data.reading import lines_of, read_blocks
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters
from gpt_lightning.tokenizers.template import ROLES, Message

SUFFIXES = (".json", ".jsonl")
SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}


class Conversation(NamedTuple):
    """Des messages, et d'où ils viennent ; `key` dit de quelle moitié ils sont (la même clé, le même côté)."""

    messages: tuple[Message, ...]
    where: str = ""
    key: str = ""


class BadRow(Exception):
    """Ce qui manque à une conversation."""


def read_conversations(path: Path, skipped: Callable[[str], None] | None = None) -> Iterator[Conversation]:
    """Les conversations de `path`. `skipped` reçoit ce qui ne va pas ; sans lui, UserError, qui nomme la ligne."""
    for where, row in rows_of(path):
        try:
            messages = to_messages(row)
        except BadRow as error:
            sentence = f"{where} : {error}"
            if skipped is None:
                raise UserError(f"{sentence} (data.errors=skip laisse de telles lignes de côté).") from None
            skipped(sentence)
            continue
        first = next(one.content for one in messages if one.role == "user")
        yield Conversation(messages, where, first)


def to_messages(row: Any) -> tuple[Message, ...]:
    """La liste de messages d'une ligne, quel que soit son format. BadRow, qui dit ce qui manque."""
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow("il faut un objet JSON")
    if "messages" in row:
        found = _listed(row["messages"], "messages", "role", "content")
    elif "conversations" in row:
        found = _listed(row["conversations"], "conversations", "from", "value")
        if isinstance(row.get("system"), str) and row["system"].strip():
            found = [Message("system", row["system"]), *found]
    elif "instruction" in row:
        more = _text(row, "input", optional=True)
        question = "\n\n".join(filter(None, (_text(row, "instruction"), more)))
        found = [Message("user", question), Message("assistant", _text(row, "output"))]
    elif "prompt" in row:
        found = [Message("user", _text(row, "prompt")), Message("assistant", _text(row, "completion"))]
    else:
        seen = ", ".join(map(str, list(row)[:4])) or "aucune"
        raise BadRow(f"il faut la clé messages, conversations, instruction ou prompt (clés lues : {seen})")
    return _ordered(found)


def _listed(values: Any, name: str, role_key: str, text_key: str) -> list[Message]:
    if not isinstance(values, list) or not values:
        raise BadRow(f"« {name} » doit être une liste de messages, non vide")
    found: list[Message] = []
    for rank, one in enumerate(values, start=1):
        if not isinstance(one, dict) or role_key not in one or text_key not in one:
            raise BadRow(f"le message {rank} doit avoir les clés {role_key} et {text_key}")
        role = SPEAKERS.get(one[role_key], one[role_key]) if isinstance(one[role_key], str) else None
        if role not in ROLES:
            raise BadRow(
                f"le message {rank} a le rôle {str(one[role_key])[:20]!r} : il faut user, assistant ou system"
            )
        content = _text(one, text_key)
        if found and found[-1].role == role:  # deux messages de suite du même n'en font qu'un
            content = f"{found.pop().content}\n\n{content}"
        found.append(Message(role, content))
    return found


def _text(row: dict[str, Any], key: str, *, optional: bool = False) -> str:
    value = row.get(key)
    if optional and (value is None or value == ""):
        return ""
    if key not in row:
        raise BadRow(f"il manque la clé {key}")
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"la clé {key} doit être un texte, non vide")
    return whole_characters(value.replace("\r\n", "\n")).strip()


def _ordered(messages: list[Message]) -> tuple[Message, ...]:
    """Les messages, dont la consigne est en tête et dont chaque réponse suit une question. BadRow sinon."""
    asked = False
    for rank, one in enumerate(messages):
        if one.role == "system" and rank:
            raise BadRow("le message system doit être le premier")
        if one.role == "assistant" and not asked:
            raise BadRow("une réponse (assistant) n'a pas de question (user) devant elle")
        asked = asked or one.role == "user"
    if not any(one.role == "assistant" for one in messages):
        raise BadRow("il n'y a aucune réponse (assistant) à apprendre")
    return tuple(messages)


def rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    """(où, la ligne lue) ; la ligne est un BadRow si elle n'est pas du JSON."""
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(lines_of(read_blocks(path)), start=1):
            if line.strip():
                yield f"{path}, ligne {number}", _parsed(line)
        return
    values = _parsed("".join(read_blocks(path)))
    if isinstance(values, dict):
        values = next((one for one in values.values() if isinstance(one, list)), values)
    if isinstance(values, BadRow) or not isinstance(values, list):
        raise UserError(
            f"{path} : il faut une liste JSON d'objets, ou un fichier .jsonl, un objet par ligne."
        )
    yield from ((f"{path}, élément {number}", row) for number, row in enumerate(values, start=1))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return BadRow("ce n'est pas du JSON")
