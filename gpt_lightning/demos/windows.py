"""Les fenêtres sur la base de jetons : `python -m gpt_lightning.demos.windows max_length=8 stride=4`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_lightning.data.loader import BatchOrder
from gpt_lightning.data.windows import SlidingWindowDataset
from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import whole
from gpt_lightning.wording import number

INPUT, TARGET, CUT = "#0072B2", "#E69F00", "#D55E00"
LESSON = """
Une fenêtre est un début et une longueur : rien n'est recopié. L'entrée (en bleu) et la cible (trait orange) sont les
mêmes jetons, décalés d'un. Un pas (stride) plus court que la fenêtre la fait recouvrir la précédente. Sans
recouvrement, les fenêtres commencent un peu plus loin à chaque époque."""


@dataclass(frozen=True)
class Windows:
    """Les jetons que chaque fenêtre lit (entrée) et prédit (cible), par leur rang dans la base : (W, T), (W, T)."""

    inputs: np.ndarray
    targets: np.ndarray


def compute(
    n_tokens: int, max_length: int, stride: int, documents: list[int], seed: int = 123
) -> dict[str, Windows]:
    """Les fenêtres du chargeur sur une base de `n_tokens` jetons, dont `documents` sont les débuts de documents.

    Comme dans un entraînement, seules des fenêtres qui ne se recouvrent pas se décalent à l'époque suivante.
    UserError sur une taille impossible.
    """
    whole("n_tokens", n_tokens, 4, 200)
    whole("max_length", max_length, 2, n_tokens - 1)
    whole("stride", stride, 1, max_length)
    for first in documents:
        whole("documents", first, 0, n_tokens - 1)
    starts = np.array(sorted({0, *documents}))
    tokens = np.arange(n_tokens)  # chaque jeton vaut son rang : une fenêtre dit elle-même où elle lit
    apart, later = (SlidingWindowDataset(tokens, max_length=max_length, stride=max_length) for _ in range(2))
    order = BatchOrder(len(later), batch_size=1, seed=seed, shift=max_length)
    order.epoch = 1
    later.offset = order.offset
    overlapping = SlidingWindowDataset(tokens, max_length=max_length, stride=stride)
    inside = SlidingWindowDataset(tokens, max_length=max_length, stride=stride, documents=starts)
    return {
        "data.stride=null, première époque": _windows(apart),
        "data.stride=null, deuxième époque": _windows(later),
        f"data.stride={stride}": _windows(overlapping),
        f"data.stride={stride} data.cross_documents=false": _windows(inside),
    }


def _windows(dataset: SlidingWindowDataset) -> Windows:
    inputs, targets = dataset.__getitems__(range(len(dataset)))
    return Windows(inputs.numpy(), targets.numpy())


def render(panels: dict[str, Windows], documents: list[int], folder: Path) -> list[Path]:
    """Écrit windows.pdf et windows.png dans `folder` : une ligne par fenêtre, une colonne par jeton de la base."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    heights = [len(windows.inputs) + 1.5 for windows in panels.values()]
    figure = Figure(figsize=(10, 0.2 * sum(heights) + 1.8), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights)
    for panel, (title, windows) in zip(axes, panels.items(), strict=True):
        for line, (read, wanted) in enumerate(zip(windows.inputs, windows.targets, strict=True)):
            panel.barh(line, len(read), left=read[0], height=0.55, align="edge", color=INPUT)
            panel.plot([wanted[0], wanted[-1] + 1], [line + 0.75] * 2, color=TARGET, linewidth=2)
        for first in documents:
            panel.axvline(first, color=CUT, linestyle=":", linewidth=1.2)
        panel.set_title(f"{title} : {number(len(windows.inputs))} fenêtres", fontsize=10)
        panel.set(yticks=[], ylim=(len(windows.inputs), -0.3))
    axes[-1].set(
        xlabel="rang du jeton dans la base", xlim=(0, 1 + max(w.targets.max() for w in panels.values()))
    )
    handles = [Patch(color=INPUT, label="entrée"), Line2D([], [], color=TARGET, linewidth=2, label="cible")]
    handles.append(Line2D([], [], color=CUT, linestyle=":", label="début de document"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return save(figure, folder, "windows")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/windows")


def demo(settings: dict) -> None:
    """Dessine les fenêtres d'une base de `n_tokens` jetons, dans `output_dir`."""
    documents = settings["documents"]
    sizes = settings["n_tokens"], settings["max_length"], settings["stride"]
    panels = compute(*sizes, documents, whole("seed", settings["seed"], 0))
    for path in render(panels, documents, Path(settings["output_dir"])):
        print(path)
    print(LESSON)


if __name__ == "__main__":
    main()
