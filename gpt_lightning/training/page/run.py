"""La page d'une exécution, faite de ce que son dossier contient et de ce que le modèle montre."""

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from gpt_lightning import durable
from gpt_lightning.layout import METRICS, PAGE, PLOTS, SAMPLES
from gpt_lightning.training.callbacks.plot import smooth
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from gpt_lightning.training.page import drawing
from gpt_lightning.training.page.drawing import Curve
from gpt_lightning.wording import number, percent

COLUMN = 11  # la largeur d'un nom dans le journal
MOMENTS, TEXTS, LABELS = 4, 3, 15  # textes montrés côte à côte, départs, étiquettes d'une matrice


@dataclass
class Told:
    """Ce que la commande sait et que le dossier ne dit pas : le plan, la machine, les résultats, la suite."""

    plan: Sequence[str] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[tuple[str, str]] = ()
    following: Sequence[str] = ()
    words: Sequence[str] = ()  # une phrase, en jetons
    heads: Sequence[Sequence[Sequence[float]]] = ()  # son attention, (H, T, T)
    layer: int = 0
    finished: bool = False


def write(folder: Path, told: Told) -> Path:
    """Écrit `folder`/report.html, remplacée d'un coup. WriteError si le disque refuse."""
    path = folder / PAGE
    state = (
        "Entraînement fini."
        if told.finished
        else "Entraînement en cours : la page de sa dernière évaluation."
    )
    body = [
        f'<h1>{escape(str(folder))}</h1>\n<p class="soft">{state}</p>',
        drawing.section("Ce qui est obtenu", drawing.pairs(told.results) if told.results else ""),
        drawing.section("Ce qui était prévu", _plan(told.plan)),
        drawing.section("Les courbes", curves(folder / METRICS)),
        drawing.section("Les textes, au fil de l'entraînement", *_samples(folder / SAMPLES)),
        drawing.section("La confusion", _confusion(folder / PLOTS / "confusion.csv")),
        drawing.section("L'attention d'une phrase", *_attention(told)),
        drawing.section("Et maintenant", _lines(told.following)),
        drawing.section("La commande", _lines([shlex.join(map(str, told.environment.get("command") or ()))])),
        drawing.section("Les versions", _versions(told.environment)),
    ]
    durable.write_text(path, drawing.document(f"{folder.name} : gpt_lightning", filter(None, body)))
    return path


def _plan(lines: Sequence[str]) -> str:
    """Les lignes du journal, « Modèle     : ... » et leur suite, en noms et valeurs."""
    rows = list[tuple[str, str]]()
    for line in "\n".join(lines).split("\n"):
        name, colon, said = line.partition(": ")
        if colon and len(name) == COLUMN and name.strip():
            rows.append((name.strip(), said))
        elif rows:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]}\n{line.strip()}")
    return drawing.pairs(rows) if rows else ""


def _lines(lines: Iterable[str]) -> str:
    text = "\n".join(lines).strip("\n")
    return f'<pre class="card">{escape(text)}</pre>' if text.strip() else ""


def curves(path: Path) -> str:
    """Les pertes, et le taux d'apprentissage, d'après metrics.csv ; rien s'il n'est pas là."""
    if not path.exists():
        return ""
    rows = read_metrics(path)
    points = {
        key: [(float(step), row[key]) for step, row in rows.items() if key in row]
        for key in ("train/loss", "train/loss_eval", "val/loss", "lr")
    }
    raw = points["train/loss"]
    smoothed = list(zip((step for step, _ in raw), smooth([value for _, value in raw]), strict=True))
    losses = [
        *([Curve("entraînement, mesurée", raw, 0, "pale")] if len(raw) > 10 else []),
        Curve("entraînement, lissée" if len(raw) > 10 else "entraînement", smoothed, 0),
        Curve("entraînement, sans dropout", points["train/loss_eval"], 2),
        Curve("validation", points["val/loss"], 1, "dashed"),
    ]
    rates = [Curve("taux d'apprentissage", points["lr"], 3)]
    drawn = [
        drawing.chart("Perte (nats)", losses, "pas"),
        drawing.chart("Taux d'apprentissage", rates, "pas"),
    ]
    return '<div class="pair">' + "".join(drawn) + "</div>" if any(drawn) else ""


def _samples(folder: Path) -> list[str]:
    """Les mêmes départs, du premier texte au dernier, côte à côte."""
    paths = sorted(folder.glob("step_*.txt")) if folder.is_dir() else []
    if not paths:
        return []
    last = len(paths) - 1
    few = [paths[rank] for rank in sorted({round(last * n / (MOMENTS - 1)) for n in range(MOMENTS)})]
    columns = [
        (int(path.stem.removeprefix("step_")), path.read_text(encoding="utf-8").rstrip("\n").split("\n---\n"))
        for path in few
    ]
    rows = []
    for rank in range(min(TEXTS, *(len(texts) for _, texts in columns), 99)):
        cards = [
            f'<div class="card"><h3>pas {number(step)}</h3><p class="text">{escape(texts[rank])}</p></div>'
            for step, texts in columns
        ]
        rows.append('<div class="texts">' + "".join(cards) + "</div>")
    return rows


def _confusion(path: Path) -> str:
    """La matrice de confusion, chaque case teintée de sa part de la ligne ; rien sans classification."""
    if not path.exists():
        return ""
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    if len(rows) > LABELS:
        return f'<p class="soft">{len(rows)} étiquettes : la matrice est dans {escape(str(path.parent))}.</p>'
    lines = ["<tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head) + "</tr>"]
    for label, *cells in rows:
        total = sum(map(int, cells)) or 1
        tinted = "".join(
            f'<td class="number" style="background:color-mix(in srgb, var(--c0) {60 * int(cell) // total}%, '
            f'transparent)">{number(int(cell))} <span class="soft">{percent(int(cell) / total)}</span></td>'
            for cell in cells
        )
        lines.append(f'<tr><th scope="row">{escape(label)}</th>{tinted}</tr>')
    return '<div class="card wide"><table>' + "".join(lines) + "</table></div>"


def _attention(told: Told) -> list[str]:
    if not told.heads:
        return []
    said = f"Couche {told.layer} : chaque ligne est un jeton qui lit, chaque colonne un jeton lu."
    return [f'<p class="soft">{said}</p>', drawing.attention(told.words, told.heads)]


def _versions(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages") or {}
    rows = [("python", environment.get("python")), *packages.items()]
    rows += [
        (name, environment.get(key)) for name, key in (("machine", "platform"), ("processeur", "processor"))
    ]
    git = environment.get("git")
    rows.append(("commit", f"{git['commit'][:12]}{', modifié' * git['changed']}" if git else None))
    return drawing.pairs((name, str(value)) for name, value in rows if value) if environment else ""
