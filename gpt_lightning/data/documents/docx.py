"""Lire un .docx : le corps du texte, ses tableaux et ses notes ; ni en-têtes, ni commentaires, ni ce qui est effacé."""

import posixpath
from collections.abc import Iterator
from typing import BinaryIO

from gpt_lightning.data.documents.archives import Archive
from gpt_lightning.data.documents.bounds import Budget
from gpt_lightning.data.documents.prose import Target, attribute, local, parse_xml

# effacé, déplacé, calculé, ou répété pour d'anciens lecteurs
UNSEEN = {"del", "moveFrom", "instrText", "delText", "delInstrText", "Fallback", "rt"}
NOTES = ("footnotes", "endnotes")


def read(file: BinaryIO, where: str, budget: Budget) -> Iterator[str]:
    """Le texte d'un .docx, par blocs : un paragraphe par ligne, séparés par une ligne vide."""
    archive = Archive(file, where, budget)
    links = _Links()
    list(parse_xml(archive.open("_rels/.rels"), links, ".docx"))
    body = links.main or "word/document.xml"
    yield from parse_xml(archive.open(body), _Body(), ".docx")
    for name in NOTES:
        separator = "\n\n"
        notes = posixpath.join(posixpath.dirname(body), f"{name}.xml")
        if archive.has(notes):
            for block in parse_xml(archive.open(notes), _Body(), ".docx"):
                yield f"{separator}{block}" if block else ""
                separator = "" if block else separator


class _Links(Target):
    """Ce que `_rels/.rels` dit du document : le nom de son corps."""

    def __init__(self) -> None:
        super().__init__()
        self.main = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if attribute(attributes, "Type").endswith("/officeDocument"):
            self.main = posixpath.normpath(attribute(attributes, "Target")).lstrip("/")


class _Body(Target):
    """Compose le texte d'un corps ou de notes."""

    def __init__(self) -> None:
        super().__init__()
        self.unseen = 0  # éléments ouverts dont rien ne s'affiche
        self.run = self.hidden = self.written = self.contents = False
        self.tables = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag)
        if name == "docPartGallery":
            self.contents = attribute(attributes, "val") == "Table of Contents"
        separator = name in ("footnote", "endnote") and attribute(attributes, "type") not in ("", "normal")
        contents = name == "sdtContent" and self.contents
        if self.unseen or name in UNSEEN or separator or contents:
            self.unseen += 1
        elif name == "r":
            self.run, self.hidden = True, False
        elif name == "vanish" and self.run:
            self.hidden = attribute(attributes, "val") not in ("0", "false", "off")
        elif name == "tbl":
            self.tables += 1
        elif name == "t":
            self.written = not self.hidden
        elif self.run and not self.hidden:
            self.prose.write({"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}.get(name, ""))

    def end(self, tag: str) -> None:
        name = local(tag)
        if self.unseen:
            self.unseen -= 1
            if not self.unseen and name == "sdtContent":
                self.contents = False
        elif name == "t":
            self.written = False
        elif name == "r":
            self.run = False
        elif name == "p":
            self.prose.gap(" " if self.tables else "\n\n")
        elif name == "tc":
            self.prose.gap("\t")
        elif name == "tr":
            self.prose.gap("\n")
        elif name == "tbl":
            self.tables -= 1
            self.prose.gap("\n\n")

    def data(self, text: str) -> None:
        if self.written and not self.unseen:
            self.prose.write(text)
