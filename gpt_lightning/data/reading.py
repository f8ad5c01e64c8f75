"""Lire des fichiers de texte en flux : les trouver, les décoder, les couper en morceaux sûrs."""

import codecs
import glob
import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gpt_lightning import layout
from gpt_lightning.data.records import Repeated, parse_json
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters

BLOCK = 1 << 20  # caractères ou octets lus à la fois
log = logging.getLogger("gpt_lightning")
COMPRESSED = (".gz", ".zst")
TEXT_SUFFIXES = (".txt", ".md", ".jsonl")
CONVERSATION_KEYS = {"messages", "conversations", "instruction", "prompt"}
# les mots d'un nom de fichier, ou de dossier, qui disent sa moitié
HALVES = (
    ("train", "training", "entraînement", "entrainement"),
    ("validation", "valid", "val", "dev", "test", "eval"),
)


class Piece(NamedTuple):
    """Un bout de document ; `last` est vrai sur le dernier bout de chaque document, `key` le nomme s'il a un nom."""

    text: str
    last: bool
    key: str = ""


class Found(NamedTuple):
    """Les fichiers à lire, et ceux laissés de côté, chacun avec sa raison."""

    files: list[Path]
    left_out: list[tuple[Path, str]]


def find_files(
    path: str | list[str] | None, *, suffixes: tuple[str, ...] = TEXT_SUFFIXES, what: str = "du texte"
) -> Found:
    """Les fichiers que `path` désigne, triés, sans doublon. UserError s'il n'y en a aucun.

    Un dossier est lu en entier, liens compris : `left_out` nomme ce qui n'a pas un des `suffixes`.
    """
    if not path:
        raise UserError(
            f"Il manque le chemin {what} : data.path=mon_texte{suffixes[0]} (fichier, dossier ou motif)."
        )
    files: dict[Path, Path] = {}  # l'endroit réel -> le chemin tel qu'il est donné
    left_out: list[tuple[Path, str]] = []
    for entry in [path] if isinstance(path, str) else path:
        target = Path(os.path.expanduser(entry))  # avant Path, qui fait de ./~ un ~
        pattern = not target.exists()
        matches = sorted(map(Path, glob.glob(str(target), recursive=True))) if pattern else [target]
        before = len(files)
        for match in matches:
            if match.is_dir():
                _walk(match, files, left_out, suffixes)
            elif os.access(match, os.R_OK):
                files.setdefault(match.resolve(), match)
            else:
                raise UserError(f"data.path : {match} ne se lit pas (lien brisé, ou accès refusé).")
        if not matches:
            raise UserError(f"data.path : {entry} n'existe pas.")
        if len(files) == before and all(match.is_dir() for match in matches):
            simple = (suffix for suffix in suffixes if suffix.count(".") == 1)
            raise UserError(f"data.path : {entry} ne contient aucun fichier {', '.join(simple)}.")
    return Found(list(files.values()), left_out)


def _walk(
    folder: Path, files: dict[Path, Path], left_out: list[tuple[Path, str]], suffixes: tuple[str, ...]
) -> None:
    """Ajoute à `files` les textes de `folder` et de ses sous-dossiers, liens compris, une fois chacun."""
    seen: set[Path] = set()

    def note_refusal(error: OSError) -> None:
        left_out.append((Path(error.filename), "accès refusé"))

    for name, inside, names in os.walk(folder, followlinks=True, onerror=note_refusal):
        here = Path(name)
        seen.add(here.resolve())
        again = [child for child in inside if (here / child).resolve() in seen]
        left_out += [(here / child, "dossier déjà lu") for child in again]
        # ce qu'un entraînement écrit n'est pas du texte à apprendre : le corpus changerait d'une exécution à l'autre
        runs = [child for child in inside if (here / child / layout.RECORD).is_dir()]
        left_out += [(here / child, "dossier d'exécution") for child in runs]
        inside[:] = sorted(set(inside) - {*again, *runs})
        for path in (here / child for child in sorted(names)):
            real = path.resolve()
            if not path.suffix or not path.name.lower().endswith(suffixes):
                left_out.append((path, path.suffix.lower() or "sans suffixe"))
            elif not path.is_file():
                left_out.append((path, "lien brisé" if path.is_symlink() else "pas un fichier"))
            elif not os.access(path, os.R_OK):
                left_out.append((path, "accès refusé"))
            elif real in files and files[real] != path:
                left_out.append((path, "fichier déjà lu"))
            else:
                files[real] = path


def two_halves(path: str, files: Sequence[Path], named: Callable[[Path], bool]) -> tuple[str, str] | None:
    """Ce que `path`, un dossier ou un motif, contient d'entraînement et de validation, s'il a déjà les deux.

    `named` est vrai d'un fichier dont le nom compte ; sinon, c'est le premier dossier où il est.
    """
    folder = Path(os.path.expanduser(path))
    while not folder.exists() and glob.has_magic(str(folder)):
        folder = folder.parent
    places: dict[str, str] = {}  # un mot d'un nom -> le chemin qui le porte
    for file in files if folder.is_dir() else ():
        inside = file.relative_to(folder)
        names = inside.with_suffix("").parts if named(file) else inside.parts[:1]
        for depth, name in enumerate(names, start=1):
            place = str(folder.joinpath(*inside.parts[:depth]))
            for word in re.findall(r"[^\W\d_]+", name.lower()):
                places.setdefault(word, place)
    training, apart = (next((places[word] for word in words if word in places), None) for words in HALVES)
    return (training, apart) if training and apart and training != apart else None


