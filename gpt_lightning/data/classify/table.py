"""Lire un tableau : .csv (virgules ou points-virgules, des guillemets autour d'une case) et .tsv (jamais de guillemet).

Une case entre guillemets peut contenir des fins de ligne : un guillemet oublié avale donc des lignes entières.
"""

import csv
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from gpt_lightning.data.reading import COMPRESSED, lines_of, read_blocks
from gpt_lightning.data.records import BadRow, refuse_twins
from gpt_lightning.errors import UserError
from gpt_lightning.wording import number

log = logging.getLogger("gpt_lightning")
COLUMNS = ("text", "label")  # les titres que l'on cherche, si rien n'est dit
LONGEST_FIELD = 1 << 30  # caractères d'une case ; le module csv s'arrête à 131 072
NAMES = {",": "la virgule", ";": "le point-virgule", "\t": "la tabulation"}


def read_table(
    path: Path, keys: Sequence[str], *, strict: bool = True, blocks: Iterable[str] | None = None
) -> Iterator[tuple[str, object]]:
    """Chaque ligne par titre, et l'endroit où elle commence ; un BadRow si elle n'a pas le bon nombre de cases.

    `keys` sont les titres du texte et, pour une classification, de l'étiquette ; `blocks`, s'il est donné, est le
    contenu de `path`, qui n'est alors qu'un nom. `strict=False` lit comme les versions qui prenaient les
    guillemets d'un .tsv pour ceux d'un .csv. UserError si le tableau ne se comprend pas, ou se comprend de deux façons.
    """
    lines = (f"{line}\n" for line in lines_of(read_blocks(path) if blocks is None else blocks))
    first, before, told = _heading(lines)
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    separator = "\t" if plain.suffix.lower() == ".tsv" else told or _separator(path, first, keys)
    quoted = separator != "\t" or not strict
    rows = _rows(path, itertools.chain([first], lines), separator, quoted, strict, before)
    titles = [title.strip() for title in next(rows, (0, []))[1]]
    if 0 < len(titles) < len(keys):
        raise UserError(
            f"{path} n'a qu'une colonne, {titles[0][:60] or 'vide'} : virgule, point-virgule ou tabulation les "
            f"séparent, et la première ligne donne leurs titres."
        )
    for name, key in zip(("data.text_key", "data.label_key"), keys, strict=False):
        _check_title(path, titles, key, name)
    swallowed: list[str] = []
    wrapped = 0
    for line, cells in rows:
        if not any(cells):
            continue
        where = f"{path}, ligne {line}"
        if len(cells) != len(titles):
            yield where, BadRow(f"{len(cells)} cases pour {len(titles)} colonnes")
            continue
        if quoted and any(_holds_rows(cell, separator, len(titles)) for cell in cells):
            swallowed.append(where)
        wrapped += not quoted and any(_has_quotes(cell) for cell in cells)
        yield where, dict(zip(titles, cells, strict=True))
    _say(path, swallowed, wrapped)


def _heading(lines: Iterator[str]) -> tuple[str, int, str]:
    """La ligne des titres, combien la précèdent (des lignes vides), et ce qu'un « sep=; » d'Excel y dit."""
    told = ""
    for before, line in enumerate(lines):
        if re.fullmatch(r"sep=.\n", line):
            told = line[4]
        elif line.strip():
            return line, before, told
    return "", 0, told


def _separator(path: Path, first: str, keys: Sequence[str]) -> str:
    """Ce qui sépare les cases d'un .csv : ce qui donne les deux titres ; à défaut, le plus fréquent des trois."""
    if len(keys) == 1 and not any(separator in first for separator in NAMES):
        return ","  # une seule colonne
    fitting = []
    for separator in NAMES:
        quoting = _quoting(separator != "\t")
        titles = [
            title.strip()
            for row in csv.reader([first], delimiter=separator, quoting=quoting)
            for title in row
        ]
        if all(key in titles for key in keys):
            fitting.append(separator)
    if len(fitting) > 1:
        listed = " et ".join(NAMES[separator] for separator in fitting)
        columns = "les colonnes" if len(keys) > 1 else "la colonne"
        raise UserError(
            f"{path} : {listed} séparent aussi bien {columns} {' et '.join(keys)} : "
            f"changez la ligne des titres, ou enregistrez en .tsv."
        )
    return fitting[0] if fitting else max(NAMES, key=first.count)


