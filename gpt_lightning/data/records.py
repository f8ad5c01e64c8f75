"""Une ligne d'un fichier de lignes : l'objet JSON qu'elle est, et ce qui s'y comprendrait de deux façons."""

import json
import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

T = TypeVar("T")
log = logging.getLogger("gpt_lightning")


class BadRow(Exception):
    """Ce qui manque à une ligne."""


class Repeated(dict):
    """Un objet JSON où une clé, `key`, est donnée deux fois : deux lectures possibles."""

    key = ""


def parse_json(text: str) -> object:
    """La valeur que ce texte écrit ; ValueError ou RecursionError si ce n'est pas du JSON.

    Un objet où une clé est donnée deux fois est un `Repeated` : `double_key` le retrouve.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        row = Repeated(row)
        row.key = next(name for name in names if names.count(name) > 1)
    return row


def double_key(value: object) -> str | None:
    """La première clé donnée deux fois dans un objet de `value`, à toute profondeur."""
    if isinstance(value, Repeated):
        return value.key
    inside: Iterable[object] = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return next((key for part in inside if (key := double_key(part)) is not None), None)


def judge(row: object) -> object:
    """`row`, ou un BadRow si une clé y est donnée deux fois."""
    try:
        key = double_key(row)
    except RecursionError:
        return BadRow("ses objets sont l'un dans l'autre, trop profondément")
    return row if key is None else BadRow(f"la clé {key} est donnée deux fois : gardez-en une")


def rows_in(value: object, path: object) -> Iterator[object]:
    """Les lignes d'un fichier .json : une liste, ou l'objet dont une seule clé contient une liste d'objets.

    UserError si plusieurs le peuvent.
    """
    lists: dict[str, list] = {"": value} if isinstance(value, list) else {}
    if isinstance(value, dict):
        lists = {
            key: rows
            for key, rows in value.items()
            if isinstance(rows, list) and any(isinstance(row, dict) for row in rows)
        }
    if isinstance(value, Repeated):
        raise UserError(f"{path} : la clé {value.key} est donnée deux fois : gardez-en une.")
    if len(lists) > 1:
        listed = " et ".join(f"« {key} » ({len(rows)})" for key, rows in lists.items())
        raise UserError(
            f"{path} contient {len(lists)} listes, {listed} : écrivez-en un fichier pour chacune, et donnez celui de "
            f"l'entraînement avec data.path=, celui de la validation avec data.val_path=."
        )
    if not lists:
        raise UserError(
            f"{path} : il faut une liste JSON d'objets, ou un fichier .jsonl, un objet par ligne."
        )
    others = (
        [key for key, inside in value.items() if key not in lists and inside]
        if isinstance(value, dict)
        else []
    )
    if others:
        log.warning(
            f"{path} : seule sa liste « {next(iter(lists))} » est lue, sans {', '.join(others)[:200]}."
        )
    yield from map(judge, *lists.values())


def parse_rows(
    rows: Iterable[tuple[str, object]], parse: Callable[[object], T], skipped: Callable[[str], None] | None
) -> Iterator[tuple[str, object, T]]:
    """L'endroit de chaque ligne, la ligne, et ce que `parse` en lit.

    `skipped` reçoit la phrase de celle qui est un BadRow pour `parse` ; sans lui, UserError, qui nomme la ligne.
    """
    for where, row in rows:
        try:
            parsed = parse(row)
        except BadRow as error:
            sentence = f"{where} : {error}"
            if skipped is None:
                raise UserError(f"{sentence} (data.errors=skip laisse de telles lignes de côté).") from None
            skipped(sentence)
        else:
            yield where, row, parsed


def as_object(row: object) -> JsonObject:
    """L'objet qu'est cette ligne ; BadRow si elle n'en est pas un."""
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow("il faut un objet JSON")
    return row


def refuse_twins(keys: Iterable[object], key: str, name: str) -> None:
    """BadRow si une autre de ces clés ne diffère de `key` que par la casse, un accent décomposé ou une espace.

    `name` est la clé de `data` qui la nomme, et qui choisit.
    """
    twins = [other for other in map(str, keys) if other != key and _fold(other) == _fold(key)]
    if twins:
        raise BadRow(
            f"{key} et {twins[0]} se ressemblent trop pour choisir : {name}={twins[0]} lit la seconde ; pour lire la "
            f"première, renommez l'autre"
        )


def _fold(title: str) -> str:
    return " ".join(unicodedata.normalize("NFC", title).casefold().split())
