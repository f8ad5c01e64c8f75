"""Dessiner les courbes de perte à la fin de la course, à partir de metrics.csv."""

from pathlib import Path

from lightning import Callback

from gpt_lightning.training.callbacks.metrics_csv import read_metrics


class LossPlot(Callback):
    """Écrit `folder`/loss.pdf et loss.png d'après `metrics` (metrics.csv), à la fin ou à l'interruption."""

    def __init__(self, *, metrics: str, folder: str):
        self.metrics, self.folder = Path(metrics), Path(folder)

    def teardown(self, trainer, pl_module, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            if self.metrics.exists():
                draw(read_metrics(self.metrics), self.folder)


def draw(rows: dict[int, dict[str, float]], folder: Path) -> None:
    """Les pertes d'entraînement et de validation : époques en bas, jetons en haut ; le minimum est marqué."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    curves = {
        key: [(row["tokens"], row[key]) for row in rows.values() if key in row]
        for key in ("train/loss", "val/loss")
    }
    epochs = [(row["epoch"], row["tokens"]) for row in rows.values() if row.get("epoch")]
    if not epochs or not curves["val/loss"]:
        return
    tokens_per_epoch = epochs[-1][1] / epochs[-1][0]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*_in_epochs(curves["train/loss"], tokens_per_epoch), color="#0072B2", label="entraînement")
    axes.plot(
        *_in_epochs(curves["val/loss"], tokens_per_epoch),
        color="#D55E00",
        marker="o",
        ls="--",
        label="validation",
    )
    best = min(curves["val/loss"], key=lambda point: point[1])
    where = best[0] / tokens_per_epoch
    axes.plot(
        where,
        best[1],
        marker="*",
        markersize=16,
        color="#D55E00",
        ls="none",
        label=f"minimum : {best[1]:.3f}",
    )
    axes.set(xlabel="époques", ylabel="perte (nats par jeton)", title="Perte d'entraînement et de validation")
    above = axes.secondary_xaxis(
        "top", functions=(lambda e: e * tokens_per_epoch, lambda t: t / tokens_per_epoch)
    )
    above.set_xlabel("jetons vus")
    above.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.grid(alpha=0.3)
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("pdf", "png"):
        figure.savefig(folder / f"loss.{suffix}", dpi=150)


def _in_epochs(points: list[tuple[float, float]], tokens_per_epoch: float) -> tuple[list[float], list[float]]:
    return [tokens / tokens_per_epoch for tokens, _ in points], [value for _, value in points]
