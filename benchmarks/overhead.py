"""Ce que Lightning et nos callbacks ajoutent à un pas : `python benchmarks/overhead.py`.

Le même modèle mini, les mêmes lots, le même AdamW : notre Trainer et ses callbacks contre une boucle de PyTorch nu, en
tours entrelacés. On compare les médianes des durées d'un pas.
"""

import argparse
import statistics
import tempfile
import time

import lightning
import torch

from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.data import SlidingWindowDataModule
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import gpt2
from gpt_lightning.training.callbacks import Monitor, Progress
from gpt_lightning.training.hardware import resolve
from gpt_lightning.training.loggers import MetricsCSV
from gpt_lightning.training.module import GPTModule
from gpt_lightning.training.optim import OptimConfig, build_optimizer
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.trainer import arguments, chosen, prepare_process

SHAPE = {"context_length": 256, "emb_dim": 128, "n_heads": 4, "n_layers": 4, "tie_weights": False}
SETTINGS = compose("train", "trainer.accelerator=cpu", "trainer.precision=32-true")
VALUES = SETTINGS["trainer"]
ADAMW = OptimConfig(lr=1e-3, arguments={"betas": (0.9, 0.95)})


class Clock(lightning.Callback):
    """L'heure à la fin de chaque pas."""

    def __init__(self):
        self.times: list[float] = []

    def on_train_batch_end(self, *arguments) -> None:
        self.times.append(time.perf_counter())


def model() -> GPTModel:
    torch.manual_seed(0)
    return GPTModel(GPTConfig(vocab_size=50257, **SHAPE))


def by_lightning(data, steps: int, folder: str) -> list[float]:
    plan = Plan(len(data.order()), data.batch_size * data.max_length, steps, 10**9)
    clock = Clock()
    values = {**VALUES, "enable_checkpointing": False, "limit_val_batches": 0}
    trainer = build(
        "trainer",
        arguments(values, resolve(values), plan),
        logger=MetricsCSV(f"{folder}/metrics.csv"),
        callbacks=chosen([Monitor(), Progress(), clock], {**SETTINGS, "trainer": values}, []),
        default_root_dir=folder,
    )
    module = GPTModule(model(), data=data, optim=ADAMW, plan=plan)
    trainer.fit(module, data)
    return clock.times


def by_hand(data, steps: int) -> list[float]:
    one = model()
    optimizer = build_optimizer(one, ADAMW)
    times, batches = [], iter(data.train_dataloader())
    for _ in range(steps):
        x, y = (part.long() for part in next(batches))
        loss = one.loss(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(one.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter())
    return times


def durations(times: list[float]) -> list[float]:
    return [
        after - before for before, after in zip(times[3:], times[4:], strict=False)
    ]  # sans les premiers pas


def measured(steps: int = 40, rounds: int = 5, batch: int = 4) -> tuple[list[float], list[float]]:
    """Les secondes de chaque pas : boucle nue, notre Trainer."""
    prepare_process(0)
    data = SlidingWindowDataModule(tokenizer=gpt2(), source="pydoc", deduplicate=True, batch_size=batch)
    data.prepare()
    raw, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            raw += durations(by_hand(data, steps))
            ours += durations(by_lightning(data, steps, folder))
    return raw, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    raw, ours = measured(**vars(parser.parse_args()))
    a, b = statistics.median(raw), statistics.median(ours)
    print(f"boucle nue {1e3 * a:.1f} ms par pas, notre Trainer {1e3 * b:.1f} ms : {100 * (b / a - 1):+.2f} %")
    print(f"({len(raw)} pas de chaque ; minimums {1e3 * min(raw):.1f} et {1e3 * min(ours):.1f} ms)")


if __name__ == "__main__":
    main()
