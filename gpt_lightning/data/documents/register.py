"""Ce qu'une commande sait des fichiers qu'elle a lus : leur texte, gardé le temps de la commande, et leurs fautes."""

import itertools
import logging
import os
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_lightning import durable
from gpt_lightning.data.documents.libraries import MissingLibrary
from gpt_lightning.data.documents.lines import PAGE
from gpt_lightning.data.reading import BLOCK, Piece
from gpt_lightning.errors import UserError
from gpt_lightning.wording import number

log = logging.getLogger("gpt_lightning")
_NUMBERS = itertools.count()  # deux corpus d'un même processus ont chacun leur brouillon
SHOWN = 70  # caractères d'une ligne, au plus


@dataclass
class Reading:
    """Ce qui a été lu d'un fichier : de quoi voir qu'il l'a été comme il faut."""

    documents: int = 0
    characters: int = 0
    first: str = ""
    last: str = ""
    pages: int = 0  # 0 : il n'en a pas
    blank: int = 0  # celles qui n'ont aucun texte
    joined: int = 0  # mots recollés
    heads: int = 0  # titres courants retirés

    def see(self, piece: Piece) -> None:
        """Compte un morceau, et retient la première et la dernière ligne."""
        self.documents += piece.last
        self.characters += len(piece.text)
        self.first = self.first or _line(piece.text.lstrip().partition("\n")[0])
        self.last = _line(piece.text.rstrip().rpartition("\n")[2]) or self.last

    @property
    def changes(self) -> str:
        """Ce que data.join_hyphens et data.drop_running_heads ont changé ; vide si rien."""
        words = f"{number(self.joined)} mot{'s recollés' if self.joined > 1 else ' recollé'}"
        lines = f"{number(self.heads)} ligne{'s' * (self.heads > 1)} de haut ou de bas de page en moins"
        return ", ".join(filter(None, (words * bool(self.joined), lines * bool(self.heads))))

    @property
    def size(self) -> str:
        """Ses pages, ses documents, ses caractères, et ce qui a changé."""
        pages = f"{number(self.pages)} page{'s' * (self.pages > 1)}" if self.pages else ""
        blank = f" (dont {number(self.blank)} sans texte)" if self.blank else ""
        several = f"{number(self.documents)} documents" if self.documents > 1 else ""
        characters = f"{number(self.characters)} caractère{'s' * (self.characters > 1)}"
        return ", ".join(filter(None, (pages + blank, several, characters, self.changes)))


def _line(text: str) -> str:
    text = text.strip()
    return text if len(text) <= SHOWN else f"{text[:SHOWN].rstrip()}…"


class Register:
    """Les lectures d'un corpus. Un texte extrait est gardé dans un brouillon de `folder`, effacé avec la commande."""

    def __init__(self, folder: Path = Path()) -> None:
        self.folder = folder
        self.readings: dict[str, Reading] = {}
        self.settled: dict[str, Reading] = {}  # celles de la première lecture
        self.skipped: dict[str, UserError] = {}  # ce que data.errors=skip a laissé de côté
        self.checked: set[Path] = set()
        self._draft: Path | None = None
        self._texts: dict[str, Path | UserError] = {}

    def text(self, where: str, extract: Callable[[], Iterable[str]]) -> Iterator[str]:
        """Le texte de `where`, extrait une fois par commande. UserError si son extraction en lève une, ou en a levé."""
        if where not in self._texts:
            self._texts[where] = self._extract(extract)
        text = self._texts[where]
        if isinstance(text, UserError):
            raise text
        with open(text, encoding="utf-8", newline="") as file:
            while block := file.read(BLOCK):
                yield block

    def _extract(self, extract: Callable[[], Iterable[str]]) -> Path | UserError:
        with durable.refusals(self.folder):
            if self._draft is None:
                self._draft = durable.scratch(self.folder / f"textes-{next(_NUMBERS)}")
                self._draft.mkdir(parents=True)
                weakref.finalize(self, _erase, self._draft, os.getpid())
            path = self._draft / str(
                len(self._texts)
            )  # sans suffixe : un corpus qui contient le cache ne le lit pas
            file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115
        with file:
            try:
                for block in extract():
                    with durable.refusals(self.folder):
                        file.write(block)
            except (durable.WriteError, MissingLibrary):
                raise
            except UserError as fault:
                return fault
        return path

    def skip(self, where: str, fault: UserError) -> None:
        """Note un fichier, ou une ligne, laissé de côté."""
        self.skipped.setdefault(where, fault)
        self.readings.pop(where, None)

    def watch(self, where: str, pieces: Iterable[Piece], reading: Reading) -> Iterator[Piece]:
        """Les mêmes morceaux, notés au passage dans `reading`."""
        self.readings[where] = reading
        for piece in pieces:
            reading.see(piece)
            yield piece

    def settle(self) -> None:
        """Retient ce qui vient d'être lu ; dit ce qui a été laissé de côté, d'abord quoi, et ce qui a été retiré."""
        self.settled = dict(self.readings)
        if self.skipped:
            plural = "s" * (len(self.skipped) > 1)
            log.warning(
                f"{number(len(self.skipped))} laissé{plural} de côté (data.errors=skip), d'abord : "
                f"{next(iter(self.skipped.values()))}"
            )
        readings = self.readings.values()
        total = Reading(joined=sum(r.joined for r in readings), heads=sum(r.heads for r in readings))
        if total.changes:
            log.info(f"Corpus     : {total.changes}")


def count_pages(blocks: Iterable[str], reading: Reading) -> Iterator[str]:
    """Les mêmes blocs, où un saut de page devient une fin de ligne ; `reading` compte les pages."""
    reading.pages, blank = 1, True
    for block in blocks:
        for rank, page in enumerate(block.split(PAGE)):
            if rank:
                reading.blank += blank
                reading.pages, blank = reading.pages + 1, True
            blank = blank and not page.strip()
        yield block.replace(PAGE, "\n")
    reading.blank += blank


def _erase(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # et non un processus de lecture, qui finit avant
        shutil.rmtree(folder, ignore_errors=True)
