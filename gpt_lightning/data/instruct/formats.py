"""Lire des fichiers de conversations : quatre formats, reconnus à leurs clés.

    Alpaca       {"instruction": ..., "input": ..., "output": ...}
    messages     {"messages": [{"role": ..., "content": ...}, ...]}
    ShareGPT     {"conversations": [{"from": ..., "value": ...}, ...]}
    deux textes  {"prompt": ..., "completion": ...}

Un fichier est une liste JSON (.json) ou un objet par ligne (.jsonl).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt_lightning.data.reading import lines_of, read_blocks
from gpt_lightning.data.records import BadRow, judge, parse_json, rows_in
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters
from gpt_lightning.tokenizers.template import ROLES, Message
from gpt_lightning.typing import JsonObject

SUFFIXES = (".json", ".jsonl")
SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}


class Conversation(NamedTuple):
    """Des messages, et d'où ils viennent ; `key` dit de quelle moitié ils sont (la même clé, le même côté)."""

    messages: tuple[Message, ...]
    where: str = ""
    key: str = ""


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
        first = next(message.content for message in messages if message.role == "user")
        yield Conversation(messages, where, first)


def to_messages(row: object) -> tuple[Message, ...]:
    """Les messages d'une ligne, quel que soit son format. BadRow dit ce qui manque."""
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow("il faut un objet JSON")
    if "messages" in row:
        messages = _read_messages(row["messages"], "messages", "role", "content")
    elif "conversations" in row:
        messages = _read_messages(row["conversations"], "conversations", "from", "value")
        if isinstance(row.get("system"), str) and row["system"].strip():
            messages = [Message("system", row["system"]), *messages]
    elif "instruction" in row:
        more = _text(row, "input", optional=True)
        question = "\n\n".join(filter(None, (_text(row, "instruction"), more)))
        messages = [Message("user", question), Message("assistant", _text(row, "output"))]
    elif "prompt" in row:
        messages = [Message("user", _text(row, "prompt")), Message("assistant", _text(row, "completion"))]
    else:
        seen = ", ".join(map(str, list(row)[:4])) or "aucune"
        raise BadRow(f"il faut la clé messages, conversations, instruction ou prompt (clés lues : {seen})")
    return _check_order(messages)


def _read_messages(values: object, name: str, role_key: str, text_key: str) -> list[Message]:
    if not isinstance(values, list) or not values:
        raise BadRow(f"« {name} » doit être une liste de messages, non vide")
    messages: list[Message] = []
    for rank, message in enumerate(values, start=1):
        if not isinstance(message, dict) or role_key not in message or text_key not in message:
            raise BadRow(f"le message {rank} doit avoir les clés {role_key} et {text_key}")
        role = (
            SPEAKERS.get(message[role_key], message[role_key]) if isinstance(message[role_key], str) else None
        )
        if role not in ROLES:
            raise BadRow(
                f"le message {rank} a le rôle {str(message[role_key])[:20]!r} : il faut user, assistant ou system"
            )
        content = _text(message, text_key)
        if messages and messages[-1].role == role:  # deux messages de suite du même n'en font qu'un
            content = f"{messages.pop().content}\n\n{content}"
        messages.append(Message(role, content))
    return messages


def _text(row: JsonObject, key: str, *, optional: bool = False) -> str:
    value = row.get(key)
    if optional and (value is None or value == ""):
        return ""
    if key not in row:
        raise BadRow(f"il manque la clé {key}")
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"la clé {key} doit être un texte, non vide")
    return whole_characters(value.replace("\r\n", "\n")).strip()


def _check_order(messages: list[Message]) -> tuple[Message, ...]:
    """Vérifie que la consigne est en tête, et que chaque réponse suit une question. BadRow sinon."""
    asked = False
    for rank, message in enumerate(messages):
        if message.role == "system" and rank:
            raise BadRow("le message system doit être le premier")
        if message.role == "assistant" and not asked:
            raise BadRow("une réponse (assistant) n'a pas de question (user) devant elle")
        asked = asked or message.role == "user"
    if not any(message.role == "assistant" for message in messages):
        raise BadRow("il n'y a aucune réponse (assistant) à apprendre")
    return tuple(messages)


def rows_of(path: Path) -> Iterator[tuple[str, object]]:
    """Chaque ligne, et l'endroit où elle est ; c'est un BadRow si elle n'est pas du JSON."""
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(lines_of(read_blocks(path)), start=1):
            if line.strip():
                yield f"{path}, ligne {number}", judge(_parse_json(line))
        return
    values = _parse_json("".join(read_blocks(path)))
    yield from (
        (f"{path}, élément {number}", row) for number, row in enumerate(rows_in(values, path), start=1)
    )


def _parse_json(text: str) -> object:
    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        return BadRow("ce n'est pas du JSON")
