"""Lire des fichiers de textes étiquetés.

.csv, .tsv       une ligne de titres, une colonne du texte et une de l'étiquette (table)
.jsonl, .json    {"text": ..., "label": ...}, un objet par ligne, ou une liste
un dossier       un sous-dossier par étiquette, un fichier .txt par texte
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt_lightning.data.classify.table import COLUMNS, read_table
from gpt_lightning.data.instruct.formats import UNTAUGHT, rows_of
from gpt_lightning.data.reading import read_blocks
from gpt_lightning.data.records import BadRow, as_object, parse_rows, refuse_twins
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters
from gpt_lightning.tokenizers.messages import unread_keys

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt")


class LabelledText(NamedTuple):
    """Un texte, son étiquette, et d'où il vient ; `key` dit de quelle moitié il est (la même clé, le même côté)."""

    text: str
    label: str
    where: str = ""
    key: str = ""
    unread: tuple[str, ...] = ()  # ses autres colonnes


def read_labelled(
    path: Path,
    text_key: str,
    label_key: str,
    skipped: Callable[[str], None] | None = None,
    folder: Path | None = None,
    *,
    strict: bool = True,
) -> Iterator[LabelledText]:
    """Les textes étiquetés de `path`, trouvé dans `folder` ; les étiquettes, telles que le fichier les écrit.

    `skipped` reçoit ce qui ne va pas ; sans lui, UserError, qui nomme la ligne. `strict` est celui de `read_table`.
    """
    kind = path.suffix.lower()
    rows: Iterator[tuple[str, object]]
    if kind == ".txt":
        rows = iter([(str(path), _of_a_folder(path, folder, text_key, label_key, strict))])
    else:
        table = kind in (".csv", ".tsv")
        rows = read_table(path, (text_key, label_key), strict=strict) if table else rows_of(path)

    def parse(row: object) -> tuple[str, str]:
        return _value(row, text_key, "data.text_key"), _value(row, label_key, "data.label_key")

    for where, row, (text, label) in parse_rows(rows, parse, skipped):
        assert isinstance(row, dict)  # parse l'a lue
        yield LabelledText(
            text, label, where, text, tuple(unread_keys(row, {text_key, label_key} | UNTAUGHT))
        )


def _of_a_folder(
    path: Path, folder: Path | None, text_key: str, label_key: str, strict: bool
) -> dict[str, str] | BadRow:
    """Le texte d'un fichier, et le sous-dossier de `folder` où il est : c'est son étiquette."""
    if (text_key, label_key) != COLUMNS:
        raise UserError(
            f"{path} : data.text_key et data.label_key nomment des colonnes, et un .txt n'en a pas : retirez-les."
        )
    inside = path.relative_to(folder).parts if folder is not None and path.is_relative_to(folder) else ()
    if len(inside) < 2:
        return BadRow("un .txt est dans le sous-dossier de son étiquette : data.path=avis, et avis/bon/1.txt")
    if len(inside) > 2 and strict:
        first, last = inside[0], inside[-2]
        raise UserError(
            f"{path} : son étiquette est-elle « {first} » ou « {last} » ? Pour « {last} », donnez "
            f"data.path={path.parents[1]} (et data.val_path= pour la validation) ; pour « {first} », mettez les .txt "
            f"directement dans son dossier."
        )
    return {text_key: "".join(read_blocks(path)), label_key: inside[0]}


def _value(row: object, key: str, name: str) -> str:
    """Le texte de `key` ; un nombre, ou un booléen, est l'étiquette qui s'écrit comme lui."""
    row = as_object(row)
    if key not in row:
        seen = ", ".join(map(str, list(row)[:6])) or "aucune"
        raise BadRow(
            f"il manque la clé {key} (clés lues : {seen} ; data.text_key et data.label_key les nomment)"
        )
    if key in COLUMNS:
        refuse_twins(row, key, name)
    value = row[key]
    if isinstance(value, bool | int | float) and value == value:  # NaN est une case vide
        value = str(value).lower()
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"{key} est vide ou n'est pas du texte")
    return whole_characters(value.replace("\r\n", "\n")).strip()
