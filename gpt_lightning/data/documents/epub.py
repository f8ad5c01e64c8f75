"""Lire un .epub : ses chapitres, dans l'ordre de lecture, sans sa table des matières."""

import io
import posixpath
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote

from gpt_lightning.data.documents import html
from gpt_lightning.data.documents.archives import Archive
from gpt_lightning.data.documents.bounds import Budget
from gpt_lightning.data.documents.prose import Target, attribute, local, parse_xml
from gpt_lightning.errors import UserError

CONTAINER, LOCKS = "META-INF/container.xml", "META-INF/encryption.xml"
PAGES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/x-dtbook+xml")


def read(file: BinaryIO, where: str, budget: Budget, errors: str) -> Iterator[str]:
    """Le texte d'un .epub, par blocs ; un chapitre commence après une ligne vide."""
    archive = Archive(file, where, budget)
    root = next((values for name, values in _elements(archive, CONTAINER) if name == "rootfile"), {})
    package = attribute(root, "full-path")
    chapters = _chapters(archive, package)
    locked = {
        attribute(values, "URI") for name, values in _elements(archive, LOCKS) if name == "CipherReference"
    }
    if {unquote(uri) for uri in locked} & {*chapters}:
        raise UserError(f"{where} est verrouillé (DRM) : il ne se lit que dans l'application qui l'a vendu.")
    begun = False
    for chapter in chapters:
        with archive.open(chapter) as page:
            content = io.BytesIO(page.read())  # compté par `budget`
        for block in html.read(content, f"{where}, {chapter}", budget, errors):
            if block:
                yield block
                begun = True
        if begun:
            yield "\n\n"


def _chapters(archive: Archive, package: str) -> list[str]:
    """Les noms des chapitres dans l'archive, dans l'ordre de lecture."""
    listed: dict[str, dict[str, str]] = {}
    order: list[str] = []
    for name, values in _elements(archive, package):
        if name == "item":
            listed[attribute(values, "id")] = values
        elif name == "itemref":
            order.append(attribute(values, "idref"))
    items = (listed[reference] for reference in order if reference in listed)
    pages = (
        item
        for item in items
        if "nav" not in attribute(item, "properties").split() and attribute(item, "media-type") in PAGES
    )
    folder = posixpath.dirname(package)
    return [posixpath.normpath(posixpath.join(folder, unquote(attribute(item, "href")))) for item in pages]


def _elements(archive: Archive, name: str) -> list[tuple[str, dict[str, str]]]:
    """Les éléments d'un membre XML : leur nom et leurs attributs ; aucun s'il n'est pas là et peut ne pas l'être."""
    if name == LOCKS and not archive.has(name):
        return []
    elements = _Elements()
    list(parse_xml(archive.open(name), elements, ".epub"))
    return elements.listed


class _Elements(Target):
    """Chaque élément et ses attributs."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[tuple[str, dict[str, str]]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.listed.append((local(tag), attributes))
