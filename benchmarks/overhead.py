"""Ce que Lightning et nos callbacks ajoutent à un pas : `python benchmarks/overhead.py`.

Le même modèle mini, les mêmes lots, le même AdamW : un pas de notre Trainer et de ses callbacks, un de PyTorch nu, et
ainsi de suite, si bien que la machine est la même pour les deux. On compare les médianes des durées d'un pas.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable

import lightning
import torch

from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.data import SlidingWindowDataModule
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import gpt2
from gpt_lightning.training.callbacks import Monitor, Progress
from gpt_lightning.training.engine import arguments, choose_callbacks, prepare_process
from gpt_lightning.training.hardware import resolve
from gpt_lightning.training.loggers import MetricsCSV
from gpt_lightning.training.module import GPTModule
from gpt_lightning.training.optim import OptimConfig, build_optimizer
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.run_config import RunConfig

SHAPE = {"context_length": 256, "emb_dim": 128, "n_heads": 4, "n_layers": 4, "tie_weights": False}
SETTINGS = compose(
    "train", "trainer.accelerator=cpu", "trainer.precision=32-true", "optim=adamw", "output_dir=."
)
VALUES = {
    **SETTINGS["trainer"],
    "enable_checkpointing": False,
    "limit_val_batches": None,
    "num_sanity_val_steps": 0,
}
ADAMW = OptimConfig(lr=1e-3, arguments={"betas": (0.9, 0.95)})


class Between(lightning.Callback):
    """À la fin de chaque pas de notre Trainer, un pas de la boucle nue ; garde les secondes de l'un et de l'autre."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.step = step
        self.raw: list[float] = []
        self.ours: list[float] = []
        self._resumed: float | None = None

    def on_train_batch_end(self, *arguments) -> None:
        began = time.perf_counter()
        if self._resumed is not None:
            self.ours.append(began - self._resumed)
        self.step()
        self._resumed = time.perf_counter()
        self.raw.append(self._resumed - began)


def model() -> GPTModel:
    torch.manual_seed(0)
    return GPTModel(GPTConfig(vocab_size=50257, **SHAPE))


def by_hand(data) -> Callable[[], None]:
    """Un pas de la boucle nue."""
    network = model()
    optimizer = build_optimizer(network, ADAMW)
    batches = itertools.chain.from_iterable(data.train_dataloader() for _ in itertools.count())

    def step() -> None:
        x, y = (part.long() for part in next(batches))
        loss = network.loss(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(steps: int = 200, batch: int = 4) -> tuple[list[float], list[float]]:
    """Les secondes de chaque pas, les premiers retirés : boucle nue, notre Trainer."""
    run = RunConfig.read({**SETTINGS, "seed": 0, "eval_every": 10**9, "trainer": VALUES}, torch.optim.AdamW)
    prepare_process(run)
    data = SlidingWindowDataModule(tokenizer=gpt2(), source="pydoc", deduplicate=True, batch_size=batch)
    data.prepare()
    plan = Plan(len(data.order()), data.batch_size * data.max_length, steps, 10**9)
    between = Between(by_hand(data))
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(
            "trainer",
            arguments(run, resolve(VALUES), 1),
            logger=MetricsCSV(f"{folder}/metrics.csv"),
            callbacks=choose_callbacks([Monitor(), Progress(), between], VALUES),
            default_root_dir=folder,
        )
        trainer.fit(GPTModule(model(), data=data, optim=ADAMW, plan=plan), data)
    return between.raw[4:], between.ours[4:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    raw, ours = measure(**vars(parser.parse_args()))
    a, b = statistics.median(raw), statistics.median(ours)
    print(f"boucle nue {1e3 * a:.1f} ms par pas, notre Trainer {1e3 * b:.1f} ms : {100 * (b / a - 1):+.2f} %")
    print(f"({len(raw)} pas de chaque ; minimums {1e3 * min(raw):.1f} et {1e3 * min(ours):.1f} ms)")


if __name__ == "__main__":
    main()
