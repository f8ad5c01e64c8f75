"""Les stratégies côte à côte : `python -m gpt_lightning.demos.strategies`.

Un modèle, un texte de départ, plusieurs graines ; des nombres calculés à la place des impressions.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.demos import toy
from gpt_lightning.errors import whole
from gpt_lightning.model import GPTModel
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number

if TYPE_CHECKING:
    from rich.table import Table


LESSON = """entropie du tirage   ce que la stratégie laisse au hasard à chaque jeton : 0 pour greedy
paires distinctes    la part des paires de jetons qui ne se répètent pas, toutes graines ensemble
log-proba moyenne    ce que le modèle pense de ses propres textes : plus elle est haute, plus ils sont attendus

À retenir : moins une stratégie laisse de hasard, plus le texte est probable, et plus il se répète ; top-p garde
beaucoup de jetons quand le modèle hésite et peu quand il est sûr, ce que ni la température ni top-k ne font."""


@dataclass(frozen=True)
class Comparison:
    """Une stratégie : un de ses textes, et ses moyennes sur toutes les graines.

    `entropy` : nats laissés au tirage à chaque jeton ; `distinct_2` : paires de jetons différentes sur paires
    produites, toutes graines ensemble (Li et al., 2016) ; `logprob` : log-probabilité moyenne d'un jeton selon le
    modèle, en nats ; `speed` : jetons par seconde, toutes graines ensemble.
    """

    name: str
    text: str
    entropy: float
    distinct_2: float
    logprob: float
    speed: float


def compute(
    model: GPTModel,
    tokenizer: Tokenizer,
    prompt: str,
    strategies: dict[str, Strategy],
    *,
    seeds: int,
    length: int,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Comparison]:
    """Une ligne par stratégie. Un faisceau, qui ne tire rien au sort, n'est calculé qu'une fois.

    `progress` reçoit le nom de chaque stratégie avant sa mesure.
    """
    rows = []
    for name, strategy in strategies.items():
        progress(name)
        rows.append(_measure(model, tokenizer, prompt, name, strategy, seeds=seeds, length=length))
    return rows


def _measure(
    model: GPTModel,
    tokenizer: Tokenizer,
    prompt: str,
    name: str,
    strategy: Strategy,
    *,
    seeds: int,
    length: int,
) -> Comparison:
    samples = 1 if strategy.num_beams > 1 else seeds
    began = time.perf_counter()
    stream = TextStream(
        model,
        tokenizer,
        [prompt],
        strategy=strategy,
        max_new_tokens=length,
        seed=0,
        num_samples=samples,
        logprobs=True,
    )
    for _ in stream:
        pass
    seconds = time.perf_counter() - began
    rows = stream.rows * (seeds // samples)
    pairs = [pair for row in rows for pair in zip(row.ids, row.ids[1:], strict=False)]
    logprobs = [value for row in rows for value in row.logprobs]
    entropies = [_entropy(model, tokenizer, prompt, row.ids, strategy) for row in stream.rows]
    return Comparison(
        name,
        stream.rows[0].text,
        sum(entropies) / len(entropies),
        len(set(pairs)) / max(1, len(pairs)),
        sum(logprobs) / len(logprobs),
        sum(len(row.ids) for row in stream.rows) / seconds,
    )


@torch.no_grad()
def _entropy(model: GPTModel, tokenizer: Tokenizer, prompt: str, new: list[int], strategy: Strategy) -> float:
    """L'entropie moyenne, en nats, de la distribution où chaque jeton de `new` a été tiré."""
    from gpt_lightning.decoding.text import prompt_ids

    if strategy.greedy:
        return 0.0
    ids = prompt_ids(tokenizer, prompt) + new
    ids = ids[-model.config.context_length - 1 :]
    device = next(model.parameters()).device
    logits = model(torch.tensor([ids[:-1]], device=device))[0, -len(new) :].cpu()  # (T, V)
    total = 0.0
    for index, scores in enumerate(logits):
        before = torch.tensor([ids[: len(ids) - len(logits) + index]])
        log_p = strategy(scores[None], before if strategy.rereads else None).log_softmax(-1)
        total -= float((log_p.exp() * log_p.masked_fill(log_p.isinf(), 0)).sum())
    return total / len(logits)


def render(rows: list[Comparison], prompt: str, seeds: int) -> "Table":
    """Une table rich : une stratégie par ligne."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"Une complétion {toy.quote(prompt)}, {seeds} graines ; nats par jeton"
    table = Table(title=title, box=box.SIMPLE_HEAD, show_lines=True, title_justify="left")
    table.add_column("stratégie", style="bold")
    table.add_column("le texte de la première graine", ratio=1)
    for name in ("entropie du\ntirage", "paires\ndistinctes", "log-proba\nmoyenne", "jetons/s"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = (
            number(row.entropy, 2),
            f"{number(100 * row.distinct_2)} %",
            number(row.logprob, 2),
            number(row.speed),
        )
        table.add_row(row.name, Text(" ".join(row.text.split())), *numbers)
    return table


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/strategies")


def demo(settings: Settings) -> None:
    """Compare les stratégies de `strategies` (des fichiers de conf/decoding) sur le modèle de `ckpt_path`."""
    from gpt_lightning.cli.composition import group
    from gpt_lightning.cli.targets import build

    strategies = {name: build("decoding", group("decoding", name)) for name in settings["strategies"]}
    for key in ("seeds", "max_new_tokens"):
        whole(key, settings[key], 2)
    model, tokenizer, prompt = toy.subject(settings)
    options = {"seeds": settings["seeds"], "length": settings["max_new_tokens"]}
    rows = compute(
        model,
        tokenizer,
        prompt,
        strategies,
        progress=lambda name: print(f"{name} ...", file=sys.stderr),
        **options,
    )
    toy.report([render(rows, prompt, settings["seeds"]), LESSON], settings, "strategies")


if __name__ == "__main__":
    main()
