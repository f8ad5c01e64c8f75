"""Apprendre à répondre : la perte des réponses, la même quels que soient les lots, les processus, chez transformers."""

import json
import signal

import pytest
import torch

from gpt_lightning.cli import signals
from gpt_lightning.data import ConversationDataModule
from gpt_lightning.data.padded import AnswerDataset, AnswerLoader, AnswerOrder
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import ByteTokenizer, gpt2
from gpt_lightning.training.callbacks import StopOnSignal
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from tests.resilience.runs import read, same_run
from tests.resilience.test_stops import run

NOUNS = ["chat", "chien", "loup", "ours", "lynx", "cerf", "daim", "âne", "bœuf", "coq"]
ROWS = [
    {"instruction": f"Que fait le {noun} {i} ?", "output": f"Le {noun} {'dort ' * (i % 7)}bien."}
    for i in range(12)
    for noun in NOUNS
]
TINY = (
    "model=tiny",
    "data.max_length=128",
    "data.batch_size=4",
    "eval_every=4",
    "trainer.log_every_n_steps=1",
)


@pytest.fixture(scope="session")
def talks(tmp_path_factory):
    path = tmp_path_factory.mktemp("dialogues") / "dialogues.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(talks):
    one = ConversationDataModule(tokenizer=ByteTokenizer(), path=str(talks), max_length=128)
    one.prepare()
    return one


def model(vocab_size: int = 257, **options) -> GPTModel:
    torch.manual_seed(0)
    shape = {"context_length": 300, "emb_dim": 32, "n_heads": 2, "n_layers": 2}
    return GPTModel(GPTConfig(vocab_size=vocab_size, **shape, **options)).eval()


def losses(one: GPTModel, data: AnswerDataset, rows) -> torch.Tensor:
    batch = data.batch(rows)
    return one.loss(batch.ids, batch.targets, batch.where, batch.segments)


