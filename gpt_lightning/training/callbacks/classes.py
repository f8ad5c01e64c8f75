"""Ce que vaut une classification, à chaque évaluation : la table des étiquettes et la matrice de confusion."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Callback

from gpt_lightning import durable
from gpt_lightning.durable import surviving
from gpt_lightning.model.confusion import ClassReport
from gpt_lightning.wording import class_table, number, percent

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

FEW = 12  # étiquettes : au-delà, la table ne s'affiche qu'à la fin
log = logging.getLogger("gpt_lightning")


class Confusion(Callback):
    """Affiche la table des étiquettes, et écrit `folder`/confusion.{pdf,png,csv}. Rien pour une autre tâche."""

    def __init__(self, *, folder: str) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if not trainer.sanity_checking:
            self._show(trainer, pl_module, log_table=len(pl_module.labels) <= FEW)

    def on_train_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._show(trainer, pl_module, log_table=len(pl_module.labels) > FEW)

    def _show(self, trainer: "Trainer", pl_module: "GPTModule", *, log_table: bool) -> None:
        if pl_module.counts is None or not trainer.is_global_zero:
            return
        report = ClassReport(pl_module.counts)
        if log_table:
            log.info(class_table(report, pl_module.labels))
        with surviving(self.folder):
            self.folder.mkdir(exist_ok=True)
            write(report, pl_module.labels, self.folder)


def write(report: ClassReport, labels: Sequence[str], folder: Path) -> None:
    """Écrit la matrice, en csv et en image : une ligne par étiquette vraie, une colonne par étiquette donnée."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["vraie \\ donnée", *labels])
    table.writerows([label, *row] for label, row in zip(labels, report.counts.tolist(), strict=True))
    durable.write_text(folder / "confusion.csv", text.getvalue())
    draw(report, labels, folder)


def draw(report: ClassReport, labels: Sequence[str], folder: Path) -> list[Path]:
    """Dessine la matrice : chaque case est la part des textes de sa ligne, et leur nombre s'il y a la place."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    shares = report.counts / report.counts.sum(1, keepdim=True).clamp(min=1)
    size = min(12.0, 3.2 + 0.55 * len(labels))
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    short = [label if len(label) <= 20 else f"{label[:19]}…" for label in labels]
    ticks = [label.replace("$", r"\$") for label in short]  # matplotlib y lirait une formule
    axes.set_xticks(range(len(labels)), ticks, rotation=0 if len(labels) <= 4 else 45, ha="center")
    axes.set_yticks(range(len(labels)), ticks)
    axes.set(xlabel="étiquette donnée", ylabel="étiquette vraie")
    axes.set_title(f"Matrice de confusion : {percent(report.accuracy)} de justes")
    if len(labels) <= 15:
        for row, counts in enumerate(report.counts.tolist()):
            for column, count in enumerate(counts):
                color = "white" if shares[row, column] > 0.55 else "black"
                share = percent(float(shares[row, column]))
                text = f"{number(count)}\n{share}" if len(labels) <= 8 else number(count)
                axes.text(column, row, text, ha="center", va="center", color=color)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1.0, decimals=0, symbol=" %"))
    bar.set_label("part des textes de la ligne")
    return durable.save_figure(figure, folder, "confusion")
