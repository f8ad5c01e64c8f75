"""Lire des fichiers de toutes les formes : chaque format a son fichier, `READERS` et `DECODERS` sont leurs tables.

Un lecteur reçoit un fichier ouvert, son nom pour les phrases, et son budget ; il donne le texte par blocs. Ce qui est
compressé est déplié au fil de la lecture, dans le même budget.
"""

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from gpt_lightning.data import columns
from gpt_lightning.data.classify.table import read_table
from gpt_lightning.data.documents import archives, docx, epub, html, odt, pdf, srt
from gpt_lightning.data.documents.bounds import Budget, faults, looks_like, patiently
from gpt_lightning.data.documents.libraries import MissingLibrary
from gpt_lightning.data.documents.lines import drop_running_heads, join_hyphens
from gpt_lightning.data.documents.register import Reading, Register, count_pages
from gpt_lightning.data.reading import (
    COMPRESSED,
    TEXT_SUFFIXES,
    Piece,
    cut,
    end_documents,
    read_blocks,
    read_jsonl,
)
from gpt_lightning.errors import UserError

Reader: TypeAlias = Callable[[BinaryIO, str, Budget], Iterator[str]]
Decoder: TypeAlias = Callable[[BinaryIO, str, Budget, str], Iterator[str]]  # data.errors=replace y vaut
READERS: dict[str, Reader] = {
    ".docx": docx.read,
    ".odt": odt.read,
    ".pdf": pdf.read,
}
DECODERS: dict[str, Decoder] = {
    ".epub": epub.read,
    ".html": html.read,
    ".htm": html.read,
    ".xhtml": html.read,
    ".srt": srt.read,
}
PAGED, MAY_BE_EMPTY = (".pdf",), (".html", ".htm", ".xhtml", ".srt")
TABLES = (".csv", ".tsv")
PLAIN = (*TEXT_SUFFIXES, *TABLES, ".tex", ".rst")  # le texte même
FORMATS = (*PLAIN, *READERS, *DECODERS)
SUFFIXES = (*FORMATS, ".zip", *(f"{suffix}{outer}" for suffix in FORMATS for outer in COMPRESSED))
# ce que l'on pourrait croire lu, et ce qu'il faut en faire
ADVICE = {
    **dict.fromkeys((".doc", ".rtf", ".wpd", ".pages"), "enregistrez-le en .docx ou en .odt"),
    **dict.fromkeys((".ppt", ".pptx", ".odp", ".key", ".djvu", ".ps", ".xps"), "enregistrez-le en .pdf"),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".numbers"), "enregistrez-le en texte"),
    **dict.fromkeys((".mobi", ".azw", ".azw3", ".fb2", ".lit"), "convertissez-le en .epub"),
    **dict.fromkeys((".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar"), "faites-en un .zip, ou un dossier"),
}
MEMORY = 1 << 24  # octets d'un document compressé gardés en mémoire ; au-delà, un fichier provisoire


@dataclass(frozen=True, kw_only=True)
class Options:
    """Comment lire des fichiers ; conf/data/text.yaml dit chaque clé."""

    text_key: str = "text"
    errors: str = "strict"
    max_expansion: float = 100
    join_hyphens: bool = False
    drop_running_heads: bool = False
    plain: bool = False  # lire tout comme du texte, hors .jsonl : ce que faisait la version d'avant


@dataclass(frozen=True)
class Text:
    """Un fichier, ou le membre d'une archive : son nom pour les phrases, son suffixe, de quoi l'ouvrir."""

    where: str
    suffix: str
    open: Callable[[], BinaryIO]
    budget: Budget


def read_files(
    paths: Iterable[Path], options: Options = Options(), register: Register | None = None
) -> Iterator[Piece]:
    """Le flux de ces fichiers : un document par fichier, par membre d'un .zip, ou par ligne d'un .jsonl.

    UserError si l'un ne se lit pas ; avec `errors=skip`, `register` le note, et rien n'en est lu.
    """
    register = register or Register()
    for path in paths:
        if options.errors == "skip" and path not in register.checked:
            for _ in _read_file(path, options, register):
                pass
            register.checked.add(path)
        yield from _read_file(path, options, register)


def _read_file(path: Path, options: Options, register: Register) -> Iterator[Piece]:
    try:
        for text in _texts(path, options):
            if text.where in register.skipped:
                continue
            try:
                reading = Reading()
                yield from register.watch(text.where, _pieces(text, options, register, reading), reading)
            except UserError as fault:
                _note(text.where, fault, options, register)
    except UserError as fault:
        _note(str(path), fault, options, register)


def _note(where: str, fault: UserError, options: Options, register: Register) -> None:
    if options.errors != "skip" or isinstance(fault, MissingLibrary):
        raise fault
    register.skip(where, fault)


