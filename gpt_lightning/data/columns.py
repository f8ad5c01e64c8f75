"""Une colonne de textes : un document par ligne d'un tableau, d'un .parquet ou d'un jeu de données."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gpt_lightning.data.documents.libraries import library
from gpt_lightning.data.reading import BLOCK, Piece, cut, end_documents, valid_text
from gpt_lightning.data.records import BadRow
from gpt_lightning.errors import UserError

if TYPE_CHECKING:
    import pyarrow

ROWS = 256  # lignes d'un .parquet lues à la fois
EXTRA = "corpus"  # ce qui s'installe pour eux
Skip: TypeAlias = Callable[[str, UserError], None]


def documents(
    rows: Iterable[tuple[str, object]], key: str, errors: str = "strict", skip: Skip | None = None
) -> Iterator[Piece]:
    """Les textes de ces lignes, (endroit, texte). `skip`, s'il est donné, reçoit celles qui n'en ont pas.

    UserError sinon, qui nomme la ligne.
    """
    for where, value in rows:
        try:
            text = valid_text(_text(value, key, where), errors, where)
        except UserError as fault:
            if skip is None:
                raise
            skip(where, UserError(str(fault)))  # sans sa trace, qui garderait la ligne en mémoire
            continue
        yield from end_documents(cut(text[i : i + BLOCK] for i in range(0, len(text), BLOCK)))


def _text(value: object, key: str, where: str) -> str:
    if isinstance(value, str):
        return value
    why = (
        value
        if isinstance(value, BadRow)
        else f"{key} " + ("est vide" if value is None else "n'est pas du texte")
    )
    raise UserError(f"{where} : {why} (data.errors=skip laisse de telles lignes de côté).")


def missing(where: object, key: str, columns: Iterable[str]) -> UserError:
    """Ce qui est dit d'une colonne qui n'est pas là, ou qui n'est pas du texte : celles qui en sont."""
    listed = ", ".join([*columns][:8]) or "aucune"
    return UserError(
        f"{where} n'a pas de texte dans une colonne {key} : data.text_key= en choisit une ({listed})."
    )


def read_parquet(path: Path, key: str, errors: str = "strict", skip: Skip | None = None) -> Iterator[Piece]:
    """Les textes de la colonne `key` de `path`, un paquet de lignes en mémoire à la fois.

    UserError si le fichier est abîmé, ou si la colonne n'est pas du texte ; `skip`, s'il est donné, la reçoit.
    """
    try:
        yield from documents(_rows(path, key, errors), key, errors, skip)
    except UserError as fault:
        if skip is None:
            raise
        skip(str(path), UserError(str(fault)))


def _rows(path: Path, key: str, errors: str) -> Iterator[tuple[str, object]]:
    arrow, parquet = (library(name, "un .parquet", EXTRA) for name in ("pyarrow", "pyarrow.parquet"))
    line = 0
    try:
        _check_column(parquet.read_schema(path), path, key)
        # d'un dictionnaire, une ligne n'est qu'un rang : un texte répété n'est pas recopié
        with parquet.ParquetFile(path, read_dictionary=[key], buffer_size=BLOCK, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS, columns=[key], use_threads=False):
                for value in batch.column(0):
                    line += 1
                    where = f"{path}, ligne {line}"
                    yield where, _value(value, errors, where)
    except UserError:
        raise
    except (arrow.ArrowException, OSError, MemoryError) as error:
        after = f" après la ligne {line}" if line else ""
        why = str(error).strip().split("\n")[0].rstrip(".")[:150]
        raise UserError(f"{path} ne se lit pas{after}, ce .parquet est abîmé ({why}).") from None


def _value(value: "pyarrow.Scalar", errors: str, where: str) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        if errors == "replace":
            plain = getattr(value, "value", value)  # celle d'un dictionnaire est à côté
            return plain.as_buffer().to_pybytes().decode("utf-8", "replace")
        return BadRow("un octet n'est pas de l'UTF-8 ; data.errors=replace le remplace")


def _check_column(schema: "pyarrow.Schema", path: Path, key: str) -> None:
    """UserError si `key` n'est pas la seule colonne de ce nom, ou si elle n'est pas du texte."""
    names = schema.names
    if names.count(key) > 1:
        raise UserError(
            f"{path} : {names.count(key)} colonnes s'appellent {key}, renommez celle qui n'est pas à lire."
        )
    texts = [field.name for field in schema if _is_text(field.type)]
    if key not in texts:
        raise missing(path, key, texts)


def _is_text(kind: "pyarrow.DataType") -> bool:
    """Vrai d'un texte, ou d'un dictionnaire de textes."""
    inside = kind.value_type if str(kind).startswith("dictionary") else kind
    return str(inside) in ("string", "large_string", "string_view")
