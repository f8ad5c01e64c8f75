"""Ce qu'un modèle apprend d'une conversation, jeton par jeton : `python -m gpt_lightning.demos.instruction`."""

from dataclasses import dataclass
from pathlib import Path

from gpt_lightning.demos import toy
from gpt_lightning.demos.temperature import save
from gpt_lightning.tokenizers import Tokenizer, gpt2
from gpt_lightning.tokenizers.messages import Message
from gpt_lightning.tokenizers.template import template_for
from gpt_lightning.typing import Settings

WIDTH = 92  # caractères d'une ligne de l'image
LEARNED, SEEN = "#1b7837", "#777777"
LESSON = """
En vert, ce que le modèle apprend à écrire : la réponse et sa fin. Le reste lui est donné à lire : le prédire ne serait
pas répondre. Sans la fin, il ne saurait pas s'arrêter."""


@dataclass(frozen=True)
class Masked:
    """Une conversation dans son gabarit : ses jetons lisibles, et lesquels sont appris."""

    template: str
    tokens: list[str]
    learned: list[bool]


def compute(template_name: str, tokenizer: Tokenizer, messages: list[Message]) -> Masked:
    """Les jetons de `messages` dans le gabarit `template_name`. UserError si le tokenizer ne sait pas l'écrire."""
    template = template_for(template_name, tokenizer)
    ids, learned = template.render(messages)
    return Masked(template_name, [toy.readable_token(template.tokenizer, index) for index in ids], learned)


def render(masked: Masked, folder: Path) -> list[Path]:
    """Écrit instruction.pdf et instruction.png dans `folder` : un jeton par case, vert s'il est appris."""
    from matplotlib.figure import Figure

    places: list[tuple[int, int]] = []  # (ligne, colonne) de chaque jeton
    line = column = 0
    for token in masked.tokens:
        if column and column + len(token) + 1 > WIDTH:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(token) + 1
        if token.endswith("↵"):
            line, column = line + 1, 0
    rows = places[-1][0] + 1
    figure = Figure(figsize=(9, 0.34 * rows + 0.7))
    panel = figure.add_axes((0.02, 0.0, 0.96, 1 - 0.5 / (0.34 * rows + 0.7)))
    panel.set(xlim=(0, WIDTH), ylim=(rows + 0.2, 0))
    panel.set_axis_off()
    for token, learned, (row, start) in zip(masked.tokens, masked.learned, places, strict=True):
        colour = LEARNED if learned else SEEN
        box = {
            "boxstyle": "round,pad=0.2",
            "facecolor": "#d9f0d3" if learned else "#f2f2f2",
            "edgecolor": "none",
        }
        panel.text(
            start + 0.3,
            row + 0.5,
            toy.in_figure(token),
            weight="bold" if learned else "normal",
            family="monospace",
            fontsize=10,
            va="center",
            color=colour,
            bbox=box,
        )
    count = sum(masked.learned)
    figure.suptitle(
        f"Gabarit {masked.template} : {count} jetons appris sur {len(masked.tokens)}", fontsize=11
    )
    return save(figure, folder, "instruction")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/instruction")


def demo(settings: Settings) -> None:
    """Dessine le masque d'une conversation d'une question et d'une réponse, dans `output_dir`."""
    messages = [Message("user", settings["prompt"]), Message("assistant", settings["answer"])]
    if settings["system"]:
        messages.insert(0, Message("system", settings["system"]))
    for path in render(compute(settings["template"], gpt2(), messages), Path(settings["output_dir"])):
        print(path)
    print(LESSON)


if __name__ == "__main__":
    main()
