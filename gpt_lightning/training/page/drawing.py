"""Les dessins de la page, en SVG : des courbes, l'attention d'une phrase ; et l'enveloppe HTML."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from gpt_lightning.wording import tick

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 72, 16, 12, 52
COLOURS = 6
POINTS = 600  # au-delà, l'œil n'en voit pas davantage


class Curve(NamedTuple):
    """Une courbe : son nom, ses points (abscisse, valeur), son rang parmi les couleurs, son trait."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int
    style: str = ""  # "", pale ou dashed


def document(title: str, body: Iterable[str]) -> str:
    """Une page entière : ni script, ni fichier à part."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="fr">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def section(title: str, *content: str) -> str:
    """Une partie de la page ; rien si elle est vide."""
    inside = [text for text in content if text]
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(inside) + "\n</section>" if inside else ""


def table(rows: Sequence[Sequence[str]], *, numbers: int = 0, best: int | None = None) -> str:
    """Une table, dont la première ligne est l'en-tête ; les `numbers` dernières colonnes sont des nombres."""
    head, *body = rows
    lines = ["<tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head) + "</tr>"]
    for rank, row in enumerate(body):
        cells = [
            f"<td{' class=number' if at >= len(row) - numbers else ''}>{escape(cell)}</td>"
            for at, cell in enumerate(row)
        ]
        lines.append(f"<tr{' class=best' if rank == best else ''}>" + "".join(cells) + "</tr>")
    return '<div class="card wide"><table>' + "".join(lines) + "</table></div>"


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Des noms et leurs valeurs."""
    return (
        '<dl class="card">' + "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in rows) + "</dl>"
    )


def chart(title: str, curves: Sequence[Curve], below: str) -> str:
    """Un graphique et sa légende ; rien si aucune courbe n'a deux points. `below` nomme l'abscisse."""
    drawn = [
        curve._replace(points=[point for point in curve.points if math.isfinite(point[1])])
        for curve in curves
    ]
    drawn = [curve for curve in drawn if curve.points]
    if not drawn:
        return ""
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points]
    left, right = _span(xs, exact=True)
    bottom, top = _span(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        return across, TOP + (top - y) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts = list[str]()
    for value in _ticks(bottom, top):
        _, y = at(left, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick(value)}</text>')
    for value in _ticks(left, right):
        x, _ = at(value, bottom)
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{tick(value)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(below)}</text>')
    for curve in drawn:
        few = curve.points[:: -(-len(curve.points) // POINTS)]
        spots = [at(*point) for point in (few if few[-1] == curve.points[-1] else [*few, curve.points[-1]])]
        if len(spots) == 1:  # un point seul se voit
            spots = [(spots[0][0] - 3, spots[0][1]), (spots[0][0] + 3, spots[0][1])]
        line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<path class="c{curve.colour % COLOURS} {curve.style}" d="{line}"/>')
    key = "".join(
        f'<span><svg viewBox="0 0 30 10" aria-hidden="true"><path class="c{c.colour % COLOURS} {c.style}" '
        f'd="M0 5L30 5"/></svg>{escape(c.label)}</span>'
        for c in drawn
    )
    return (
        f'<figure class="card"><h3>{escape(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
        f'<div class="key">{key}</div></figure>'
    )


def _span(values: Sequence[float], *, exact: bool = False) -> tuple[float, float]:
    """Les bouts d'un axe."""
    low, high = min(values), max(values)
    if low == high:
        return low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9
    margin = 0 if exact else (high - low) * 0.05
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Quelques nombres ronds entre ces bouts."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{n * step:.10g}") for n in range(first, math.floor(high / step + 1e-9) + 1)]


def attention(words: Sequence[str], heads: Sequence[Sequence[Sequence[float]]]) -> str:
    """L'attention d'une phrase : la moyenne des têtes, avec ses jetons, puis chaque tête en petit."""
    count = len(heads)
    mean = [[sum(head[y][x] for head in heads) / count for x in range(len(words))] for y in range(len(words))]
    small = "".join(
        f'<div><p class="soft">tête {rank}</p>{_heat(head)}</div>' for rank, head in enumerate(heads[:8])
    )
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(7rem,1fr));gap:.6rem"
    return (
        f'<div class="pair"><div class="card"><h3>La moyenne des têtes</h3>{_heat(mean, words)}</div>'
        f'<div class="card" style="{grid}">{small}</div></div>'
    )


def _heat(weights: Sequence[Sequence[float]], words: Sequence[str] = ()) -> str:
    """Les poids (T, T) : ligne, le jeton qui lit ; colonne, le jeton lu."""
    size, edge = 20, 110 if words else 0
    side = edge + size * len(weights)
    parts = [
        f'<rect x="{edge + x * size}" y="{edge + y * size}" width="{size - 1}" height="{size - 1}" '
        f'opacity="{math.sqrt(max(0.0, row[x])):.2f}"/>'
        for y, row in enumerate(weights)
        for x in range(y + 1)
    ]
    for rank, word in enumerate(words):
        place, short = edge + rank * size + 14, escape(word if len(word) <= 13 else f"{word[:12]}…")
        parts.append(f'<text x="{edge - 6}" y="{place}" text-anchor="end">{short}</text>')
        parts.append(f'<text transform="translate({place} {edge - 6}) rotate(-90)">{short}</text>')
    return (
        f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="poids d\'attention">'
        + "".join(parts)
        + "</svg>"
    )
