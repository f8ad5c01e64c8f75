"""Le dernier pas d'un passage : chaque ligne une fois, et le gradient d'un seul processus quels que soient les lots."""

import json
import shutil

import numpy as np
import pytest
import torch

from gpt_lightning.data import ConversationDataModule, LabelledDataModule
from gpt_lightning.data.classify.module import LabelDataset
from gpt_lightning.data.padded import AnswerDataset, AnswerLoader, AnswerOrder, EncodedConversation, pack
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.tasks import ANSWERS, LABELS
from gpt_lightning.tokenizers import ByteTokenizer
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from gpt_lightning.weights.format import TrainingProgress
from tests.test_before import write as write_before

WAYS = [(1, 1), (2, 1), (1, 3), (2, 2), (3, 2), (5, 1)]  # processus, accumulation
SHAPE = {"vocab_size": 90, "context_length": 128, "emb_dim": 16, "n_heads": 2, "n_layers": 1}


def corpus(kind: str, n: int):
    draw = np.random.default_rng(n)
    texts = [draw.integers(0, 90, length).astype(np.int32) for length in draw.integers(4, 30, n)]
    if kind == "labels":
        return LabelDataset(texts, draw.integers(0, 3, n).tolist(), np.array([0.5, 1.0, 2.0]))
    rows = [EncodedConversation(ids, np.arange(len(ids)) >= draw.integers(1, len(ids))) for ids in texts]
    return AnswerDataset(rows, pack([len(ids) - 1 for ids in texts], 60) if kind == "packed" else None)


def loaders(data, world: int, accumulate: int, **more):
    return [
        AnswerLoader(
            data,
            AnswerOrder(
                data, batch_size=4, seed=5, world_size=world, rank=rank, accumulate=accumulate, partial=True
            ),
            **more,
        )
        for rank in range(world)
    ]


@pytest.mark.parametrize("n", [1, 3, 16, 31, 97])
@pytest.mark.parametrize("world, accumulate", WAYS)
def test_every_row_is_read_once_a_pass_and_every_process_has_as_many_batches(n, world, accumulate):
    data = corpus("answers", n)
    orders = [loader.order for loader in loaders(data, world, accumulate)]
    for epoch in (0, 2):
        for order in orders:
            order.epoch = epoch
        parts = [list(order) for order in orders]
        assert sorted(row for part in parts for batch in part for row in batch) == list(range(n))
        assert {len(part) for part in parts} == {len(orders[0])} and len(orders[0]) % accumulate == 0
    order, place, read = orders[0], (0, 0), 0
    while place[0] == 0:
        read += order.step_tokens(*place)[0]
        place = order.place(place[0], place[1] + order.per_step)
    assert place == (1, 0) and read == int(data.lengths.sum()) and order.left_out == 0
    steps = len(order) // accumulate
    assert order.steps_for(read) == steps and order.steps_for(read + 1) == steps + 1
    assert order.mean_tokens * steps == pytest.approx(read, abs=steps)


def network(kind: str):
    torch.manual_seed(0)
    config = GPTConfig(**SHAPE, drop_rate=0.0)
    return GPTClassifier(config, n_labels=3) if kind == "labels" else GPTModel(config)


def gradient(kind: str, data, world: int, accumulate: int) -> torch.Tensor:
    """Le gradient du dernier pas : DDP et l'accumulation font la moyenne de ceux des lots."""
    model, task = network(kind), LABELS if kind == "labels" else ANSWERS
    total, targets = torch.zeros(()), 0
    for loader in loaders(data, world, accumulate):
        for batch in list(loader)[-accumulate:]:
            loss = task.batch_loss(task.forward(model), batch, 3)
            assert bool(batch.share) == bool(loss.targets)
            total, targets = (
                total + task.step_loss(loss, batch) / (world * accumulate),
                targets + loss.targets,
            )
    total.backward()
    assert all(p.grad is not None for p in model.parameters())
    order = loader.order
    assert targets == order.step_tokens(0, (len(order) // accumulate - 1) * order.per_step)[1]
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("kind", ["answers", "packed", "labels"])
@pytest.mark.parametrize(
    "per_step, ways", [(12, [(3, 1), (1, 3)]), (16, [(2, 2), (4, 1)]), (24, [(3, 2), (2, 3)])]
)
@pytest.mark.parametrize("left", [1, 5, 11])
def test_a_partial_step_has_the_gradient_of_a_single_process(kind, per_step, ways, left):
    n = per_step + left
    data = corpus(kind, n)
    if kind == "packed":  # une ligne y est plusieurs conversations
        data = AnswerDataset(data.rows, [[index] for index in range(n)])
        data.packed = True
    expected = None
    for world, accumulate in ways:
        found = gradient(kind, data, world, accumulate)
        rows = loaders(data, world, accumulate)[0].order.permutation(0)[per_step:]
        model, task = network(kind), LABELS if kind == "labels" else ANSWERS
        task.batch_loss(task.forward(model), data.batch(rows), 3).mean.backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters()])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    assert expected is not None and expected.abs().sum() > 0


def test_a_checkpoint_of_before_has_whole_steps():
    assert not TrainingProgress(1, 1, 0, 0, "", 1, 1).partial


def write(path, kind: str, n: int):
    texts = [f"Que fait le chat {i} ?" for i in range(n)]
    rows = [{"prompt": text, "completion": f"Il dort {i}."} for i, text in enumerate(texts)]
    if kind == "labels":
        rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


