"""Composer le texte d'un document balisé : ses blancs, ses paragraphes, et rien de ce qui ne s'affiche pas."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from gpt_lightning.data.documents.libraries import library

PART = 1 << 16  # octets ou caractères donnés à la fois à un analyseur
_BLANKS = re.compile(r"[ \t\n\r\f]+")
_GAPS = ("", " ", "\t", "\n", "\n\n")  # du plus faible au plus fort


class Prose:
    """Un texte qui se compose ; de deux écarts voisins, le plus fort reste. Aucun au début."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._gap, self._begun = "", False

    def gap(self, gap: str) -> None:
        """Sépare ce qui est écrit de ce qui suivra."""
        self._gap = max(self._gap, gap, key=_GAPS.index)

    def write(self, text: str) -> None:
        """Écrit `text` tel quel."""
        if text:
            self._parts.append(self._gap + text if self._begun else text)
            self._gap, self._begun = "", True

    def flow(self, text: str) -> None:
        """Écrit `text`, où plusieurs blancs n'en font qu'un."""
        text = _BLANKS.sub(" ", text)
        if text.startswith(" "):
            self.gap(" ")
        self.write(text.strip(" "))
        if text.endswith(" "):
            self.gap(" ")

    def take(self) -> str:
        """Ce qui est écrit depuis la dernière fois."""
        text = "".join(self._parts)
        self._parts = []
        return text


class Target:
    """Ce qu'un analyseur de XML appelle ; rien n'y est fait."""

    def __init__(self) -> None:
        self.prose = Prose()

    def start(self, tag: str, attributes: dict[str, str]) -> None: ...

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...

    def close(self) -> None: ...


def parse_xml(file: BinaryIO, target: Target, suffix: str) -> Iterator[str]:
    """Le texte que `target` compose d'un XML lu en flux. Aucune DTD, aucune entité, rien d'externe."""
    with file:
        parser = library("defusedxml.ElementTree", suffix).XMLParser(target=target, forbid_dtd=True)
        while block := file.read(PART):
            parser.feed(block)
            yield target.prose.take()
        parser.close()
        yield target.prose.take()


def local(name: str) -> str:
    """Un nom XML sans son espace de noms."""
    return name.rpartition("}")[2]


def attribute(attributes: dict[str, str], name: str) -> str:
    """L'attribut `name`, quel que soit son espace de noms ; vide s'il n'est pas là."""
    return next((value for key, value in attributes.items() if local(key) == name), "")
