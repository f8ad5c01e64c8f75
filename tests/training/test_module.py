"""Le chemin de Lightning donne les pertes d'une boucle écrite à la main."""

import pytest
import torch
from lightning.pytorch.loggers import Logger

from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.data import SlidingWindowDataModule
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import ByteTokenizer
from gpt_lightning.training.callbacks import Monitor, TrainLossEval
from gpt_lightning.training.engine import arguments, choose_callbacks
from gpt_lightning.training.hardware import resolve
from gpt_lightning.training.module import GPTModule
from gpt_lightning.training.optim import OptimConfig
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.training.schedule import Schedule

STEPS = 50
SETTINGS = compose(
    "train",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.enable_progress_bar=false",
    "optim=adamw",
    "output_dir=dossier",
)
VALUES = SETTINGS["trainer"]


class Memory(Logger):
    """Un journal qui retient tout."""

    name, version = "mémoire", "0"

    def __init__(self):
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics, step=None):
        self.rows.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, *args, **kwargs):
        pass


def model(**values) -> GPTModel:
    torch.manual_seed(0)
    return GPTModel(GPTConfig(vocab_size=257, context_length=32, emb_dim=32, n_heads=2, n_layers=2, **values))


def data_of(path, tmp_path, accumulate=1) -> SlidingWindowDataModule:
    data = SlidingWindowDataModule(
        tokenizer=ByteTokenizer(),
        path=str(path),
        max_length=32,
        stride=32,
        batch_size=4,
        cache_dir=str(tmp_path),
        accumulate=accumulate,
    )
    data.prepare()
    return data


def trained(path, tmp_path, *, accumulate=1, callbacks=(), one=None, **schedule) -> tuple[dict, GPTModel]:
    data = data_of(path, tmp_path, accumulate)
    plan = Plan(len(data.order()) // accumulate, 4 * 32 * accumulate, STEPS, 25, accumulate)
    memory, one = Memory(), one or model()
    values = {**VALUES, "gradient_clip_val": 1.0, "log_every_n_steps": 1, "enable_checkpointing": False}
    run = RunConfig.read({**SETTINGS, "eval_every": plan.eval_every, "trainer": values}, torch.optim.AdamW)
    trainer = build(
        "trainer",
        arguments(run, resolve(values), plan.accumulate),
        logger=memory,
        callbacks=choose_callbacks([Monitor(), *callbacks], values),
    )
    optim = OptimConfig(lr=1e-3, arguments={"betas": [0.9, 0.95]}, schedule=Schedule(**schedule))
    module = GPTModule(one, data=data, optim=optim, plan=plan)
    trainer.fit(module, data)
    return memory.rows, one


def by_hand(path, tmp_path, accumulate: int) -> list[float]:
    """Le même entraînement en une boucle de PyTorch nu."""
    data, one = data_of(path, tmp_path, accumulate), model()
    matrices = [p for p in one.parameters() if p.dim() >= 2]
    others = [p for p in one.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
    loader, losses = data.train_dataloader(), []
    batches = iter(loader)
    for _ in range(STEPS):
        total = 0.0
        for _ in range(accumulate):
            batch = next(batches, None)
            if batch is None:
                batches = iter(loader)
                batch = next(batches)
            x, y = (part.long() for part in batch)
            loss = torch.nn.functional.cross_entropy(one(x).flatten(0, 1), y.flatten())
            (loss / accumulate).backward()
            total += loss.item() / accumulate
        torch.nn.utils.clip_grad_norm_(one.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_equals_a_raw_loop(accumulate, text_file, tmp_path):
    rows, _ = trained(text_file, tmp_path, accumulate=accumulate, schedule="constant", warmup=0)
    found = [rows[step]["train/loss"] for step in range(1, STEPS + 1)]
    assert found == pytest.approx(by_hand(text_file, tmp_path, accumulate), rel=1e-6)


def test_bits_per_byte_are_those_of_the_loss(text_file, tmp_path):
    rows, _ = trained(text_file, tmp_path, warmup=0)
    for step in (25, 50):
        nats = rows[step]["val/loss"]
        assert rows[step]["val/bits_per_byte"] == pytest.approx(nats / torch.log(torch.tensor(2.0)).item())
    assert rows[50]["memory_gb"] > 0.05 and "mfu" not in rows[50]


def test_the_training_loss_in_evaluation_mode(text_file, tmp_path):
    one = model(drop_rate=0.3)
    rows, _ = trained(text_file, tmp_path, callbacks=[TrainLossEval(batches=2)], one=one, warmup=0)
    assert {step for step, row in rows.items() if "train/loss_eval" in row} == {1, 25, 50}
    assert {step for step, row in rows.items() if "val/loss" in row} == {1, 25, 50}
    data = data_of(text_file, tmp_path)
    with torch.no_grad():
        one.eval()
        batches = [batch for batch, _ in zip(data.train_dataloader(), range(2), strict=False)]
        expected = sum(one.loss(x.long(), y.long()).item() for x, y in batches) / 2
    data.trainer = None
    assert rows[50]["train/loss_eval"] == pytest.approx(expected, rel=1e-5)
    assert rows[50]["train/loss_eval"] < rows[1]["train/loss_eval"]


def test_early_stopping_ends_the_run_with_an_evaluation(text_file, tmp_path):
    from lightning.pytorch.callbacks import EarlyStopping

    never = EarlyStopping(monitor="val/loss", mode="min", patience=1, min_delta=100.0)
    rows, _ = trained(text_file, tmp_path, callbacks=[never])
    assert max(rows) == 50 and "val/loss" in rows[50]  # deux évaluations sans progrès possible
    stopped = EarlyStopping(monitor="val/loss", mode="min", stopping_threshold=100.0)
    rows, _ = trained(text_file, tmp_path, callbacks=[stopped])
    assert max(rows) == 25 and "val/loss" in rows[25]
