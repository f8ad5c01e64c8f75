"""Accumulation, processus et reprise : qui lit quelle fenêtre, à quel pas. `python -m gpt_lightning.demos.steps`."""

from dataclasses import dataclass
from pathlib import Path

from gpt_lightning.data.loader import BatchOrder
from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import UserError, whole

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
LESSON = """
Un pas d'optimiseur lit toujours les mêmes fenêtres, dans le même ordre : seul change qui les lit, et en combien de
passes. On peut donc reprendre un entraînement avec un autre lot, ou sur un autre nombre d'appareils."""


@dataclass(frozen=True)
class Cell:
    """Un lot : son pas d'optimiseur, sa passe dans le pas, le processus qui le lit, et ses fenêtres."""

    step: int
    turn: int
    rank: int
    windows: tuple[int, ...]


def compute(n_windows: int, per_step: int, resume_at: int, seed: int) -> dict[str, list[Cell]]:
    """Les lots d'une époque de `n_windows` fenêtres, à `per_step` fenêtres par pas, de trois façons et d'une reprise.

    La reprise s'arrête après `resume_at` pas et finit sur deux processus. UserError sur un nombre impossible.
    """
    whole("per_step", per_step, 4, 16)
    if per_step % 4:
        raise UserError(
            f"per_step={per_step} : il faut un multiple de 4, que la reprise partage en quatre lots."
        )
    whole("n_windows", n_windows, per_step, 64)
    steps = n_windows // per_step
    whole("resume_at", resume_at, 0, steps)
    ways = {
        f"un lot de {per_step}": (per_step, 1, 1),
        f"accumulation : 2 lots de {per_step // 2}": (per_step // 2, 1, 2),
        f"deux processus, lots de {per_step // 2}": (per_step // 2, 2, 1),
    }
    rows = {title: _cells(n_windows, seed, *way) for title, way in ways.items()}
    begun = [cell for cell in _cells(n_windows, seed, per_step, 1, 1) if cell.step < resume_at]
    ended = _cells(n_windows, seed, per_step // 4, 2, 2, start=resume_at * per_step)
    rows[f"repris après {resume_at} pas, 2 processus, 2 lots de {per_step // 4}"] = [*begun, *ended]
    return rows


def _cells(
    n_windows: int, seed: int, batch_size: int, world_size: int, accumulate: int, start: int = 0
) -> list[Cell]:
    """Les lots que lisent les chargeurs de tous les processus, à partir de `start` fenêtres lues."""
    cells = []
    for rank in range(world_size):
        order = BatchOrder(
            n_windows,
            seed=seed,
            rank=rank,
            batch_size=batch_size,
            world_size=world_size,
            accumulate=accumulate,
        )
        order.start = start
        first = start // order.per_step
        for index, windows in enumerate(order):
            cells.append(Cell(first + index // accumulate, index % accumulate, rank, tuple(windows)))
    return sorted(cells, key=lambda cell: (cell.step, cell.turn, cell.rank))


def render(rows: dict[str, list[Cell]], resume_at: int, folder: Path) -> list[Path]:
    """Écrit steps.pdf et steps.png dans `folder` : une ligne par façon de faire, une case par fenêtre."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(11, 1.15 * len(rows) + 0.9), layout="constrained")
    panel = figure.add_subplot()
    width = max(sum(len(cell.windows) for cell in cells) for cells in rows.values())
    for line, (title, cells) in enumerate(rows.items()):
        column = 0
        panel.text(0, line - 0.44, title, fontsize=9, va="bottom")
        for cell in cells:
            colour = COLOURS[cell.step % len(COLOURS)]
            for window in cell.windows:
                hatch = "////" if cell.rank else None
                box = Rectangle((column, line - 0.4), 1, 0.62, linewidth=0, facecolor=colour, alpha=0.75)
                box.set(hatch=hatch, edgecolor="white")
                panel.add_patch(box)
                panel.text(column + 0.5, line - 0.09, str(window), ha="center", va="center", fontsize=7)
                column += 1
            panel.plot([column, column], [line - 0.4, line + 0.22], color="white", linewidth=3)
        if line == len(rows) - 1:
            read = sum(len(cell.windows) for cell in cells if cell.step < resume_at)
            panel.plot([read, read], [line - 0.5, line + 0.32], color="black", linewidth=2)
    panel.set(xlim=(0, width), ylim=(len(rows) - 0.6, -0.75), yticks=[], xlabel="fenêtres lues")
    for side in ("left", "right", "top"):
        panel.spines[side].set_visible(False)
    figure.suptitle(
        "Une couleur par pas d'optimiseur ; hachuré : lu par le deuxième processus ; trait noir : la reprise",
        fontsize=10,
    )
    return save(figure, folder, "steps")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/steps")


def demo(settings: dict) -> None:
    """Dessine l'ordre des fenêtres d'une époque, dans `output_dir`."""
    rows = compute(settings["n_windows"], settings["per_step"], settings["resume_at"], settings["seed"])
    for path in render(rows, settings["resume_at"], Path(settings["output_dir"])):
        print(path)
    print(LESSON)


if __name__ == "__main__":
    main()
