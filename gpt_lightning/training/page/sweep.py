"""La page d'un balayage : sa table, les courbes de ses tâches sur un même dessin, la meilleure."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from gpt_lightning import durable
from gpt_lightning.layout import METRICS, PAGE
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from gpt_lightning.training.page import drawing
from gpt_lightning.training.page.drawing import Curve
from gpt_lightning.wording import number

OVERLAID = 12  # courbes d'un même dessin : les meilleures


class Job(NamedTuple):
    """Une tâche : son numéro, son dossier, ses valeurs, sa perte (None : échec)."""

    job: int
    folder: Path | None
    values: Sequence[str]
    loss: float | None


def write(folder: Path, keys: Sequence[str], jobs: Sequence[Job], following: Sequence[str]) -> Path:
    """Écrit `folder`/report.html. WriteError si le disque refuse."""
    done = sorted((job for job in jobs if job.loss is not None and job.loss == job.loss), key=_loss)
    best = jobs.index(done[0]) if done else None
    rows = [("tâche", *keys, "perte de validation")]
    rows += [(str(job.job), *job.values, _loss_text(job)) for job in jobs]
    overlaid = [
        Curve(
            _name(job, keys),
            _validation(job.folder),
            rank,
            "" if rank < drawing.COLOURS else "dashed",
        )
        for rank, job in enumerate(done[:OVERLAID])
    ]
    said = ""
    if done:
        said = f"La meilleure : tâche {done[0].job} ({_name(done[0], keys)}), perte {_loss_text(done[0])}."
    links = [
        f'<li><a href="{escape(job.folder.relative_to(folder).as_posix())}/{PAGE}">tâche {job.job}</a></li>'
        for job in jobs
        if job.folder is not None and (job.folder / PAGE).exists()
    ]
    commands = "\n".join(following)
    body = [
        f'<h1>{escape(str(folder))}</h1>\n<p class="soft">Balayage fini.</p>\n<p class="best">{escape(said)}</p>',
        drawing.section("Les tâches", drawing.table(rows, numbers=1, best=best)),
        drawing.section("Les courbes", drawing.chart("Perte de validation (nats)", overlaid, "pas")),
        drawing.section("La page de chaque tâche", f"<ul>{''.join(links)}</ul>" if links else ""),
        drawing.section("Et maintenant", f'<pre class="card">{escape(commands)}</pre>' if following else ""),
    ]
    path = folder / PAGE
    durable.write_text(path, drawing.document(f"{folder.name} : un balayage", filter(None, body)))
    return path


def _loss(job: Job) -> float:
    assert job.loss is not None
    return job.loss


def _loss_text(job: Job) -> str:
    return "échec" if job.loss is None else number(job.loss, 4)


def _name(job: Job, keys: Sequence[str]) -> str:
    """Ses valeurs, chacune après le dernier mot de sa clé."""
    pairs = zip(keys, job.values, strict=True)
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in pairs) or f"tâche {job.job}"


def _validation(folder: Path | None) -> list[tuple[float, float]]:
    path = None if folder is None else folder / METRICS
    rows = read_metrics(path) if path is not None and path.exists() else {}
    return [(float(step), row["val/loss"]) for step, row in rows.items() if "val/loss" in row]
