"""Lire des fichiers de texte en flux : les trouver, les décoder, les couper en morceaux sûrs."""

import codecs
import glob
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt_lightning.errors import UserError

BLOCK = 1 << 20  # caractères ou octets lus à la fois
TEXT_SUFFIXES = (".txt", ".md", ".jsonl")


class Piece(NamedTuple):
    """Un bout de document ; `last` est vrai sur le dernier bout de chaque document, `key` le nomme s'il a un nom."""

    text: str
    last: bool
    key: str = ""


def read_files(paths: Iterable[Path], *, jsonl_key: str = "text", errors: str = "strict") -> Iterator[Piece]:
    """Le flux de ces fichiers : un document par fichier, ou par ligne d'un .jsonl."""
    for path in paths:
        if path.suffix == ".jsonl":
            yield from _read_jsonl(path, jsonl_key, errors)
        else:
            yield from _documents_end(cut(read_blocks(path, errors)))


def find_files(path: str | list[str] | None) -> list[Path]:
    """Les fichiers texte que `path` désigne, triés, sans doublon. UserError s'il n'y en a aucun."""
    if not path:
        raise UserError("Il manque le chemin du texte : data.path=mon_texte.txt (fichier, dossier ou motif).")
    found: dict[Path, None] = {}
    for one in [path] if isinstance(path, str) else path:
        target = Path(one).expanduser()
        if target.is_file():
            matches = [target]
        elif target.is_dir():
            matches = sorted(p for p in target.rglob("*") if p.suffix in TEXT_SUFFIXES and p.is_file())
        else:
            matches = sorted(Path(p) for p in glob.glob(str(target), recursive=True) if Path(p).is_file())
        if not matches:
            kind = (
                f"ne contient aucun fichier {', '.join(TEXT_SUFFIXES)}" if target.is_dir() else "n'existe pas"
            )
            raise UserError(f"data.path : {one} {kind}.")
        found.update(dict.fromkeys(matches))
    return list(found)


def read_blocks(path: Path, errors: str = "strict") -> Iterator[str]:
    """Le texte UTF-8 de `path` par blocs, BOM retiré, fins de ligne ramenées à \\n.

    UserError sur un octet invalide, avec sa position, ou si le fichier est binaire.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors)
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            if b"\0" in block:
                position = offset + block.index(b"\0")
                raise UserError(f"{path} n'est pas un fichier texte : octet nul à la position {position}.")
            pending = len(decoder.getstate()[0])
            yield newlines.decode(_decode(decoder, block, path, offset - pending))
            offset += len(block)
    tail = _decode(decoder, b"", path, offset - len(decoder.getstate()[0]), final=True)
    yield newlines.decode(tail, final=True)


def _decode(
    decoder: codecs.IncrementalDecoder, block: bytes, path: Path, offset: int, final: bool = False
) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} n'est pas de l'UTF-8 : octet invalide à la position {offset + error.start} ; "
            f"convertissez le fichier, ou data.errors=replace pour continuer."
        ) from None


def cut(blocks: Iterable[str]) -> Iterator[str]:
    """Recoupe un flux en morceaux d'environ un bloc, juste avant un espace qui suit une lettre ou un chiffre.

    Là, les tokenizers du projet donnent les mêmes jetons que sur le texte entier. Sans un tel endroit pendant
    quatre blocs (une ligne de « aaaa » sans fin), on coupe où l'on est.
    """
    rest = ""
    for block in blocks:
        rest += block
        if len(rest) < BLOCK:
            continue
        end = rest.rfind(" ")
        while end > 0 and not rest[end - 1].isalnum():
            end = rest.rfind(" ", 0, end)
        if end > 0:
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) >= 4 * BLOCK:
            yield rest
            rest = ""
    if rest:
        yield rest


def _documents_end(texts: Iterable[str]) -> Iterator[Piece]:
    """Marque le dernier morceau d'un document ; un document vide ne donne rien."""
    previous = None
    for text in texts:
        if previous is not None:
            yield Piece(previous, False)
        previous = text
    if previous is not None:
        yield Piece(previous, True)


def _read_jsonl(path: Path, key: str, errors: str) -> Iterator[Piece]:
    lines = _lines(read_blocks(path, errors))
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[key]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(
                f"{path}, ligne {number} : il faut un objet JSON avec la clé {key!r} "
                f"(data.jsonl_key=... en choisit une autre)."
            ) from None
        if not isinstance(text, str):
            raise UserError(f"{path}, ligne {number} : la clé {key!r} ne contient pas un texte.")
        yield from _documents_end(cut(text[i : i + BLOCK] for i in range(0, len(text), BLOCK)))


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    rest: list[str] = []
    for block in blocks:
        *complete, last = block.split("\n")
        for line in complete:
            yield "".join([*rest, line])
            rest = []
        rest.append(last)
    yield "".join(rest)
