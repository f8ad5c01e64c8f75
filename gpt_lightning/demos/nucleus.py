"""Qui survit à chaque filtre : `python -m gpt_lightning.demos.nucleus`.

La même distribution du jeton suivant, coupée par top-k, top-p et min-p.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning.decoding import filters
from gpt_lightning.demos import toy
from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import number, whole
from gpt_lightning.model import GPTModel
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number as written

COLOURS = ("#0072B2", "#009E73", "#D55E00")


LESSON = """Les barres sont les jetons les plus probables ; chaque rangée de marques montre ceux qu'un filtre garde.

À retenir : top-k garde toujours k jetons ; top-p et min-p en gardent peu si le modèle est sûr, beaucoup s'il hésite."""


@dataclass(frozen=True)
class Survivors:
    """Les `words` les plus probables, leurs probabilités (W,), et par filtre : qui reste (W,), combien en tout."""

    words: list[str]
    probabilities: Tensor
    masks: dict[str, Tensor]
    sizes: dict[str, int]


def compute(
    logits: Tensor, words: Callable[[int], str], *, k: int, p: float, min_p: float, most: int = 40
) -> Survivors:
    """Les survivants de chaque filtre parmi les `most` premiers jetons de (V,) logits."""
    first = logits.argsort(descending=True)[:most]
    filtered = {
        f"top-k, k = {k}": filters.keep_top_k(logits[None], k)[0],
        f"top-p, p = {written(p, 2)}": filters.keep_top_p(logits[None], p)[0],
        f"min-p, {written(min_p, 2)} du premier": filters.keep_min_p(logits[None], min_p)[0],
    }
    masks = {name: (scores > filters.NEVER)[first] for name, scores in filtered.items()}
    sizes = {name: int((scores > filters.NEVER).sum()) for name, scores in filtered.items()}
    return Survivors([words(int(token)) for token in first], logits.softmax(-1)[first], masks, sizes)


def render(panels: dict[str, Survivors], folder: Path) -> list[Path]:
    """Écrit nucleus.pdf et nucleus.png : un panneau par texte, une rangée de marques par filtre."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(11, 4.6 * len(panels)), layout="constrained")
    for panel, (title, survivors) in zip(
        figure.subplots(len(panels), 1, squeeze=False).flat, panels.items(), strict=True
    ):
        ticks = torch.arange(len(survivors.words))
        panel.bar(ticks, survivors.probabilities, color="0.75")
        top = float(survivors.probabilities[0])
        for rank, ((name, mask), colour) in enumerate(zip(survivors.masks.items(), COLOURS, strict=True)):
            height = -top * 0.06 * (rank + 1)
            panel.scatter(
                ticks[mask],
                [height] * int(mask.sum()),
                color=colour,
                marker="so^"[rank],
                s=28,
                label=f"{name} : {_many(survivors.sizes[name])}",
            )
        panel.set_xticks(ticks, list(map(toy.in_figure, survivors.words)), rotation=90)
        panel.set(title=title, ylabel="probabilité", ylim=(-top * 0.24, top * 1.05))
        digits = 0 if top >= 0.1 else 1  # deux graduations ne s'écrivent jamais pareil
        panel.yaxis.set_major_formatter(FuncFormatter(partial(_percent, digits)))
        panel.set_yticks([tick for tick in panel.get_yticks() if 0 <= tick <= top * 1.05])
        panel.axhline(0, color="0.3", linewidth=0.8)
        panel.legend(title="marques : les jetons gardés", loc="upper right")
    most = max(len(survivors.words) for survivors in panels.values())
    figure.suptitle(
        f"Quels jetons survivent à chaque filtre ? Les {most} premiers sont dessinés ; « · » est une espace"
    )
    return save(figure, folder, "nucleus")


def _percent(digits: int, value: float, position: int | None = None) -> str:
    return f"{written(100 * value, digits)} %"


def _many(count: int) -> str:
    return f"{count} jeton{'s' * (count > 1)}"


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/nucleus")


def demo(settings: Settings) -> None:
    """Dessine les survivants après `prompt` et au début d'un texte, dans `output_dir`."""
    for key in ("p", "min_p"):
        number(key, settings[key], 0, 1)
    whole("k", settings["k"])
    model, tokenizer, prompt = toy.subject(settings)
    for path in render(_panels(model, tokenizer, [prompt, ""], settings), Path(settings["output_dir"])):
        print(path)
    print(LESSON)


def _panels(
    model: GPTModel, tokenizer: Tokenizer, prompts: Sequence[str], settings: Settings
) -> dict[str, Survivors]:
    values = {key: settings[key] for key in ("k", "p", "min_p")}
    return {
        toy.quote(prompt): compute(
            toy.next_token(model, tokenizer, prompt),
            lambda token: toy.readable_token(tokenizer, token),
            **values,
        )
        for prompt in prompts
    }


if __name__ == "__main__":
    main()