def read_blocks(
    path: Path, errors: str | None = None, *, file: BinaryIO | None = None, unmarked: str = "utf-8-sig"
) -> Iterator[str]:
    """Le texte de `path` par blocs, BOM retiré, fins de ligne ramenées à \\n : ce que dit son BOM, ou `unmarked`.

    `file`, s'il est donné, est lu à la place, et `path` n'est qu'un nom. `errors` est `strict` ou `replace`, comme le
    dit data.errors ; None : strict, là où cette clé n'a pas de `replace`. UserError sur un octet invalide, avec sa
    position, ou si le fichier est binaire.
    """
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    with open(path, "rb") if file is None else nullcontext(file) as opened:
        head = opened.read(4)
        encoding = _encoding(head, unmarked)
        decoder = codecs.getincrementaldecoder(encoding)(errors or "strict")
        also = "" if errors is None else ", ou data.errors=replace pour continuer"
        while block := head + opened.read(max(BLOCK - len(head), 0)):
            head = b""
            if encoding == "utf-8-sig" and b"\0" in block:
                raise UserError(
                    f"{path} n'est pas un fichier texte : octet nul à la position {offset + block.index(0)} "
                    f"(de l'UTF-16 sans BOM ? convertissez-le en UTF-8)."
                )
            pending = len(decoder.getstate()[0])
            yield newlines.decode(_decode(decoder, block, path, offset - pending, also))
            offset += len(block)
    tail = _decode(decoder, b"", path, offset - len(decoder.getstate()[0]), also, final=True)
    yield newlines.decode(tail, final=True)


def _encoding(first: bytes, unmarked: str) -> str:
    """L'encodage que les premiers octets annoncent ; `unmarked` si rien n'est annoncé."""
    if first in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if first[:3] == codecs.BOM_UTF8:
        return "utf-8-sig"
    return "utf-16" if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else unmarked


def _decode(
    decoder: codecs.IncrementalDecoder, block: bytes, path: Path, offset: int, also: str, final: bool = False
) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        name = error.encoding.upper().replace("UTF8", "UTF-8")
        raise UserError(
            f"{path} n'est pas de l'{name} : octet invalide à la position {offset + error.start} ; "
            f"convertissez le fichier (iconv -f latin1 -t utf-8){also}."
        ) from None


def in_both(files: Iterable[Path], others: Iterable[Path]) -> list[Path]:
    """Ceux de `files` que `others` a aussi."""
    there = {path.resolve() for path in others}
    return [path for path in files if path.resolve() in there]


def say_read_twice(train: Iterable[Path], val: Iterable[Path]) -> None:
    """Dit qu'un fichier est lu des deux côtés."""
    if both := in_both(val, train):
        log.warning(
            f"{both[0]} est lu par data.path= et par data.val_path= : la validation mesure ce qui est appris."
        )


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


def end_documents(texts: Iterable[str]) -> Iterator[Piece]:
    """Marque le dernier morceau d'un document ; un document vide ne donne rien."""
    previous = None
    for text in texts:
        if previous is not None:
            yield Piece(previous, False)
        previous = text
    if previous is not None:
        yield Piece(previous, True)


def read_jsonl(
    blocks: Iterable[str],
    where: str,
    key: str,
    errors: str = "strict",
    skip: Callable[[str, UserError], None] | None = None,
) -> Iterator[Piece]:
    """Les textes des lignes d'un .jsonl nommé `where`. `skip`, s'il est donné, reçoit celles qui ne se lisent pas."""
    for number, line in enumerate(lines_of(blocks), start=1):
        if not line.strip():
            continue
        place = f"{where}, ligne {number}"
        try:
            text = valid_text(_text_of(line, key, place), errors, place)
        except UserError as fault:
            if skip is None:
                raise
            skip(place, fault)
            continue
        yield from end_documents(cut(text[i : i + BLOCK] for i in range(0, len(text), BLOCK)))


def _text_of(line: str, key: str, place: str) -> str:
    """Le texte d'une ligne de .jsonl. UserError si elle n'en a pas un."""
    row = None
    try:
        row = parse_json(line)
        if not isinstance(row, dict):
            raise TypeError
        text = row[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        talks = isinstance(row, dict) and CONVERSATION_KEYS & row.keys()
        advice = (
            "experiment=instruct lit des conversations" if talks else "data.text_key=... en choisit une autre"
        )
        raise UserError(f"{place} : il faut un objet JSON avec la clé {key!r} ({advice}).") from None
    if isinstance(row, Repeated) and row.key == key:
        raise UserError(f"{place} : la clé {key!r} est donnée deux fois : gardez-en une.")
    if not isinstance(text, str):
        raise UserError(f"{place} : la clé {key!r} ne contient pas un texte.")
    return text


def valid_text(text: str, errors: str, where: str) -> str:
    """`text`, où un demi-caractère UTF-16 écrit seul (« \\ud83d ») devient U+FFFD. UserError si `errors` est strict."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError as error:
        if errors != "replace":
            half = f"\\u{ord(text[error.start]):04x}"
            raise UserError(
                f"{where} : « {half} » n'est que la moitié d'un caractère ; corrigez la ligne, "
                f"ou data.errors=replace pour continuer."
            ) from None
        return whole_characters(text)


def lines_of(blocks: Iterable[str]) -> Iterator[str]:
    """Les lignes d'un texte lu par blocs, sans leur fin."""
    rest: list[str] = []
    for block in blocks:
        *complete, last = block.split("\n")
        for line in complete:
            yield "".join([*rest, line])
            rest = []
        rest.append(last)
    yield "".join(rest)
