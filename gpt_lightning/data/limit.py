"""`data.limit` : n'en lire que tant de documents, ou d'octets, et le dire."""

import logging
import math
import re
from collections.abc import Iterable, Iterator

from gpt_lightning.data.reading import Piece
from gpt_lightning.errors import UserError, whole

log = logging.getLogger("gpt_lightning")


def most(limit: int | str) -> tuple[float, float]:
    """Le plus de documents, et le plus d'octets. UserError si `limit` ne se comprend pas."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG])B", limit.strip()) if isinstance(limit, str) else None
    if match and float(match[1]):
        return math.inf, float(match[1]) * {"k": 1e3, "M": 1e6, "G": 1e9}[match[2]]
    if isinstance(limit, str):
        raise UserError(f'data.limit={limit} : il faut un nombre de documents, ou une taille comme "20MB".')
    return whole("data.limit", limit), math.inf


def first_documents(pieces: Iterable[Piece], documents: float, size: float) -> Iterator[Piece]:
    """Les premiers documents du flux, entiers sauf le dernier si la taille est atteinte au milieu."""
    for piece in pieces:
        if documents <= 0 or size <= 0:
            return
        documents -= piece.last
        size -= len(piece.text.encode("utf-8", "surrogatepass"))
        yield piece if size > 0 else piece._replace(last=True)


def say_part(taken: str, there: str, limit: object) -> None:
    """Dit que `data.limit` ne laisse lire que `taken`, sur `there`."""
    log.info(f"Corpus     : {taken} sur {there} (data.limit={limit} ; data.limit=null lit tout)")
