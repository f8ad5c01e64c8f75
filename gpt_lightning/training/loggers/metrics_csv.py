"""Écrire metrics.csv : une ligne par pas, une colonne par mesure, gardée d'une reprise à l'autre."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from gpt_lightning import durable
from gpt_lightning.durable import surviving


class MetricsCSV(Logger):
    """Un journal Lightning dans `path`. Seule la dernière ligne, celle du pas courant, est jamais réécrite.

    Chaque mesure est sur le disque aussitôt. Une reprise oublie les lignes d'après le pas repris.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []
        self._step = -1  # celui de la dernière ligne
        self._row: dict[str, float] = {}
        self._start = 0  # l'octet où elle commence
        self._torn = False  # une réécriture a échoué : on ne sait plus quel fichier est là
        self._end = 0  # celui où elle finit ; au-delà, il n'y a que le reste d'une écriture refusée

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return "csv"

    def log_hyperparams(self, params: object, *args: object, **kwargs: object) -> None:
        """N'écrit rien : les réglages sont dans config.yaml, et ce journal n'a que des mesures."""

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Relit les lignes déjà écrites, jusqu'à `step` compris, et efface les autres."""
        if self.path.exists():
            rows = {at: row for at, row in read_metrics(self.path).items() if at <= step}
            columns = list(dict.fromkeys(key for row in rows.values() for key in row))
            with surviving(self.path):
                self._rewrite(columns, iter(sorted(rows.items())))

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if (step or 0) != self._step:
            self._step, self._row, self._start = step or 0, {}, self._end
        self._row |= metrics
        if self._torn:
            self._columns = _columns(self.path)
        new = [key for key in metrics if key not in self._columns]
        with surviving(self.path):
            if new or self._torn or not self.path.exists():
                self._rewrite([*self._columns, *new], self._with(self._step, self._row))
            else:
                # d'abord la ligne, puis ce qui dépasse : jamais sans elle
                with open(self.path, "r+b") as file:
                    file.seek(self._start)
                    file.write(_line(self._step, self._row, self._columns))
                    file.truncate()
                    self._end = file.tell()

    def _with(self, step: int, row: dict[str, float]) -> Iterator[tuple[int, dict[str, float]]]:
        past = _rows(self.path) if self.path.exists() else iter(())
        yield from ((at, values) for at, values in past if at != step)
        yield step, row

    def _rewrite(self, columns: list[str], rows: Iterator[tuple[int, dict[str, float]]]) -> None:
        """Réécrit tout, à côté puis à la place : pour une colonne nouvelle, ou une reprise. Un refus ne change rien."""
        start, step, row = 0, self._step, self._row
        self._torn = True
        with durable.replacing(self.path) as beside, open(beside, "wb") as file:
            file.write(_csv(["step", *columns]))
            for step, row in rows:
                start = file.tell()
                file.write(_line(step, row, columns))
            end = file.tell()
        self._columns, self._step, self._row, self._start, self._end = columns, step, row, start, end
        self._torn = False


def _line(step: int, row: dict[str, float], columns: list[str]) -> bytes:
    return _csv([step, *(row.get(key, "") for key in columns)])


def _columns(path: Path) -> list[str]:
    """Les colonnes d'un fichier déjà écrit, sans celle du pas ; aucune s'il n'est pas là."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), ["step"])[1:]


def _csv(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue().encode("utf-8")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if line[-1] in "\r\n"):
            try:
                step = int(row.pop("step"))
                yield step, {key: float(value) for key, value in row.items() if value}
            except (TypeError, ValueError, AttributeError):  # la fin d'une ligne que le disque n'a pas gardée
                return


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """Les mesures de metrics.csv, par pas ; une case vide est absente, une fin abîmée est oubliée."""
    return dict(_rows(path))
