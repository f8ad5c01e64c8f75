"""Le top-k pas à pas : `python -m gpt_lightning.demos.top_k`.

D'abord sur les neuf mots du livre, puis sur le jeton suivant d'un vrai modèle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from gpt_lightning.decoding import filters
from gpt_lightning.demos import toy
from gpt_lightning.messages import number

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Steps:
    """Chaque étape sur le même vocabulaire, (V,) : logits, masque, logits masqués, probabilités avant et après."""

    k: int
    logits: Tensor
    kept: Tensor
    masked: Tensor
    before: Tensor
    after: Tensor


def compute(logits: Tensor, *, k: int) -> Steps:
    """Les étapes du top-k sur (V,) logits. ValueError si k < 1."""
    after = filters.top_k_sampling(logits, k)
    masked = filters.keep_top_k(logits, k)
    return Steps(k, logits, masked > filters.NEVER, masked, logits.softmax(-1), after)


def render(steps: Steps, word: Callable[[int], str], title: str, *, most: int) -> "Table":
    """Une table rich : un mot par ligne, une étape par colonne, les `most` plus probables d'abord."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{title}, k = {steps.k}", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("mot")
    for name in ("1. logit", "2. parmi les k ?", "3. logit masqué", "softmax avant", "4. softmax après"):
        table.add_column(name, justify="right")
    for token in steps.logits.argsort(descending=True)[:most].tolist():
        kept = bool(steps.kept[token])
        table.add_row(
            Text(word(token)),
            number(float(steps.logits[token]), 2),
            "oui" if kept else "non",
            number(float(steps.masked[token]), 2) if kept else "-∞",
            number(float(steps.before[token]), 4),
            number(float(steps.after[token]), 4),
            style="bold" if kept else "dim",
        )
    return table


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/top_k")


def demo(settings: dict) -> None:
    """Montre les étapes sur le petit vocabulaire, puis sur le modèle de `ckpt_path`."""
    from rich import get_console

    from gpt_lightning.weights import load_for_inference

    small = compute(toy.LOGITS, k=settings["k"])
    _, model, tokenizer, prompt = load_for_inference(settings["ckpt_path"], device="cpu", dtype="fp32")
    prompt = prompt if settings["prompt"] is None else settings["prompt"]
    steps = compute(toy.next_token(model, tokenizer, prompt), k=settings["k"])
    console = get_console()
    console.print(render(small, toy.VOCABULARY.__getitem__, "Le vocabulaire du livre", most=9))
    title, most = f"Après « {prompt} », les {settings['rows']} premiers jetons", settings["rows"]
    console.print(render(steps, lambda token: toy.shown(tokenizer, token), title, most=most))
    left = float(steps.before[~steps.kept].sum())
    console.print(
        f"Les {number(int((~steps.kept).sum()))} jetons écartés pesaient ensemble {number(100 * left, 1)} %."
    )


if __name__ == "__main__":
    main()
