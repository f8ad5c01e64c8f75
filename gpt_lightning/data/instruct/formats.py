"""Lire des fichiers de conversations : quatre formats, reconnus à leurs clés.

    Alpaca       {"instruction": ..., "input": ..., "output": ..., "system": ..., "history": [[..., ...], ...]}
    messages     {"messages": [{"role": ..., "content": ...}, ...], "system": ...}
    ShareGPT     {"conversations": [{"from": ..., "value": ...}, ...], "system": ...}
    deux textes  {"prompt": ..., "completion": ..., "system": ..., "history": [[..., ...], ...]}
                 ou deux listes de messages : seules les réponses de completion sont apprises

Un fichier est une liste JSON (.json) ou un objet par ligne (.jsonl). Toute clé d'une ligne est lue, ou ne porte rien
que l'on apprenne (`UNTAUGHT`) ; sinon la ligne est refusée, et data.ignore=[clé] est la voie pour s'en passer.
"""

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from gpt_lightning.data.reading import lines_of, read_blocks
from gpt_lightning.data.records import BadRow, as_object, judge, parse_json, parse_rows, rows_in
from gpt_lightning.tokenizers.messages import (
    MARKS,
    BadMessage,
    Message,
    arrange,
    clean,
    is_empty,
    parse_messages,
    unread_keys,
)
from gpt_lightning.typing import JsonObject

SUFFIXES = (".json", ".jsonl")
FORMATS: Mapping[str, frozenset[str]] = {  # la clé qui dit le format, et toutes celles qu'il lit
    "messages": frozenset({"messages", "system"}),
    "conversations": frozenset({"conversations", "system"}),
    "instruction": frozenset({"instruction", "input", "output", "system", "history"}),
    "prompt": frozenset({"prompt", "completion", "system", "history"}),
}
MESSAGE_KEYS = {"messages": ("role", "content"), "conversations": ("from", "value")}
NEEDED = frozenset(chain.from_iterable(MESSAGE_KEYS.values()))  # sans elles, un message ne se lit pas
# ce qui dit d'où vient une ligne, et qu'il n'y a pas à apprendre
_ORIGINS = (
    "id _id uid uuid idx index conversation_id prompt_id source dataset category lang language name model "
    "url license licence date timestamp created_at score"
)
UNTAUGHT = frozenset(_ORIGINS.split())


class Conversation(NamedTuple):
    """Des messages, et d'où ils viennent ; `key` dit de quelle moitié ils sont (la même clé, le même côté)."""

    messages: tuple[Message, ...]
    where: str = ""
    key: str = ""
    since: tuple[str, ...] = ()  # ses clés que la version 0.1 ne lisait pas
    ignored: tuple[str, ...] = ()  # celles de data.ignore qu'elle avait


def read_conversations(
    path: Path, skipped: Callable[[str], None] | None = None, ignore: Collection[str] = ()
) -> Iterator[Conversation]:
    """Les conversations de `path`, sans leurs clés `ignore`.

    `skipped` reçoit ce qui ne va pas ; sans lui, UserError, qui nomme la ligne.
    """
    for where, row, messages in parse_rows(rows_of(path), partial(to_messages, ignore=ignore), skipped):
        first = next(message.content for message in messages if message.role == "user")
        yield Conversation(messages, where, first, _read_since(row, ignore), _present_keys(row, ignore))


def to_messages(row: object, ignore: Collection[str] = ()) -> tuple[Message, ...]:
    """Les messages d'une ligne, quel que soit son format. BadRow dit ce qui manque, ou ce qui ne serait pas lu."""
    row = {key: value for key, value in as_object(row).items() if key not in ignore}
    form = _format_of(row, ignore)
    system = [] if is_empty(row.get("system")) else [Message("system", _text(row, "system"))]
    try:
        if form in MESSAGE_KEYS:
            messages = parse_messages(row[form], form, *_keys_of(row[form], form), ignore)
        else:
            messages = [*_history(row.get("history")), *_two_texts(row, form, ignore)]
        _refuse_unread(row, form, ignore)
        if (
            system and form == "conversations"
        ):  # tel quel : il compte dans l'empreinte d'une exécution d'avant
            system = [Message("system", row["system"])]
        arranged = arrange([*system, *messages], before=len(system))
    except BadMessage as error:
        raise BadRow(f"{error}{_way_out(error.unread, ignore) if error.unread else ''}") from None
    if not any(message.role == "assistant" and message.learned for message in arranged):
        raise BadRow("il n'y a aucune réponse (assistant) à apprendre")
    return arranged


def _format_of(row: JsonObject, ignore: Collection[str]) -> str:
    """La clé qui dit le format de cette ligne. BadRow s'il n'y en a pas, ou plusieurs."""
    present = [key for key in FORMATS if key in row]
    if not present:
        seen = ", ".join(str(key)[:40] for key in list(row)[:4]) or "aucune"
        raise BadRow(f"il faut la clé messages, conversations, instruction ou prompt (clés lues : {seen})")
    given = [key for key in present if not is_empty(row[key])] or present[:1]
    if len(given) > 1:
        others = unread_keys(row, FORMATS[given[0]] | UNTAUGHT)
        raise BadRow(
            f"elle a deux formats à la fois, {' et '.join(given)} : gardez l'un{_way_out(others, ignore)}"
        )
    return given[0]


