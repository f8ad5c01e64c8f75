"""Lire des sous-titres .srt : ce qui se dit, sans les numéros, les temps ni les balises."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gpt_lightning.data.documents.bounds import Budget
from gpt_lightning.data.reading import lines_of, read_blocks
from gpt_lightning.errors import UserError

_TIMES = re.compile(r"\s*\d+:\d+:\d+[,.]\d+\s*-->\s*\d+:\d+:\d+[,.]\d+.*")
_MARKS = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}")


def read(file: BinaryIO, where: str, budget: Budget, errors: str) -> Iterator[str]:
    """Le texte des sous-titres, une ligne par ligne ; `errors` : voir read_blocks. UserError si rien n'y a de temps."""
    waiting: str | None = None  # une ligne dont la suivante dira si elle n'est que le numéro d'un sous-titre
    timed = False
    for line in lines_of(read_blocks(Path(where), errors, file=file)):
        is_times = bool(_TIMES.fullmatch(line))
        if waiting is not None and not (is_times and waiting.strip().isdecimal()):
            yield from _say(waiting)
        waiting = None if is_times else line
        timed |= is_times
    if waiting is not None:
        yield from _say(waiting)
    if not timed:
        raise UserError(f"{where} n'a aucun temps (00:00:01,000 --> 00:00:02,000) : ce n'est pas un .srt.")


def _say(line: str) -> Iterator[str]:
    if said := _MARKS.sub("", line).strip():
        yield said + "\n"
