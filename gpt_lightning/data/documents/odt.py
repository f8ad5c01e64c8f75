"""Lire un .odt : le texte, ses tableaux, ses notes ; ni commentaires, ni table des matières, ni ce qui est effacé."""

from collections.abc import Iterator
from typing import BinaryIO

from gpt_lightning.data.documents.archives import Archive
from gpt_lightning.data.documents.bounds import Budget
from gpt_lightning.data.documents.prose import Prose, Target, attribute, local, parse_xml
from gpt_lightning.errors import UserError

UNSEEN = {
    *("annotation", "tracked-changes", "table-of-content", "note-citation", "script", "forms", "ruby-text"),
    *("desc", "title", "styles", "automatic-styles"),  # d'une image ; d'une mise en page
}
SPACES = 1000  # au plus, d'un seul <text:s>


def read(file: BinaryIO, where: str, budget: Budget) -> Iterator[str]:
    """Le texte d'un .odt, par blocs."""
    archive = Archive(file, where, budget)
    if archive.has("META-INF/manifest.xml"):
        manifest = _Manifest()
        list(parse_xml(archive.open("META-INF/manifest.xml"), manifest, ".odt"))
        if manifest.locked:
            raise UserError(
                f"{where} est protégé par un mot de passe : ouvrez-le, et enregistrez-le sans lui."
            )
    yield from parse_xml(archive.open("content.xml"), _Content(), ".odt")


class _Manifest(Target):
    """Ce que le manifeste dit : si le contenu est chiffré."""

    def __init__(self) -> None:
        super().__init__()
        self.locked = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.locked |= local(tag) == "encryption-data"


class _Content(Target):
    """Compose le texte ; une note va après le paragraphe qui l'appelle."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.notes = self.prose, Prose()
        self.unseen = self.paragraphs = self.tables = self.outside = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag)
        if self.unseen or name in UNSEEN:
            self.unseen += 1
        elif name == "note":
            self.body, self.outside, self.paragraphs = self.notes, self.paragraphs, 0
        elif name in ("p", "h"):
            self.paragraphs += 1
        elif name == "table":
            self.tables += 1
        elif name == "s" and self.paragraphs:
            count = attribute(attributes, "c")
            self.body.write(" " * min(int(count) if count.isdecimal() else 1, SPACES))
        elif name in ("tab", "line-break") and self.paragraphs:
            self.body.write("\t" if name == "tab" else "\n")

    def end(self, tag: str) -> None:
        name = local(tag)
        if self.unseen:
            self.unseen -= 1
        elif name == "note":
            self.body, self.paragraphs = self.prose, self.outside
        elif name in ("p", "h"):
            self.paragraphs -= 1
            self.body.gap(" " if self.tables else "\n\n")
            if self.body is self.prose and not self.paragraphs and (notes := self.notes.take()):
                self.prose.gap("\n\n")
                self.prose.write(notes.strip())
                self.prose.gap("\n\n")
        elif name == "table-cell":
            self.body.gap("\t")
        elif name == "table-row":
            self.body.gap("\n")
        elif name == "table":
            self.tables -= 1
            self.body.gap("\n\n")

    def data(self, text: str) -> None:
        if self.paragraphs and not self.unseen:
            self.body.flow(text)