def _keys_of(messages: object, form: str) -> tuple[str, str]:
    """Les clés du rôle et du texte de ces messages : celles de leur format, ou celles de l'autre s'ils les ont."""
    first = messages[0] if isinstance(messages, list) and messages else None
    if isinstance(first, dict):
        return next((keys for keys in MESSAGE_KEYS.values() if keys[0] in first), MESSAGE_KEYS[form])
    return MESSAGE_KEYS[form]


def _refuse_unread(row: JsonObject, form: str, ignore: Collection[str]) -> None:
    unread = unread_keys(row, FORMATS[form] | UNTAUGHT)
    if unread:
        listed = ", ".join(key[:40] or "''" for key in unread[:8])
        which = (
            f"la clé {listed} ne serait pas lue"
            if len(unread) == 1
            else f"les clés {listed} ne seraient pas lues"
        )
        raise BadRow(f"{which}{_way_out(unread, ignore)}")


def _way_out(keys: Sequence[str], ignore: Collection[str]) -> str:
    """Comment continuer sans ces clés, en plus de `ignore`, à taper tel quel."""
    if NEEDED & set(keys):
        return (
            " ; gardez d'un message ses clés role et content, ou from et value, les mêmes dans toute la ligne"
        )
    typed = f"data.ignore=[{','.join(map(_quote, (*ignore, *keys)))}]"
    if not re.fullmatch(r"[\w,.=\[\]-]+", typed):
        typed = shlex.quote(typed)
    return f" ; {typed} s'en passe"


def _quote(key: str) -> str:
    """Cette clé, entre guillemets si elle ne se lit pas sans eux dans une liste tapée."""
    if key and key == key.strip() and "," not in key and not (key[0] == key[-1] and key[0] in "'\""):
        return key
    return f'"{key}"' if '"' not in key else f"'{key}'"


def _read_since(row: object, ignore: Collection[str]) -> tuple[str, ...]:
    """Les clés de cette ligne que la version 0.1 ne lisait pas : elles changent l'empreinte du corpus."""
    assert isinstance(row, dict)  # to_messages l'a lue
    keys = [] if "conversations" in row else ["system", "history"]
    since = [key for key in keys if not is_empty(row.get(key))]
    for form in MESSAGE_KEYS:
        messages = row.get(form)
        listed = [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
        since += [mark for mark in MARKS if any(message.get(mark) is not None for message in listed)]
    return tuple(key for key in since if key not in ignore)


def _present_keys(value: object, ignore: Collection[str]) -> tuple[str, ...]:
    """Celles de ces clés qu'a `value`, ou un objet qu'elle contient."""
    if not ignore or not isinstance(value, dict | list):
        return ()
    inside = value.values() if isinstance(value, dict) else value
    here = (key for key in ignore if isinstance(value, dict) and key in value)
    return tuple({*here, *(key for part in inside for key in _present_keys(part, ignore))})


def _two_texts(row: JsonObject, form: str, ignore: Collection[str]) -> list[Message]:
    """La question et la réponse : deux textes, ou deux listes de messages (celles de TRL)."""
    if form == "prompt":
        context = _context(row, ignore)
        return [*context, *_messages_of(row, "completion", "assistant", ignore)]
    more = "" if is_empty(row.get("input")) else _text(row, "input")
    question = "\n\n".join(filter(None, (_text(row, "instruction"), more)))
    return [Message("user", question), Message("assistant", _text(row, "output"))]


def _context(row: JsonObject, ignore: Collection[str]) -> list[Message]:
    """Les messages de `prompt` : ses réponses sont lues, et apprises si une marque le dit."""
    asked = _messages_of(row, "prompt", "user", ignore)
    if not isinstance(row["prompt"], list):
        return asked
    marked = [any(raw.get(key) is not None for key in MARKS if key not in ignore) for raw in row["prompt"]]
    messages = [
        message if mark or message.role != "assistant" else message._replace(learned=False)
        for message, mark in zip(asked, marked, strict=True)
    ]
    if messages[-1].role == "assistant":
        raise BadRow(
            "prompt finit par une réponse (assistant), que completion continuerait : mettez-la dans completion"
        )
    return messages


def _messages_of(row: JsonObject, key: str, role: str, ignore: Collection[str]) -> list[Message]:
    """Le message de `role` que `key` écrit, ou ceux de sa liste."""
    value = row.get(key)
    if isinstance(value, list):
        return parse_messages(value, key, *_keys_of(value, "messages"), ignore)
    return [Message(role, _text(row, key))]


def _history(value: object) -> Iterator[Message]:
    """Les tours d'avant, des paires [question, réponse]."""
    if is_empty(value):
        return
    if not isinstance(value, list):
        raise BadRow("la clé history doit être une liste de paires [question, réponse]")
    for rank, pair in enumerate(value, start=1):
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_text, pair)):
            raise BadRow(f"history, paire {rank} : il faut [question, réponse], deux textes non vides")
        yield Message("user", clean(pair[0]))
        yield Message("assistant", clean(pair[1]))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _text(row: JsonObject, key: str) -> str:
    if key not in row:
        raise BadRow(f"il manque la clé {key}")
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"la clé {key} doit être un texte, non vide")
    return clean(value)


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
