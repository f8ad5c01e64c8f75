"""Le top-k pas à pas : `python -m gpt_lightning.demos.top_k`.

D'abord sur les neuf mots du livre, puis sur le jeton suivant d'un vrai modèle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from gpt_lightning.decoding import filters
from gpt_lightning.demos import toy
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number

if TYPE_CHECKING:
    from rich.table import Table


LESSON = """
1 le score brut du modèle, 2 est-il parmi les k plus grands, 3 les autres deviennent -∞, 4 les probabilités recalculées

À retenir : top-k coupe toujours au même rang. Quand le modèle est sûr de lui, il garde des jetons presque impossibles ;
quand il hésite, il en jette de bons. La somme des colonnes softmax reste 1 : ce qui est coupé va aux jetons gardés."""


@dataclass(frozen=True)
class Steps:
    """Chaque étape sur le même vocabulaire, (V,) : logits, masque, logits masqués, probabilités avant et après."""

    k: int
    logits: Tensor
    mask: Tensor
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
        survives = bool(steps.mask[token])
        table.add_row(
            Text(word(token)),
            number(float(steps.logits[token]), 2),
            "oui" if survives else "non",
            number(float(steps.masked[token]), 2) if survives else "-∞",
            number(float(steps.before[token]), 4),
            number(float(steps.after[token]), 4),
            style="bold" if survives else "dim",
        )
    return table


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/top_k")


def demo(settings: Settings) -> None:
    """Montre les étapes sur le petit vocabulaire, puis sur le modèle de `ckpt_path`."""
    small = compute(toy.LOGITS, k=settings["k"])
    model, tokenizer, prompt = toy.subject(settings)
    steps = compute(toy.next_token(model, tokenizer, prompt), k=settings["k"])
    title, most = f"Le jeton suivant {toy.quote(prompt)}, les {settings['rows']} premiers", settings["rows"]
    share = 100 * float(steps.before[~steps.mask].sum())
    contents = [
        render(small, toy.VOCABULARY.__getitem__, "Le vocabulaire du livre", most=9),
        render(steps, lambda token: toy.readable_token(tokenizer, token), title, most=most),
        f"Les {number(int((~steps.mask).sum()))} jetons écartés pesaient ensemble {number(share, 1)} %.",
        LESSON,
    ]
    toy.report(contents, settings, "top_k")


if __name__ == "__main__":
    main()