OPTIONS = [{}, {"positions": "rope", "norm": "rmsnorm"}, {"kernels": "reference"}, {"vocab_padding": 64}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_mask_of_ones_is_the_pretraining_loss(options):
    one = model(**options)
    ids = torch.randint(257, (3, 21), generator=torch.Generator().manual_seed(1))
    x, y = ids[:, :-1], ids[:, 1:]
    found = one.loss(x, y.flatten(), torch.arange(y.numel()))
    torch.testing.assert_close(found, one.loss(x, y), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_packed_conversations_do_not_see_each_other(options, data):
    one, rows = model(**options), data.store["train"].rows[:6]
    apart, packed = AnswerDataset(rows[:2]), AnswerDataset(rows[:2], [[0, 1]])
    assert packed.batch([0]).ids.shape[1] == sum(len(row.ids) - 1 for row in rows[:2])
    counts = apart.targets
    each = [losses(one, apart, [index]) for index in (0, 1)]
    both = losses(one, packed, [0])
    wanted = sum(loss * int(n) for loss, n in zip(each, counts, strict=True)) / int(counts.sum())
    torch.testing.assert_close(both, wanted, atol=1e-5, rtol=1e-5)
    hidden = one.hidden(packed.batch([0]).ids, segments=packed.batch([0]).segments)
    alone = [one.hidden(apart.batch([index]).ids) for index in (0, 1)]
    torch.testing.assert_close(hidden, torch.cat(alone, dim=1), atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing(data):
    one, dataset = model(), data.store["train"]
    rows = [0, 5, 11, 17]
    together = losses(one, dataset, rows) * int(dataset.targets[rows].sum())
    torch.testing.assert_close(
        together, sum(losses(one, dataset, [row]) * int(dataset.targets[row]) for row in rows)
    )


def test_the_loss_is_that_of_transformers(data, tmp_path):
    transformers = pytest.importorskip("transformers")
    from gpt_lightning.weights.exporting import export

    other = ConversationDataModule(tokenizer=gpt2(), path=data.path, max_length=128)
    other.prepare()
    one = model(50257)
    export(one, gpt2(), tmp_path / "hf", "hf")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(str(tmp_path / "hf")).eval()
    dataset = other.store["train"]
    for index in range(4):
        row = dataset.rows[index]
        labels = torch.tensor([[i if kept else -100 for i, kept in zip(row.ids, row.learned, strict=True)]])
        expected = theirs(torch.tensor(row.ids[None].astype("int64")), labels=labels).loss
        torch.testing.assert_close(losses(one, dataset, [index]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("world, accumulate", [(1, 3), (2, 1), (2, 2)])
def test_a_step_is_the_same_however_it_is_split(data, packing, world, accumulate):
    """La moyenne, sur les processus et les lots, des gradients de chacun : celle d'un seul lot de toutes les lignes."""
    torch.set_default_dtype(torch.float64)
    try:
        one = model()
    finally:
        torch.set_default_dtype(torch.float32)
    rows = data.store["train"].rows
    dataset = AnswerDataset(rows, [[i, i + 1] for i in range(0, len(rows) - 1, 2)] if packing else None)

    def gradients(batch_size: int, world: int, accumulate: int) -> list[torch.Tensor]:
        one.zero_grad()
        for rank in range(world):
            options = {"batch_size": batch_size, "seed": 3, "world_size": world, "rank": rank}
            batches = iter(AnswerLoader(dataset, AnswerOrder(dataset, accumulate=accumulate, **options)))
            for _ in range(accumulate):
                batch = next(batches)
                loss = one.loss(batch.ids, batch.targets, batch.where, batch.segments)
                (loss * len(batch.targets) * batch.share / (world * accumulate)).backward()
        return [p.grad.clone() for p in one.parameters()]

    whole = gradients(4 * world * accumulate, 1, 1)
    for found, wanted in zip(gradients(4, world, accumulate), whole, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_two_processes_and_an_accumulation_learn_the_same(command, talks, tmp_path):
    common = ["experiment=instruct", "init_from=null", "tokenizer=bytes", f"data.path={talks}", *TINY]
    common += ["trainer.max_steps=6", "trainer.precision=32-true", "optim=adamw", "callbacks.sample=null"]
    splits = {
        "un": ["data.batch_size=8"],
        "accumulé": ["trainer.accumulate_grad_batches=2"],
        "deux": ["trainer.devices=2"],
    }
    found = {}
    for name, typed in splits.items():
        done = command("train.py", *common, *typed, f"output_dir={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found[name] = read_metrics(tmp_path / name / "metrics.csv")
    for name in ("accumulé", "deux"):
        for step, row in found["un"].items():
            for key in {"train/loss", "grad_norm", "val/loss", "tokens", "targets"} & row.keys():
                assert found[name][step][key] == pytest.approx(row[key], rel=2e-5), (name, step, key)


CASES = {
    "accumulation": ("trainer.accumulate_grad_batches=3", "model.drop_rate=0.3"),
    "rangées": ("data.packing=true",),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [3, pytest.param(7, marks=pytest.mark.slow)])
def test_stopped_and_resumed_it_ends_on_the_same_bits(case, step, talks, tmp_path, monkeypatch):
    typed = [
        "experiment=instruct",
        "init_from=null",
        "tokenizer=bytes",
        f"data.path={talks}",
        *TINY,
        *CASES[case],
    ]
    typed += [
        "trainer.max_steps=10",
        "data.eval_batches=2",
        "save_every=3",
        "callbacks.sample.max_new_tokens=4",
    ]
    choices = {"model": "tiny", "data": "instruct", "tokenizer": "bytes", "experiment": "instruct"}
    run(tmp_path / "entier", *typed, choices=choices)
    monkeypatch.setattr(signals._State, "received", 0)
    agreed = StopOnSignal._agree

    def stop(self, trainer, **options):
        signals._State.received = signal.SIGTERM if trainer.global_step == step else 0
        return agreed(self, trainer, **options)

    monkeypatch.setattr(StopOnSignal, "_agree", stop)
    with pytest.raises(signals.Interrupted):
        run(tmp_path / "course", *typed, choices=choices)
    monkeypatch.setattr(StopOnSignal, "_agree", lambda self, trainer, **options: 0)
    run(tmp_path / "course", choices=choices)
    same_run(tmp_path / "course", tmp_path / "entier")


def test_a_token_budget_is_honoured_within_one_step_and_targets_are_counted(talks, tmp_path):
    typed = ["experiment=instruct", "init_from=null", "tokenizer=bytes", f"data.path={talks}", *TINY]
    run(tmp_path / "course", *typed, "max_tokens=3000", "callbacks.sample=null")
    progress = read(tmp_path / "course" / "checkpoints" / "last.ckpt")["gpt_lightning"]["progress"]
    rows = read_metrics(tmp_path / "course" / "metrics.csv")
    last = max(rows)
    assert rows[last]["tokens"] == progress["tokens"] >= 3000 > rows[last - 1]["tokens"]
    assert rows[last]["targets"] == progress["targets"] and 0 < progress["targets"] < progress["tokens"]


@pytest.mark.parametrize("template", ["texte", "chatml"])
def test_a_pretrained_model_is_instructed_and_its_checkpoint_says_so(
    template, talks, finished_run, command, tmp_path
):
    _, pretrained, _ = finished_run
    typed = ["experiment=instruct", f"init_from={pretrained}", f"data.path={talks}", "data.errors=skip"]
    typed += [
        "trainer.max_steps=4",
        "eval_every=2",
        "data.batch_size=4",
        "data.max_length=32",
        f"data.template={template}",
    ]
    done = command("train.py", *typed, "output_dir=course", cwd=tmp_path)
    if template == "texte":  # ses caractères n'ont pas « # »
        assert (
            done.returncode == 1 and "data.template=chatml" in done.stderr and "Traceback" not in done.stderr
        )
        return
    assert done.returncode == 0, done.stderr
    known = read(tmp_path / "course" / "checkpoints" / "best.ckpt")["gpt_lightning"]
    before = read(next(pretrained.glob("checkpoints/best.ckpt")))["gpt_lightning"]
    assert (known["task"], known["template"]) == ("instruct", template)
    assert known["model"]["vocab_size"] == before["model"]["vocab_size"] + 2
    assert any("»" in path.read_text() for path in (tmp_path / "course" / "samples").iterdir())


OLDER = {
    "system": ({"system": "Sois bref."}, None),
    "history": ({}, None),
    "context": ({"context": "ici"}, None),  # une clé que la version 0.1 laissait tomber sans le dire
    "weight": (None, {"weight": 0}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=[pytest.mark.slow] * (key in ("system", "context"))) for key in OLDER]
)
def test_a_run_of_before_that_dropped_a_key_is_continued_without_it(key, tmp_path, command):
    """La reprise dit par quelle clé continuer, et l'exécution continue alors sur ce qu'elle a lu."""
    column, mark = OLDER[key]
    rows = [row | (column or {}) for row in ROWS]
    if key == "history":  # la première question dit de quelle moitié est une conversation
        rows = [row | {"history": [[row["instruction"], "Oui."]]} for row in ROWS]
    if mark:
        turn = [{"role": "user", "content": "Ça va ?"}, {"role": "assistant", "content": "Oui."} | mark]
        talks = [[("user", row["instruction"]), ("assistant", row["output"])] for row in ROWS]
        talks = [[{"role": who, "content": text} for who, text in talk] for talk in talks]
        rows = [{"messages": [*talk, *turn, *talk]} for talk in talks]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    typed = ["experiment=instruct", "init_from=null", "tokenizer=bytes", "data.path=a.jsonl", *TINY]
    typed += ["callbacks.sample=null", "trainer.max_steps=2", "output_dir=course", f"data.ignore=[{key}]"]
    done = command("train.py", *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = tmp_path / "course" / "config.yaml"  # celui de la version 0.1 n'a pas cette clé
    lines = settings.read_text(encoding="utf-8").splitlines()
    first = next(rank for rank, line in enumerate(lines) if line.strip().startswith("ignore:"))
    settings.write_text("\n".join([*lines[:first], *lines[first + 2 :]]) + "\n", encoding="utf-8")
    again = ["train.py", "ckpt_path=course", "trainer.max_steps=4"]
    done = command(*again, cwd=tmp_path)
    assert done.returncode == 1 and f"data.ignore=[{key}]" in done.stderr and "Traceback" not in done.stderr
    done = command(*again, f"data.ignore=[{key}]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(read_metrics(tmp_path / "course" / "metrics.csv")) == 4
