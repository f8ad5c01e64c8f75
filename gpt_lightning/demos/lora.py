"""Ce que LoRA ajoute à une matrice : `python -m gpt_lightning.demos.lora`.

Légende des formes : K entrées, N sorties, R rang.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import whole
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number, percent

LESSON = """
À gauche, ce qu'un apprentissage entier aurait changé à la matrice ; à droite, ce que deux petites matrices B et A
savent en dire. La base ne bouge pas : seules B et A s'apprennent, et se gardent."""


@dataclass(frozen=True)
class Correction:
    """Une correction entière (N, K), la meilleure de rang R, et la part qu'un rang de 1, 2, 3 ... en garde."""

    full: Tensor
    b: Tensor  # (N, R)
    a: Tensor  # (R, K)
    shares: list[float]


def compute(size: int, rank: int, seed: int = 0) -> Correction:
    """Une correction tirée, dont quelques directions portent l'essentiel, et sa meilleure écriture en B A.

    Ses valeurs singulières décroissent comme 1 / k. UserError si le rang dépasse la taille.
    """
    whole("size", size, 2, 256)
    whole("rank", rank, 1, size)
    draw = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(size, size, generator=draw))
    right, _ = torch.linalg.qr(torch.randn(size, size, generator=draw))
    values = 1 / torch.arange(1, size + 1)
    full = left * values @ right.T
    b, a = left[:, :rank] * values[:rank], right[:, :rank].T
    shares = (values.square().cumsum(0) / values.square().sum()).tolist()
    return Correction(full, b, a, shares)


def render(correction: Correction, folder: Path) -> list[Path]:
    """Écrit lora.pdf et lora.png dans `folder`."""
    from matplotlib.figure import Figure

    size, rank = correction.b.shape
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    widths = [size, 3, max(rank, 3), size, size]
    panels = figure.subplots(1, 5, width_ratios=widths)
    most = float(correction.full.abs().max())
    shown = [
        (panels[0], correction.full, f"correction entière\n{size} x {size} = {number(size**2)} nombres"),
        (panels[2], correction.b, f"B\n{size} x {rank}"),
        (panels[3], correction.a, f"A\n{rank} x {size}"),
        (
            panels[4],
            correction.b @ correction.a,
            f"B A : {number(2 * size * rank)} nombres\n{percent(correction.shares[rank - 1])} de la correction",
        ),
    ]
    for panel, values, title in shown:
        limit = most if values.shape[0] == values.shape[1] else float(values.abs().max())
        panel.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        panel.set_title(title, fontsize=9)
        panel.set(xticks=[], yticks=[])
    panels[1].set_axis_off()
    panels[1].text(0.5, 0.5, "≈", ha="center", va="center", fontsize=22)
    figure.suptitle(f"LoRA de rang {rank} : une grande matrice en deux petites", fontsize=11)
    return save(figure, folder, "lora")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/lora")


def demo(settings: Settings) -> None:
    """Dessine une correction et son écriture de rang `rank`, dans `output_dir`."""
    for path in render(
        compute(settings["size"], settings["rank"], settings["seed"]), Path(settings["output_dir"])
    ):
        print(path)
    print(LESSON)


if __name__ == "__main__":
    main()
