"""Ce qui reste d'un balayage fini : ses tâches, la meilleure, leur table."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gpt_lightning.wording import number


class Result(NamedTuple):
    """Une tâche de balayage : numéro, dossier, valeurs, poids dont elle est partie, perte (None : échec)."""

    job: int
    folder: Path | None  # None : elle a échoué avant d'en avoir un
    values: list[str]
    start: str | None
    loss: float | None


# écrit la page d'un balayage : son dossier, ses clés, ses tâches
WritePage = Callable[[Path, Sequence[str], Sequence[Result]], Path]


def best(rows: Sequence[Result]) -> Path | None:
    """Le dossier de la meilleure tâche ; None si aucune n'a de perte."""
    done = [(row.loss, row.folder) for row in rows if row.loss is not None and row.loss == row.loss]
    return min(done, key=lambda pair: pair[0])[1] if done else None


def table(keys: Sequence[str], rows: Sequence[Result], folder: str) -> str:
    """La table d'un balayage : les clés de chaque tâche, sa perte de validation (nats par jeton), la meilleure.

    Elle dit aussi de quels poids les tâches sont parties, s'il y en a. Une tâche sans perte a échoué.
    """
    done = [row.loss for row in rows if row.loss is not None and row.loss == row.loss]
    starts = {row.start for row in rows if row.loss is not None}
    several = len(starts) > 1
    lines = [("tâche", *keys, *["départ"] * several, "perte de validation", "")]
    for row in rows:
        best = "la meilleure" if row.loss == min(done, default=math.nan) else ""
        shown = ("échec", "") if row.loss is None else (number(row.loss, 4), best)
        start = "" if row.loss is None else row.start or "modèle neuf"
        lines.append((str(row.job), *row.values, *[start] * several, *shown))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown_lines = ["  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)) for line in lines]
    start = "" if several or starts <= {None} else f", chaque tâche partie de {starts.pop()}"
    return f"\nBalayage fini, dans {folder}{start}\n" + "\n".join(
        f"  {line}".rstrip() for line in shown_lines
    )