def _check_title(path: Path, titles: Sequence[str], key: str, name: str) -> None:
    """UserError si la colonne `key`, que `name` nomme, n'est pas là, ou si l'on peut en comprendre deux."""
    if titles.count(key) > 1:
        places = " et ".join(str(place) for place, title in enumerate(titles, start=1) if title == key)
        raise UserError(
            f"{path} : le titre {key} est celui des colonnes {places} ; changez celui de la colonne à ne pas lire, "
            f"ou donnez un autre titre avec {name}=."
        )
    if key in titles and key in COLUMNS:  # un autre titre a été choisi : il est exact
        try:
            refuse_twins(titles, key, name)
        except BadRow as error:
            raise UserError(f"{path} : {error}.") from None
    if key not in titles:
        raise UserError(
            f"{path} : il manque la colonne {key} (colonnes lues : {', '.join(titles[:8]) or 'aucune'}) ; "
            f"donnez son titre avec {name}=."
        )


def _rows(
    path: Path, lines: Iterable[str], separator: str, quoted: bool, strict: bool, before: int
) -> Iterator[tuple[int, list[str]]]:
    """Les cases de chaque ligne du tableau, et le rang de la ligne du fichier, après `before`, où elle commence."""
    csv.field_size_limit(LONGEST_FIELD)
    read: list[str] = []  # les lignes du fichier que la ligne en cours a prises

    def note() -> Iterator[str]:
        for line in lines:
            read.append(line)
            yield line

    reader = csv.reader(note(), delimiter=separator, strict=strict and quoted, quoting=_quoting(quoted))
    try:
        for cells in reader:
            yield before + 1, cells
            before += len(read)
            read.clear()
    except csv.Error:
        line, closed = _opening("".join(read), separator)
        what = (
            "ouvre une case qui n'est jamais fermée"
            if not closed
            else "ouvre une case où un autre n'est pas doublé"
        )
        raise UserError(
            f"{path}, ligne {before + line} : un guillemet {what} ; fermez-la, et doublez tout guillemet qui est dans "
            f"le texte d'une case (ou enregistrez en .tsv, où ils n'ont pas de rôle)."
        ) from None


def _quoting(quoted: bool) -> Literal[0, 3]:
    """Ce que le module csv fait des guillemets : ils entourent une case, ou ils en font partie."""
    return csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE


def _opening(text: str, separator: str) -> tuple[int, bool]:
    """Le rang de la ligne où s'ouvre la dernière case entre guillemets de `text`, et si elle se ferme."""
    place, opened, closed = 0, 0, False
    while place < len(text):
        if text[place] == '"':
            opened, end, closed = place, place + 1, False
            while (end := text.find('"', end)) >= 0 and text[end + 1 : end + 2] == '"':
                end += 2
            if end < 0:
                break
            closed, place = True, end + 1
            if text[place : place + 1] not in (separator, "\n", ""):
                break
        ends = [end for end in (text.find(separator, place), text.find("\n", place)) if end >= 0]
        place = min(ends) + 1 if ends else len(text)
    return text.count("\n", 0, opened) + 1, closed


def _holds_rows(cell: str, separator: str, columns: int) -> bool:
    """Vrai si une case contient des lignes, dont une a autant de cases que le tableau a de colonnes."""
    return "\n" in cell and any(line.count(separator) == columns - 1 for line in cell.split("\n"))


def _has_quotes(cell: str) -> bool:
    """Vrai pour une case qu'un tableur aurait mise entre guillemets : deux aux bords, ceux du texte doublés."""
    inside = cell[1:-1]
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', "")


def _say(path: Path, swallowed: Sequence[str], wrapped: int) -> None:
    """Dit les cases qui ont l'air d'avoir avalé des lignes, et celles dont les guillemets sont restés."""
    if swallowed:
        more = f", et {number(len(swallowed) - 1)} autres de ce fichier" if len(swallowed) > 1 else ""
        log.warning(
            f"{swallowed[0]} : une case entre guillemets contient ce qui ressemble à des lignes du tableau{more} ; si "
            f"un guillemet du texte l'a ouverte, doublez-le."
        )
    if wrapped:
        plural = "s" * (wrapped > 1)
        log.warning(
            f"{path} : {number(wrapped)} case{plural} entre guillemets, lue{plural} avec eux : dans un .tsv, ils font "
            f"partie du texte ; enregistrez en .csv s'ils n'en sont pas."
        )
