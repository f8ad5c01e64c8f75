"""Écrire metrics.csv : une ligne par pas, une colonne par mesure, gardée d'une reprise à l'autre."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger


class MetricsCSV(Logger):
    """Un journal Lightning dans `path`. À la reprise, les lignes d'après le pas repris sont oubliées."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._rows: dict[int, dict[str, float]] = {}

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return "csv"

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Les réglages sont dans config.yaml ; ce journal n'a que des mesures."""

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Relit les lignes déjà écrites, jusqu'à `step` compris."""
        if self.path.exists():
            self._rows = {row: values for row, values in read_metrics(self.path).items() if row <= step}

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._rows.setdefault(step or 0, {}).update(metrics)
        if "val/loss" in metrics:  # sur le disque à chaque évaluation : un entraînement tué garde ses mesures
            self.save()

    @rank_zero_only
    def save(self) -> None:
        columns = list(dict.fromkeys(key for row in self._rows.values() for key in row))
        temporary = self.path.with_suffix(".csv.tmp")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", *columns])
            writer.writeheader()
            writer.writerows({"step": step, **self._rows[step]} for step in sorted(self._rows))
        os.replace(temporary, self.path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._rows:
            self.save()


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """Les mesures de metrics.csv, par pas ; une case vide est absente."""
    with open(path, newline="", encoding="utf-8") as file:
        return {
            int(row.pop("step")): {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        }
