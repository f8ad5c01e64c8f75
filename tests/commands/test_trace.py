"""La commande `trace`, et la part copiée qu'un entraînement et `evaluate` montrent."""

import json

import pytest
import torch

from gpt_lightning.commands.trace import PLAIN, TINTS, tint
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from tests.conftest import TEXT


def test_every_passage_of_a_text_is_in_the_corpus(finished_run, command, text_file, tmp_path):
    cwd, folder, trained = finished_run
    assert "part copiée" in trained.stdout and "sample/copied" in (folder / "metrics.csv").read_text()
    typed = "et la nuit passe. Il était une fois un loup ; le chien veille, et le chat aussi."
    output = tmp_path / "passages.json"
    done = command("gpt_lightning", "trace", typed, f"output={output}", "least=2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(typed) and "Part copiée : " in done.stdout and "\033" not in done.stdout
    result = json.loads(output.read_text(encoding="utf-8"))
    assert [passage["text"] for passage in result["passages"]][:2] == [
        "et la nuit passe. Il était une fois un",
        "le chien veille, et",
    ]
    for passage in result["passages"]:
        assert passage["text"] == typed[passage["begin"] : passage["end"]] and passage["text"] in TEXT


@pytest.mark.slow
def test_each_fault_is_one_sentence(finished_run, command, tmp_path):
    cwd, folder, _ = finished_run
    (tmp_path / "vide.txt").write_text(" \n", encoding="utf-8")
    for typed, said in (
        (("un chat", "prompt_file=a"), "gardez l'un des deux"),
        ((f"prompt_file={tmp_path / 'vide.txt'}",), "pas de texte à retrouver"),
        (("un chat", "least=0"), "least"),
        (("un chat", f"output={tmp_path}"), "existe déjà"),
        (("un chat", "data=text", f"data.path={tmp_path / 'vide.txt'}"), "essayez un texte plus long"),
        (("un chat", f"output={tmp_path}/a/b.json"), "créez-le d'abord"),
        (("un chat", f"output={tmp_path}/a.csv"), "donnez un nom en .json"),
        (("un chat", "data=text", "data.path=ailleurs.txt"), "ailleurs.txt n'existe pas"),
    ):
        done = command("gpt_lightning", "trace", *typed, cwd=cwd)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, typed


@pytest.mark.slow
def test_the_corpus_of_other_weights_is_asked_for(finished_run, command, tmp_path, text_file):
    cwd, _, _ = finished_run
    done = command("gpt_lightning", "export", "format=safetensors", f"to={tmp_path}/a", cwd=cwd)
    assert done.returncode == 0, done.stderr
    done = command("gpt_lightning", "trace", "un chat", f"ckpt_path={tmp_path}/a", cwd=cwd)
    assert done.returncode == 1 and "ne dit pas son corpus : donnez" in done.stderr
    given = ("data=text", f"data.path={text_file}", "least=1")
    done = command("gpt_lightning", "trace", "un chat", f"ckpt_path={tmp_path}/a", *given, cwd=cwd)
    assert done.returncode == 0 and "2 mots" in done.stdout, done.stderr


@pytest.mark.slow
def test_evaluate_and_prepare_say_the_copied_share(finished_run, command, text_file):
    cwd, _, _ = finished_run
    done = command("gpt_lightning", "evaluate", cwd=cwd)
    assert done.returncode == 0 and "de ce qu'il écrit" in done.stdout, done.stderr
    done = command("gpt_lightning", "evaluate", "data.max_length=16", cwd=cwd)
    assert done.returncode == 0 and "non mesurée : ce corpus n'est pas" in done.stdout
    done = command("gpt_lightning", "prepare", "data=text", f"data.path={text_file}", "index=true", cwd=cwd)
    assert done.returncode == 0 and "train_suffixes.bin" in done.stdout, done.stderr


@pytest.mark.slow
def test_measuring_the_copied_share_changes_no_bit(command, text_file, tmp_path):
    """Les mêmes poids, et les mêmes mesures que sans elle."""
    typed = ["model=tiny", "model.drop_rate=0.1", "data=text", f"data.path={text_file}", "tokenizer=bytes"]
    typed += ["data.max_length=32", "data.batch_size=4", "trainer.max_steps=6", "eval_every=2"]
    typed += ["trainer.log_every_n_steps=1", "callbacks.sample=null", "callbacks.plot=null"]
    states, rows = [], []
    for name, more in (("avec", []), ("sans", ["callbacks.copied=null"])):
        run = tmp_path / name
        done = command("train.py", *typed, *more, f"output_dir={run}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        states.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
        rows.append(read_metrics(run / "metrics.csv"))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert rows[0].keys() == rows[1].keys() and any("sample/copied" in row for row in rows[0].values())
    for step, row in rows[1].items():
        for key in row:
            assert "loss" not in key or rows[0][step][key] == row[key], (step, key)


def test_the_longest_passage_is_the_brightest():
    passages = [{"begin": 0, "end": 4, "words": 3}, {"begin": 2, "end": 6, "words": 25}]
    assert tint("abcdefg", passages) == f"{TINTS[0]}ab{PLAIN}{TINTS[2]}cdef{PLAIN}g"
    assert tint("abc", []) == "abc"