COMMON = (
    "model=tiny",
    "tokenizer=bytes",
    "data.max_length=128",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "callbacks.sample=null",
    "logger.tensorboard=null",
    "callbacks.plot=null",
    "output_dir=x",
)


@pytest.mark.parametrize("kind", ["instruct", "labels"])
def test_a_pass_reads_the_thirty_one_rows(kind, command, tmp_path):
    write(tmp_path / "a.jsonl", kind, 31), write(tmp_path / "v.jsonl", kind, 8)
    done = command(
        "train.py",
        f"data={kind}",
        "data.path=a.jsonl",
        "data.val_path=v.jsonl",
        "data.batch_size=16",
        "data.passes=1",
        *COMMON,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "2 pas, 1,0 époques" in done.stdout
    rows = {s: row for s, row in read_metrics(tmp_path / "x" / "metrics.csv").items() if "train/loss" in row}
    read = sum(len(f"Que fait le chat {i} ?") for i in range(31))
    assert list(rows) == [1, 2]
    assert rows[2]["tokens"] == read if kind == "labels" else rows[2]["tokens"] > read


@pytest.mark.parametrize("n", [1, 5])
def test_fewer_rows_than_a_step_are_one_step(n, command, tmp_path):
    write(tmp_path / "a.jsonl", "instruct", n), write(tmp_path / "v.jsonl", "instruct", 3)
    paths = ("data=instruct", "data.path=a.jsonl", "data.val_path=v.jsonl", "data.passes=3")
    done = command("train.py", *paths, *COMMON, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 pas, 3,0 époques" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["instruct", "labels"])
@pytest.mark.parametrize("n", [17, 31])
def test_two_processes_make_the_partial_step_of_one(kind, n, command, tmp_path):
    write(tmp_path / "a.jsonl", kind, n), write(tmp_path / "v.jsonl", kind, 8)
    losses = []
    for name, ways in (("un", ("data.batch_size=16",)), ("deux", ("data.batch_size=4", "trainer.devices=2"))):
        more = ("global_batch_size=16", f"output_dir={name}", "data.passes=2", "model.drop_rate=0")
        paths = (f"data={kind}", "data.path=a.jsonl", "data.val_path=v.jsonl")
        done = command("train.py", *paths, *COMMON[:-1], *ways, *more, cwd=tmp_path, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        rows = read_metrics(tmp_path / name / "metrics.csv")
        losses.append([row["train/loss"] for row in rows.values() if "train/loss" in row])
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], rel=1e-4)


def progress_of(run) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["gpt_lightning"]["progress"]


CASES = [("instruct", 1), ("instruct", 2), ("instruct", 3), ("labels", 1), ("labels", 2), ("labels", 3)]
SHORT = (("instruct", 2), ("labels", 3))  # les autres, parmi les longs, disent la même loi


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, stop", [case if case in SHORT else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_run_is_resumed_around_its_partial_step(kind, stop, command, tmp_path):
    write(tmp_path / "a.jsonl", kind, 31), write(tmp_path / "v.jsonl", kind, 8)
    paths = (f"data={kind}", "data.path=a.jsonl", "data.val_path=v.jsonl", "data.batch_size=16")
    more = ("optim=adamw", "optim.schedule=constant", "optim.warmup=0", "optim.lr=1e-3")

    def train(*typed: str) -> dict[int, float]:
        done = command("train.py", *typed, cwd=tmp_path, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        name = next(value for value in ("x", "y") if any(word.endswith(f"={value}") for word in typed))
        rows = read_metrics(tmp_path / name / "metrics.csv")
        return {step: row["train/loss"] for step, row in rows.items() if "train/loss" in row}

    straight = train(*paths, *COMMON, *more, "trainer.max_steps=4")
    train(*paths, *COMMON[:-1], *more, f"trainer.max_steps={stop}", "output_dir=y")
    again = train("ckpt_path=y", "trainer.max_steps=4")
    assert again == pytest.approx(straight, rel=1e-5) and list(again) == [1, 2, 3, 4]
    assert progress_of(tmp_path / "y")["partial"] and progress_of(tmp_path / "y")["epoch"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind, size", [("instruct", 5), ("classify", 4)])
def test_a_run_of_before_keeps_its_order(kind, size, command, tmp_path):
    """Ses pas restent entiers, passage après passage ; une reprise de la reprise aussi."""
    write_before.corpora(tmp_path)
    shutil.copytree(write_before.HERE / kind, tmp_path / kind)
    corpus = {"instruct": "dialogues.jsonl", "classify": "avis.csv"}[kind]
    module = {"instruct": ConversationDataModule, "classify": LabelledDataModule}[kind]
    n = len(module(tokenizer=ByteTokenizer(), path=str(tmp_path / corpus)).halves()["train"])
    assert n % size  # sinon, rien ne distingue les deux ordres
    step, epoch, windows = 50, 0, 200
    for steps in (120, 130):
        typed = (f"ckpt_path={kind}", f"trainer.max_steps={steps}", f"data.batch_size={size}")
        done = command("train.py", *typed, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        while step < steps:
            step, windows = step + 1, windows + size
            epoch, windows = (epoch, windows) if windows + size <= n else (epoch + 1, 0)
        progress = progress_of(tmp_path / kind)
        assert (progress["epoch"], progress["windows"], progress["partial"]) == (epoch, windows, False)
