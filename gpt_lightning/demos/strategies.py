"""Les stratégies côte à côte : `python -m gpt_lightning.demos.strategies`.

Un modèle, un texte de départ, plusieurs graines ; des nombres calculés à la place des impressions.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.errors import whole
from gpt_lightning.messages import number
from gpt_lightning.model import GPTModel
from gpt_lightning.tokenizers import Tokenizer

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
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
) -> list[Row]:
    """Une ligne par stratégie. Un faisceau, sans hasard, n'est couru qu'une fois pour toutes les graines."""
    return [
        _measure(model, tokenizer, prompt, name, strategy, seeds=seeds, length=length)
        for name, strategy in strategies.items()
    ]


def _measure(
    model: GPTModel,
    tokenizer: Tokenizer,
    prompt: str,
    name: str,
    strategy: Strategy,
    *,
    seeds: int,
    length: int,
) -> Row:
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
    return Row(
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
    logits = model(torch.tensor([ids[:-1]]))[0, -len(new) :]  # (T, V)
    total = 0.0
    for index, one in enumerate(logits):
        before = torch.tensor([ids[: len(ids) - len(logits) + index]])
        log_p = strategy(one[None], before if strategy.rereads else None).log_softmax(-1)
        total -= float((log_p.exp() * log_p.masked_fill(log_p.isinf(), 0)).sum())
    return total / len(logits)


def render(rows: list[Row], prompt: str, seeds: int) -> "Table":
    """Une table rich : une stratégie par ligne."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"« {prompt} », {seeds} graines ; nats par jeton"
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


def demo(settings: dict) -> None:
    """Compare les stratégies de `strategies` (des fichiers de conf/decoding) sur le modèle de `ckpt_path`."""
    from rich import get_console

    from gpt_lightning.cli.composition import group
    from gpt_lightning.cli.targets import build
    from gpt_lightning.weights import load_for_inference

    strategies = {name: build("decoding", group("decoding", name)) for name in settings["strategies"]}
    for key in ("seeds", "max_new_tokens"):
        whole(key, settings[key], 2)
    _, model, tokenizer, prompt = load_for_inference(settings["ckpt_path"], device="cpu", dtype="fp32")
    prompt = prompt if settings["prompt"] is None else settings["prompt"]
    options = {"seeds": settings["seeds"], "length": settings["max_new_tokens"]}
    rows = compute(model, tokenizer, prompt, strategies, **options)
    get_console().print(render(rows, prompt, settings["seeds"]))


if __name__ == "__main__":
    main()
