"""Les grands corpus, par les commandes : préparer, entraîner, reprendre, mesurer, sur un et deux processus."""

import csv

import pytest

from tests.data.test_columns import write

SMALL = ("model=tiny", "tokenizer=bytes", "data.max_length=16", "data.batch_size=4", "logger=none")
TEXTS = [f"Document {i}. " + "Le chat dort, la nuit passe. " * (3 + i % 5) for i in range(120)]


@pytest.fixture(scope="module")
def corpora(command, tmp_path_factory):
    """Le même texte, en .csv, en .parquet et en fragments."""
    cwd = tmp_path_factory.mktemp("grands corpus")
    for suffix in (".csv", ".parquet"):
        write(cwd / f"c{suffix}", TEXTS)
    done = command(
        *(
            "gpt_lightning",
            "prepare",
            "data=text",
            "data.path=c.csv",
            "tokenizer=bytes",
            "data.split=documents",
        ),
        *("format=bin", "to=fragments", "shard_tokens=2000"),
        cwd=cwd,
    )
    assert done.returncode == 0 and "data=shards data.path=fragments" in done.stdout, done.stderr
    return cwd


CORPORA = {
    "text": ("data=text", "data.path=c.csv"),
    "parquet": ("data=parquet", "data.path=c.parquet"),
    "shards": ("data=shards", "data.path=fragments"),
}


def losses(folder):
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        (row["step"], row["train/loss"], row["val/loss"])
        for row in rows
        if row["train/loss"] or row["val/loss"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["text", "parquet", "shards"])
def test_a_run_resumes_exactly_on_two_processes_too_and_is_measured(command, corpora, corpus):
    def train(name, *more):
        done = command(
            "train.py", *CORPORA[corpus], *SMALL, f"output_dir={corpus}-{name}", "eval_every=4", "seed=5",
            "trainer.log_every_n_steps=1", "trainer.deterministic=true", *more, cwd=corpora,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    train("droit", "trainer.max_steps=12")
    train("repris", "trainer.max_steps=6", "optim.schedule=constant")
    train("entier", "trainer.max_steps=12", "optim.schedule=constant")
    done = command("train.py", f"ckpt_path={corpus}-repris", "trainer.max_steps=12", cwd=corpora)
    assert done.returncode == 0, done.stderr
    resumed, straight = losses(corpora / f"{corpus}-repris"), losses(corpora / f"{corpus}-entier")
    assert resumed[-6:] == straight[-6:]
    train("deux", "trainer.max_steps=12", "trainer.devices=2", "trainer.accelerator=cpu", "data.batch_size=2")
    done = command("gpt_lightning", "evaluate", f"ckpt_path={corpus}-droit", cwd=corpora)
    assert done.returncode == 0 and "Bits par octet" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_dataset_trains(command, corpora, tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "jeu").mkdir()
    write(tmp_path / "jeu" / "train.parquet", TEXTS)
    done = command(
        *("train.py", "data=datasets", "data.name=jeu", *SMALL, "trainer.max_steps=2", "output_dir=e"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    done = command("gpt_lightning", "evaluate", "ckpt_path=e", cwd=tmp_path)
    assert done.returncode == 0 and "jeu" in done.stdout, done.stderr
