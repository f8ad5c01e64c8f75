"""La température en image : `python -m gpt_lightning.demos.temperature`.

La même distribution à cinq températures, sur les neuf mots du livre et sur un vrai modèle, et son entropie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gpt_lightning import durable
from gpt_lightning.decoding import softmax_avec_temperature
from gpt_lightning.demos import toy
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number, tick

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

TEMPERATURES = (0.2, 0.5, 1.0, 2.0, 5.0)
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00")  # Okabe et Ito : lisibles par tous


LESSON = """Chaque colonne est la probabilité des mêmes jetons, les scores étant divisés par T avant softmax.

À retenir : T < 1 donne presque tout au premier jeton, T > 1 rapproche les probabilités ; l'ordre ne change jamais."""


@dataclass(frozen=True)
class Temperatures:
    """Les probabilités de `words` à chaque température, (5, W), et l'entropie (nats) le long de `scale`."""

    words: list[str]
    probabilities: Tensor
    scale: Tensor
    entropy: Tensor
    vocabulary: int


def compute(logits: Tensor, words: Sequence[str] | Mapping[int, str], *, most: int = 9) -> Temperatures:
    """Les `most` premiers mots de (V,) logits à cinq températures, et l'entropie de 0,05 à 10."""
    first = logits.argsort(descending=True)[:most]
    probabilities = torch.stack([softmax_avec_temperature(logits, t)[first] for t in TEMPERATURES])
    scale = torch.logspace(-1.3, 1, 60)
    log_p = torch.stack([(logits / t).log_softmax(-1) for t in scale.tolist()])
    entropy = -(log_p.exp() * log_p).sum(-1)
    return Temperatures([words[int(i)] for i in first], probabilities, scale, entropy, len(logits))


def render(panels: dict[str, Temperatures], folder: Path) -> list[Path]:
    """Écrit temperature.pdf et temperature.png : un panneau par distribution, puis les entropies."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(10, 4 * len(panels) + 4), layout="constrained")
    axes = figure.subplots(len(panels) + 1, 1)
    for panel, (title, values) in zip(axes, panels.items(), strict=False):
        ticks = torch.arange(len(values.words))
        for rank, (temperature, colour) in enumerate(zip(TEMPERATURES, COLOURS, strict=True)):
            label = f"T = {temperature:g}".replace(".", ",")
            offset = (rank - 2) * 0.16
            panel.bar(ticks + offset, values.probabilities[rank], 0.16, color=colour, label=label)
        panel.set_xticks(ticks, list(map(toy.in_figure, values.words)))
        panel.set(title=title, ylabel="probabilité (sans unité)", ylim=(0, 1))
        panel.yaxis.set_major_formatter(FuncFormatter(tick))
        panel.legend(title="température")
    for (title, values), style, colour in zip(
        panels.items(), ("-", "--"), ("#0072B2", "#D55E00"), strict=False
    ):
        axes[-1].plot(values.scale, values.entropy, style, color=colour, linewidth=2, label=title)
        most = torch.tensor(float(values.vocabulary)).log().item()
        axes[-1].axhline(most, color=colour, linestyle=":")
        axes[-1].text(0.05, most, f" ln {values.vocabulary} : tout au hasard", va="bottom", color=colour)
    axes[-1].axvline(1, color="grey", linewidth=0.8)
    axes[-1].set(
        xscale="log", xlabel="température (sans unité, échelle logarithmique)", ylabel="entropie (nats)"
    )
    axes[-1].set_title("L'incertitude croît avec la température : 0 est greedy, l'infini tire au hasard")
    axes[-1].xaxis.set_major_formatter(FuncFormatter(tick))
    axes[-1].legend(loc="center right")
    axes[-1].margins(y=0.12)
    return save(figure, folder, "temperature")


def table(title: str, values: Temperatures) -> "Table":
    """Les mêmes nombres que l'image : une ligne par mot, une colonne par température."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    shown.add_column("mot")
    for temperature in TEMPERATURES:
        shown.add_column(f"T = {temperature:g}".replace(".", ","), justify="right")
    for index, word in enumerate(values.words):
        shown.add_row(Text(word), *(f"{number(100 * float(p[index]), 1)} %" for p in values.probabilities))
    return shown


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Écrit la figure en PDF et en PNG dans `folder`."""
    with durable.refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return durable.save_figure(figure, folder, name)


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/temperature")


def demo(settings: Settings) -> None:
    """Montre et dessine la température sur le petit vocabulaire et sur le modèle de `ckpt_path`, dans `output_dir`."""
    model, tokenizer, prompt = toy.subject(settings)
    logits = toy.next_token(model, tokenizer, prompt)
    words = {
        token: toy.readable_token(tokenizer, token) for token in logits.argsort(descending=True)[:9].tolist()
    }
    panels = {
        "Le vocabulaire du livre, neuf mots": compute(toy.LOGITS, toy.VOCABULARY),
        f"Le modèle, {toy.quote(prompt)}": compute(logits, words),
    }
    toy.report([*(table(title, values) for title, values in panels.items()), LESSON], settings, "temperature")
    for path in render(panels, Path(settings["output_dir"])):
        print(path)


if __name__ == "__main__":
    main()
