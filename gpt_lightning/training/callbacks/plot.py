"""Dessiner les courbes de perte à la fin, à partir de metrics.csv."""

from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Callback

from gpt_lightning import durable
from gpt_lightning.durable import surviving
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from gpt_lightning.wording import tick

if TYPE_CHECKING:
    from lightning import Trainer
    from matplotlib.axes import Axes

    from gpt_lightning.training.module import GPTModule


class LossPlot(Callback):
    """Écrit `folder`/loss.pdf et loss.png d'après `metrics` (metrics.csv), à la fin ou à l'interruption."""

    def __init__(self, *, metrics: str, folder: str) -> None:
        self.metrics, self.folder = Path(metrics), Path(folder)

    def teardown(self, trainer: "Trainer", pl_module: "GPTModule", stage: str) -> None:
        if stage == "fit":
            self._draw(trainer)

    def on_exception(self, trainer: "Trainer", pl_module: "GPTModule", exception: BaseException) -> None:
        self._draw(trainer)

    def _draw(self, trainer: "Trainer") -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            if self.metrics.exists():
                with surviving(self.folder):
                    draw(read_metrics(self.metrics), self.folder)


def draw(rows: dict[int, dict[str, float]], folder: Path) -> None:
    """Dessine les pertes (celle d'entraînement lissée), leur minimum, et le taux d'apprentissage dessous."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, FuncFormatter

    keys = ("train/loss", "train/loss_eval", "val/loss", "lr")
    curves = {key: [(row["tokens"], row[key]) for row in rows.values() if key in row] for key in keys}
    epochs = [(row["epoch"], row["tokens"]) for row in rows.values() if row.get("epoch")]
    if not epochs or not curves["val/loss"]:
        return
    scale = epochs[-1][1] / epochs[-1][0]  # jetons par époque
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _draw_training(axes, curves, scale)
    axes.plot(
        *_in_epochs(curves["val/loss"], scale), color="#D55E00", marker="o", ls="--", label="validation"
    )
    tokens, best = min(curves["val/loss"], key=lambda point: point[1])
    star = {"marker": "*", "markersize": 16, "color": "#D55E00", "ls": "none"}
    label = f"minimum : {best:.3f}".replace(".", ",")
    axes.plot(tokens / scale, best, **star, label=label)
    axes.set(ylabel="perte (nats)", title="Perte d'entraînement et de validation")
    above = axes.secondary_xaxis("top", functions=(lambda e: e * scale, lambda t: t / scale))
    above.set_xlabel("jetons vus")
    thousands = EngFormatter(sep=" ")
    above.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value).replace(".", ",")))
    axes.legend()
    below.plot(*_in_epochs(curves["lr"], scale), color="0.3")
    below.set(xlabel="époques", ylabel="taux\nd'apprentissage", ylim=(0, None))
    for panel in (axes, below):
        panel.grid(alpha=0.3)
        panel.xaxis.set_major_formatter(FuncFormatter(tick))
        panel.yaxis.set_major_formatter(FuncFormatter(tick))
    folder.mkdir(exist_ok=True)
    durable.save_figure(figure, folder, "loss")


def _draw_training(axes: "Axes", curves: dict[str, list], scale: float) -> None:
    """Dessine la perte mesurée, pâle, et lissée ; celle en mode évaluation si elle est là."""
    x, raw = _in_epochs(curves["train/loss"], scale)
    smoothed = smooth(raw)
    if len(raw) > 10:
        axes.plot(x, raw, color="#56B4E9", alpha=0.5, linewidth=0.8, label="entraînement, mesurée")
        axes.plot(x, smoothed, color="#0072B2", linewidth=2, label="entraînement, lissée")
    else:
        axes.plot(x, raw, color="#0072B2", marker=".", label="entraînement")
    if curves["train/loss_eval"]:
        points = _in_epochs(curves["train/loss_eval"], scale)
        axes.plot(*points, color="#009E73", marker="s", markersize=4, label="entraînement, sans dropout")


def smooth(values: list[float]) -> list[float]:
    """Lisse par une moyenne mobile exponentielle, d'un vingtième de la courbe, sans biais de départ."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return means


def _in_epochs(points: list[tuple[float, float]], tokens_per_epoch: float) -> tuple[list[float], list[float]]:
    return [tokens / tokens_per_epoch for tokens, _ in points], [value for _, value in points]
