"""Lire du HTML : ce qu'une page dit, sans ses scripts, ses styles ni ses menus ; le XHTML d'un .epub aussi."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from gpt_lightning.data.documents.bounds import Budget
from gpt_lightning.data.documents.libraries import library
from gpt_lightning.data.documents.prose import Prose
from gpt_lightning.data.reading import read_blocks
from gpt_lightning.errors import UserError

UNSEEN = {
    *("head", "script", "style", "template", "noscript", "nav", "menu", "svg", "iframe", "object", "canvas"),
    *("audio", "video", "select", "datalist", "button", "textarea", "rt", "rp", "annotation"),
}
ROLES = {"navigation", "menu", "menubar", "toolbar", "tablist", "search", "tree"}
# ce qui n'est qu'un menu si la moitié de son texte est faite de liens
MAYBE = {"header", "footer", "aside"}
MENUS = {"nav", "navbar", "menu", "navigation", "breadcrumb", "breadcrumbs", "sidebar"}
WIDE = {"p", "blockquote", "pre", "table", "ul", "ol", "dl", "figure", "h1", "h2", "h3", "h4", "h5", "h6"}
NARROW = {
    *("address", "article", "aside", "body", "caption", "center", "dd", "details", "dialog", "div", "dt"),
    *(
        "fieldset",
        "figcaption",
        "footer",
        "form",
        "header",
        "hr",
        "legend",
        "li",
        "main",
        "option",
        "section",
    ),
    *("summary", "tbody", "tfoot", "thead", "title", "tr"),
}
# d'une balise meta, ou de la déclaration XML ; un formulaire a le sien, qui n'est pas celui de la page
_CHARSET = re.compile(
    rb"""<(?:meta\b|\?xml\b)[^>]*?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
_EMPTY = re.compile(
    r"<([A-Za-z][\w:.-]*)(\s[^<>]*)?/>"
)  # un élément vide du XHTML, que le HTML laisserait ouvert
_TAG = 1 << 16  # caractères d'une balise, au plus
_NEVER_CLOSED = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"),
}


def read(file: BinaryIO, where: str, budget: Budget, errors: str) -> Iterator[str]:
    """Le texte d'une page, par blocs ; `errors` : ce que devient un octet invalide (read_blocks)."""
    page = _Page()
    parser = library("lxml.etree", ".html").HTMLParser(target=page, huge_tree=True)
    first = file.read(1024)
    file.seek(0)
    blocks = read_blocks(Path(where), errors, file=file, unmarked=_encoding(first))
    bare = False  # du texte, et aucune balise : lxml ne le rend qu'à la fin
    for block in _close_empty(_refuse_entities(blocks, where), xhtml=_is_xhtml(first)):
        bare = (bare or bool(block.strip())) and "<" not in block
        parser.feed(block)
        yield page.take()
    if page.fed or bare:
        parser.close()
    yield page.take()


def _encoding(first: bytes) -> str:
    """L'encodage que le début d'une page déclare, comme un navigateur le comprend ; l'UTF-8 sinon."""
    declared = _CHARSET.search(first)
    name = declared[1].decode("ascii").lower() if declared else ""
    if name.startswith("utf-16") or name in ("", "utf8", "utf-8", "unicode"):
        return "utf-8-sig"
    return "cp1252" if name in ("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii") else name


def _is_xhtml(first: bytes) -> bool:
    return first.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<?xml") or b"www.w3.org/1999/xhtml" in first


def _refuse_entities(blocks: Iterable[str], where: str) -> Iterator[str]:
    for rank, block in enumerate(blocks):
        if not rank and re.search(r"<!DOCTYPE[^>]*\[[^\]]*<!ENTITY", block[:_TAG], re.IGNORECASE):
            raise UserError(
                f"{where} n'est pas lu : il déclare des entités, que rien d'honnête n'y demande ; retirez-le, ou sa "
                f"ligne <!DOCTYPE>."
            )
        yield block


def _close_empty(blocks: Iterable[str], *, xhtml: bool) -> Iterator[str]:
    """Écrit <a/> comme <a></a>, si c'est du XHTML."""
    rest = ""
    for block in blocks:
        text = rest + block
        opens = text.rfind("<")
        end = opens if xhtml and ">" not in text[opens:] and 0 <= len(text) - opens < _TAG else len(text)
        text, rest = text[:end], text[end:]
        yield _EMPTY.sub(_close, text) if xhtml else text
    if rest:
        yield rest


def _close(match: re.Match[str]) -> str:
    name, attributes = match[1], match[2] or ""
    return match[0] if name.lower() in _NEVER_CLOSED else f"<{name}{attributes}></{name}>"


class _Page:
    """Compose le texte d'une page. Le texte d'un menu possible est gardé à part jusqu'à ce que l'on sache."""

    def __init__(self) -> None:
        self.proses = [Prose()]
        self.menus: list[tuple[int, list[int]]] = []  # profondeur, [caractères, ceux des liens]
        self.depth = self.unseen = self.links = self.verbatim = 0
        self.hidden: list[int] = []  # la profondeur de ce qui ne s'affiche pas
        self.fed = False

    def take(self) -> str:
        """Ce qui est écrit depuis la dernière fois, et n'est dans aucun menu possible."""
        return self.proses[0].take()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth, self.fed = self.depth + 1, True
        if self.hidden or tag in UNSEEN or _is_unseen(attributes):
            self.hidden = self.hidden or [self.depth]
            return
        self._separate(tag)
        names = f"{attributes.get('id', '')} {attributes.get('class', '')}".lower().split()
        if tag in MAYBE or (tag not in ("body", "main", "article") and MENUS & {*names}):
            self.menus.append((self.depth, [0, 0]))
            self.proses.append(Prose())
        self.links += tag == "a"
        self.verbatim += tag == "pre"
        if tag == "br":
            self.proses[-1].gap("\n")

    def end(self, tag: str) -> None:
        if self.hidden:
            if self.hidden[0] == self.depth:
                self.hidden = []
        else:
            self.links = max(0, self.links - (tag == "a"))
            self.verbatim = max(0, self.verbatim - (tag == "pre"))
            if self.menus and self.menus[-1][0] == self.depth:
                self._close_menu()
            self._separate(tag)
        self.depth -= 1

    def _close_menu(self) -> None:
        _, (written, linked) = self.menus.pop()
        text = self.proses.pop().take()
        if 2 * linked < written:
            self.proses[-1].write(text)
            if self.menus:
                self.menus[-1][1][0] += written
                self.menus[-1][1][1] += linked

    def _separate(self, tag: str) -> None:
        if tag in WIDE or tag in NARROW:
            self.proses[-1].gap("\n\n" if tag in WIDE else "\n")
        elif tag in ("td", "th"):
            self.proses[-1].gap("\t")

    def data(self, text: str) -> None:
        if self.hidden:
            return
        if self.menus:
            self.menus[-1][1][0] += len(text.strip())
            self.menus[-1][1][1] += len(text.strip()) * bool(self.links)
        prose = self.proses[-1]
        prose.write(text.replace("\r", "")) if self.verbatim else prose.flow(text)

    def close(self) -> None:
        while self.menus:
            self._close_menu()


def _is_unseen(attributes: dict[str, str]) -> bool:
    style = attributes.get("style", "").replace(" ", "").lower()
    return (
        attributes.get("role", "").lower() in ROLES
        or "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or "display:none" in style
        or "visibility:hidden" in style
        or attributes.get("epub:type") in ("toc", "landmarks", "page-list", "pagebreak")
    )