def _texts(path: Path, options: Options) -> Iterator[Text]:
    """Les textes d'un fichier : un, ou ceux d'un .zip."""
    outer, inner = path.suffix.lower(), archives.suffix_of(path.stem)
    suffix = inner if outer in COMPRESSED else outer
    if options.plain and outer not in TEXT_SUFFIXES:
        yield Text(
            str(path), "", lambda: _open(path), Budget(str(path), path.stat().st_size, options.max_expansion)
        )
        return
    if suffix in ADVICE or outer in ADVICE:
        raise UserError(f"{path} : un {suffix} ne se lit pas ici, {ADVICE.get(suffix) or ADVICE[outer]}.")
    budget = Budget(str(path), path.stat().st_size, options.max_expansion)
    if suffix == ".zip":
        yield from _members(path, budget)
    elif outer in COMPRESSED:
        yield Text(str(path), suffix, lambda: archives.expand(_open(path), outer, budget), budget)
    else:
        yield Text(str(path), suffix, lambda: _open(path), budget)


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


def _members(path: Path, budget: Budget) -> Iterator[Text]:
    if path.suffix.lower() != ".zip":
        raise UserError(f"{path} est une archive dans une autre : dépliez-la une fois.")
    with _open(path) as file:
        first = file.read(8)
        with faults(str(path), ".zip", first):
            archive = archives.Archive(file, str(path), budget)
        members = archive.readable(FORMATS)
        if not members:
            raise UserError(f"{path} ne contient aucun fichier {', '.join(FORMATS)}.")
        for member in members:
            where = f"{path}, {member.filename}"
            suffix = archives.suffix_of(member.filename)
            yield Text(where, suffix, partial(archive.open, member), budget)


def _pieces(text: Text, options: Options, register: Register, reading: Reading) -> Iterator[Piece]:
    blocks = partial(_blocks, text, options, register)
    skip = register.skip if options.errors == "skip" else None
    if text.suffix in TABLES:
        key, rows = options.text_key, read_table(Path(text.where), (options.text_key,), blocks=blocks())
        cells = ((where, row[key] if isinstance(row, dict) else row) for where, row in rows)
        yield from columns.documents(cells, key, options.errors, skip)
        return
    if text.suffix == ".jsonl":
        yield from read_jsonl(blocks(), text.where, options.text_key, options.errors, skip)
        return

    def count(name: str) -> None:
        setattr(reading, name, getattr(reading, name) + 1)

    clean = drop_running_heads(blocks, partial(count, "heads")) if options.drop_running_heads else blocks()
    if text.suffix in PAGED:
        clean = count_pages(clean, reading)
    if options.join_hyphens:
        clean = join_hyphens(clean, partial(count, "joined"))
    yield from end_documents(cut(clean))


def _blocks(text: Text, options: Options, register: Register) -> Iterator[str]:
    """Le texte d'un fichier, par blocs, tel que son lecteur le donne."""
    if text.suffix in READERS or text.suffix in DECODERS:
        yield from register.text(text.where, partial(_extract, text, _invalid(options)))
        return
    with faults(text.where, "texte"), text.open() as file:
        if (peek := getattr(file, "peek", None)) and (seems := looks_like(peek(8)[:8])):
            raise UserError(f"{text.where} n'est pas du texte, mais {seems} : donnez-lui son vrai suffixe.")
        yield from read_blocks(Path(text.where), _invalid(options), file=file)


def _invalid(options: Options) -> str:
    """Ce que devient un octet invalide."""
    return "replace" if options.errors == "replace" else "strict"


def _extract(text: Text, errors: str) -> Iterator[str]:
    """Le texte d'un document. UserError s'il n'en a pas, ou s'il ne se lit pas."""
    empty = True
    with _seekable(text) as file:
        first = file.read(8)
        file.seek(0)
        if decoder := DECODERS.get(text.suffix):
            blocks = decoder(file, text.where, text.budget, errors)
        else:
            blocks = READERS[text.suffix](file, text.where, text.budget)
        with faults(text.where, text.suffix, first):
            for block in patiently(blocks, text.budget):
                empty = empty and not block.strip()
                yield block
    if empty and text.suffix not in MAY_BE_EMPTY:
        raise UserError(f"{text.where} n'a aucun texte : retirez-le (data.errors=skip le laisse de côté).")


@contextmanager
def _seekable(text: Text) -> Iterator[BinaryIO]:
    """Le fichier, où l'on peut revenir en arrière ; ce qui vient d'une archive est recopié, dans son budget."""
    with faults(text.where, text.suffix), text.open() as file:
        if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO):
            yield file
            return
        with tempfile.SpooledTemporaryFile(MEMORY) as copy:
            while block := file.read(1 << 16):
                copy.write(block)
            copy.seek(0)
            yield cast(BinaryIO, copy)


def left_out(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Ce que des .zip contiennent et qui ne sera pas lu, avec sa raison."""
    listed: list[tuple[Path, str]] = []
    for path in paths:
        if path.suffix.lower() == ".zip":
            with faults(str(path), ".zip"):
                listed += archives.members_left_out(path, FORMATS)
    return listed


__all__ = ["PLAIN", "SUFFIXES", "Options", "Register", "left_out", "read_files"]
