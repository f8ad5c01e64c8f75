"""Lire des fichiers de textes étiquetés.

.csv, .tsv       une ligne de titres, une colonne du texte et une de l'étiquette
.jsonl, .json    {"text": ..., "label": ...}, un objet par ligne, ou une liste
un dossier       un sous-dossier par étiquette, un fichier .txt par texte
"""

import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt_lightning.data.instruct.formats import BadRow, rows_of
from gpt_lightning.data.reading import lines_of, read_blocks
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt")
LONGEST_FIELD = 1 << 30  # caractères d'une case ; le module csv s'arrête à 131 072
COLUMNS = ("text", "label")  # celles que l'on cherche, si rien n'est dit


class LabelledText(NamedTuple):
    """Un texte, son étiquette, et d'où il vient ; `key` dit de quelle moitié il est (la même clé, le même côté)."""

    text: str
    label: str
    where: str = ""
    key: str = ""


def read_labelled(
    path: Path,
    text_key: str,
    label_key: str,
    skipped: Callable[[str], None] | None = None,
    folder: Path | None = None,
) -> Iterator[LabelledText]:
    """Les textes étiquetés de `path`, trouvé dans `folder`.

    `skipped` reçoit ce qui ne va pas ; sans lui, UserError, qui nomme la ligne.
    """
    kind = path.suffix.lower()
    rows: Iterator[tuple[str, object]]
    if kind == ".txt":
        rows = iter([(str(path), _of_a_folder(path, folder, text_key, label_key))])
    else:
        rows = _table(path, text_key, label_key) if kind in (".csv", ".tsv") else rows_of(path)
    for where, row in rows:
        try:
            text, label = _value(row, text_key), _value(row, label_key)
        except BadRow as error:
            sentence = f"{where} : {error}"
            if skipped is None:
                raise UserError(f"{sentence} (data.errors=skip laisse de telles lignes de côté).") from None
            skipped(sentence)
            continue
        yield LabelledText(text, label, where, text)


def _of_a_folder(path: Path, folder: Path | None, text_key: str, label_key: str) -> dict[str, str] | BadRow:
    """Le texte d'un fichier, et le sous-dossier de `folder` où il est : c'est son étiquette."""
    if (text_key, label_key) != COLUMNS:
        raise UserError(
            f"{path} : data.text_key et data.label_key nomment des colonnes, et un .txt n'en a pas : retirez-les."
        )
    inside = path.relative_to(folder).parts if folder is not None and path.is_relative_to(folder) else ()
    if len(inside) < 2:
        return BadRow("un .txt est dans le sous-dossier de son étiquette : data.path=avis, et avis/bon/1.txt")
    return {text_key: "".join(read_blocks(path)), label_key: inside[0]}


def _value(row: object, key: str) -> str:
    """Le texte de `key` ; un nombre entier, ou un booléen, est l'étiquette qui s'écrit comme lui."""
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow("il faut un objet JSON")
    if key not in row:
        seen = ", ".join(map(str, list(row)[:6])) or "aucune"
        raise BadRow(
            f"il manque la clé {key} (clés lues : {seen} ; data.text_key et data.label_key les nomment)"
        )
    value = row[key]
    if isinstance(value, bool | int):
        value = str(value).lower()
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"{key} est vide ou n'est pas du texte")
    return whole_characters(value.replace("\r\n", "\n")).strip()


def _table(path: Path, *keys: str) -> Iterator[tuple[str, object]]:
    """Chaque ligne par titre, et l'endroit où elle est ; c'est un BadRow si elle n'a pas le bon nombre de cases."""
    lines = (f"{line}\n" for line in lines_of(read_blocks(path)))
    first = next(lines, "").strip("\n")
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(itertools.chain([f"{first}\n"], lines), delimiter=separator, strict=True)
    try:
        titles = [title.strip() for title in next(reader, [])]
        for key in keys:
            if key not in titles:
                name = "data.text_key" if key == keys[0] else "data.label_key"
                raise UserError(
                    f"{path} : il manque la colonne {key} (colonnes lues : {', '.join(titles[:8]) or 'aucune'}) ; "
                    f"donnez son titre avec {name}=."
                )
        for cells in reader:
            if not any(cells):
                continue
            where = f"{path}, ligne {reader.line_num}"
            if len(cells) != len(titles):
                yield where, BadRow(f"{len(cells)} cases pour {len(titles)} colonnes")
            else:
                yield where, dict(zip(titles, cells, strict=True))
    except csv.Error as error:
        raise UserError(
            f"{path}, ligne {reader.line_num} : ce n'est pas du CSV ({error}) ; un guillemet dans une case se double."
        ) from None
