"""Lire un .pdf, page par page. Deux pages sont séparées par un saut de page."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from gpt_lightning.data.documents.bounds import Budget, too_much
from gpt_lightning.data.documents.libraries import library
from gpt_lightning.data.documents.lines import PAGE
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters

OPERATIONS = 2_000_000  # gestes et nombres d'une page, au plus : un plan en a cent mille
FORMS = 5_000  # morceaux de page réemployés dans une page, au plus
STREAM = 75_000_000  # octets d'un flux déplié, au plus
LIGATURES = dict(zip("ﬀﬁﬂﬃﬄﬅﬆ", ("ff", "fi", "fl", "ffi", "ffl", "ft", "st"), strict=True))
_LIGATURE = re.compile("[ﬀ-ﬆ]")


def read(file: BinaryIO, where: str, budget: Budget) -> Iterator[str]:
    """Le texte de chaque page. UserError si le fichier est chiffré, vide ou numérisé."""
    pypdf = library("pypdf", ".pdf")
    most = min(STREAM, budget.limit)
    limits = {
        "zlib_maximum_output_length": most,
        "lzw_maximum_output_length": most,
        "run_length_maximum_output_length": most,
        "array_based_stream_maximum_output_length": most,
        "stream_parsing_work_maximum_count": OPERATIONS,
        "xform_maximum_invocations_per_extraction": FORMS,
    }
    with _within(limits, where):
        reader = pypdf.PdfReader(file)
        if reader.is_encrypted:
            _unlock(reader, where)
        count = len(reader.pages)
    written = images = 0
    for number in range(count):
        with _within(limits, where):
            page = reader.pages[number]
            text = page.extract_text()
            images += not text.strip() and _has_image(page)
        text = _LIGATURE.sub(lambda match: LIGATURES[match[0]], whole_characters(text))
        text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n").replace(PAGE, "\n")
        budget.spend(len(text))
        written += len(text.strip())
        yield text.rstrip() + PAGE * (number + 1 < count)
    if not written:
        raise UserError(_why_empty(where, count, images))


class _Ear(logging.Handler):
    """Entend pypdf dire qu'elle ne lit pas toute une page : rien ne doit manquer sans que l'on le sache."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = False

    def emit(self, record: logging.LogRecord) -> None:
        self.unread |= "skipped" in record.getMessage()


@contextmanager
def _within(limits: dict[str, int], where: str) -> Iterator[None]:
    """Applique ces bornes à pypdf, et tait ce qu'elle répare. UserError si elle a laissé un bout de page."""
    log, ear = logging.getLogger("pypdf"), _Ear()
    propagated, log.propagate = log.propagate, False
    log.addHandler(ear)
    try:
        with library("pypdf", ".pdf").apply_configuration(**limits):
            yield
    finally:
        log.removeHandler(ear)
        log.propagate = propagated
    if ear.unread:
        raise too_much(where)


def _unlock(reader: Any, where: str) -> None:
    """Ouvre un .pdf dont le mot de passe est vide. UserError sinon."""
    try:
        opened = reader.decrypt("")
    except library("pypdf.errors", ".pdf").DependencyError:
        opened = 0  # de l'AES, que pypdf seul ne déchiffre pas
    if not opened:
        raise UserError(
            f"{where} est chiffré : retirez son mot de passe (qpdf --decrypt --password=... entrée.pdf sortie.pdf)."
        )


def _has_image(page: Any) -> bool:
    """Vrai si la page montre une image ; aucune n'est dépliée."""
    resources = page.get("/Resources")
    objects = resources.get_object().get("/XObject") if resources is not None else None
    shown = objects.get_object().values() if objects is not None else ()
    return any(item.get_object().get("/Subtype") == "/Image" for item in shown)


def _why_empty(where: str, count: int, images: int) -> str:
    if not count:
        return f"{where} n'a aucune page : retirez-le (data.errors=skip le laisse de côté)."
    pages = f"{count} page{'s' * (count > 1)}"
    if images:
        return (
            f"{where} n'a que des images sur {pages} : il est numérisé ; un OCR en fait du texte (ocrmypdf entrée.pdf "
            f"sortie.pdf)."
        )
    return f"{where} n'a aucun texte sur {pages} : retirez-le (data.errors=skip le laisse de côté)."
