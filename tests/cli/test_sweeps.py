"""Un mot, une option ou un héritage veut dire la même chose dans une commande simple, un balayage, et avec --cfg."""

import itertools
import os
import re
import shutil

import pytest
import yaml
from hydra.types import RunMode

from gpt_lightning import layout
from gpt_lightning.cli import habits, options
from gpt_lightning.cli.arguments import take_free_text
from gpt_lightning.cli.inheritance import Inheritance
from gpt_lightning.data.reading import find_files
from gpt_lightning.errors import UserError
from tests.conftest import sentences

MISUSED = [
    ["seed=1", "--cfg"],
    ["--cfg", "seed=1"],
    ["--cfg", "foo"],
    ["--cfg=foo"],
    ["seed=1", "-p"],
    ["-p", "-m"],
    ["--info=foo"],
    ["--config-dir"],
    ["--resolve"],
    ["-m=1"],
    ["-m", "--cfg", "job"],
    ["-r", "-m"],
    ["--info", "-c", "job"],
]


@pytest.mark.parametrize("argv", MISUSED, ids=" ".join)
def test_a_misused_option_is_a_sentence_and_never_takes_an_override(argv):
    with pytest.raises(UserError):
        take_free_text(habits.check_arguments(argv, "train"))


def test_the_order_of_options_and_overrides_changes_nothing():
    """Une option va partout, suivie de sa valeur."""
    parts = [["-m"], ["--cfg", "job"], ["-p", "data"], ["seed=1,2"], ["un texte"], ["--info"]]
    expected = {"-m", "--cfg", "job", "-p", "data", "--info=all"}
    for order in itertools.permutations(parts):
        given, words = options.separate([text for part in order for text in part])
        assert set(given) == expected and given[given.index("--cfg") + 1] == "job", order
        assert words == [part[0] for part in order if part[0] in ("seed=1,2", "un texte")]


@pytest.mark.parametrize(
    "typed, parts",
    [
        ("a.txt,b.txt", ["'a.txt'", "'b.txt'"]),
        ("[a,b],[c],d", ["['a','b']", "['c']", "'d'"]),
        ("a,null", ["'a'", "null"]),
        ("choice(a,b)", ["choice(a", "b)"]),
        ("[a", ["'[a'"]),
    ],
)
def test_the_values_of_a_sweep_are_read_as_they_are_alone(typed, parts):
    assert take_free_text(["-m", f"data.path={typed}"])[0] == ["-m", "data.path=" + ",".join(parts)]


@pytest.mark.parametrize("plus", ["", "++"])
def test_a_forced_path_is_the_path(plus):
    assert take_free_text([f"{plus}ckpt_path=a b", f"{plus}prompt=x"]) == (
        ["ckpt_path='a b'"],
        {"prompt": "x"},
    )


def leave_run(folder, data: dict, *, age: float = 0) -> None:
    """Le dossier d'une exécution, réduit à ce qui s'en hérite."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".hydra").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (folder / "checkpoints" / name).write_bytes(b"")
        os.utime(folder / "checkpoints" / name, (1e9 - age, 1e9 - age))
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
    record = {"hydra": {"runtime": {"choices": {"data": "text"}}}}
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")


def test_the_disk_is_looked_at_once_in_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leave_run(layout.OUTPUTS / "avant", {}, age=9)
    with layout.one_look(now=True):
        leave_run(layout.OUTPUTS / "tâche", {})
        assert layout.newest_run() == layout.OUTPUTS / "avant"
        for word in (None, "best", "last"):
            assert layout.run_of(layout.find_checkpoint(word)) == layout.OUTPUTS / "avant"
        elsewhere = layout.view()
    assert layout.newest_run() == layout.OUTPUTS / "tâche"
    with layout.one_look():  # un autre processus du lanceur, plus tard
        layout.share_view(elsewhere)
        assert layout.newest_run() == layout.OUTPUTS / "avant"


def test_each_job_inherits_from_its_own_run(tmp_path, monkeypatch):
    """La même chose que seule ; le balayage lui-même a l'héritage de sa première tâche."""
    monkeypatch.chdir(tmp_path)
    usual = {"source": "files", "batch_size": 3}
    for name in "ab":
        leave_run(tmp_path / name, {**usual, "path": f"{name}.txt"})
    swept = Inheritance("evaluate", group="data")
    for name in "ab":
        typed = [f"ckpt_path='{name}'", "dtype=fp32"]
        alone, _ = Inheritance("evaluate", group="data").complete(typed, RunMode.RUN)
        assert swept.complete(typed, RunMode.RUN)[0] == alone and f"data.path='{name}.txt'" in alone
    complete, added = swept.complete(["ckpt_path='b','a'", "dtype=fp32"], RunMode.MULTIRUN)
    assert complete[added:] == ["ckpt_path='b','a'", "dtype=fp32"] and "data.path='b.txt'" in complete[:added]


def test_what_runs_write_is_not_in_the_corpus_of_their_folder(tmp_path):
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    samples = tmp_path / "outputs" / "0" / "samples"
    leave_run(tmp_path / "outputs" / "0", {})
    samples.mkdir()
    (samples / "step.txt").write_text("b", encoding="utf-8")
    assert [path.name for path in find_files(str(tmp_path)).files] == ["a.txt"]
    assert [path.name for path in find_files(str(samples)).files] == ["step.txt"]


@pytest.fixture(scope="module")
def two_runs(finished_run, tmp_path_factory):
    """Une exécution finie, et sa jumelle dont le corpus est un autre."""
    folder = tmp_path_factory.mktemp("deux")
    shutil.copytree(finished_run[1], folder / "RUN1")
    shutil.copytree(finished_run[1], folder / "RUN2")
    (folder / "autre.txt").write_text("La nuit passe. Le chien dort. " * 300, encoding="utf-8")
    path = folder / "RUN2" / "config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["data"]["path"] = str(folder / "autre.txt")
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def blocks(said: str) -> list[str]:
    return ["Modèle" + block for block in said.split("Modèle")[1:]]


def test_a_sweep_says_what_each_command_alone_would_say(command, two_runs):
    def evaluate(*typed):
        done = command("gpt_lightning", "evaluate", *typed, cwd=two_runs)
        assert done.returncode == 0 and "usage" not in done.stderr, done.stderr
        return done.stdout

    alone = [evaluate(f"ckpt_path={name}") for name in ("RUN1", "RUN2")]
    assert blocks("".join(alone)) == blocks(evaluate("ckpt_path=RUN1,RUN2", "-m"))
    assert len(blocks(evaluate("-m", "ckpt_path=RUN2", "dtype=fp32,bf16"))) == 2
    shown = yaml.safe_load(evaluate("ckpt_path=RUN2", "--cfg", "job"))
    assert shown["data"]["path"] == str(two_runs / "autre.txt")


@pytest.mark.parametrize("option", [("--cfg", "job"), ("-c", "job", "--resolve"), ("--info", "config")])
def test_what_is_shown_is_what_would_run(command, two_runs, option):
    typed = ("ckpt_path=RUN2", *option, "trainer.max_steps=20", "prompt=Le chat")
    done = command("train.py", *typed, cwd=two_runs)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "max_steps: 20" in done.stdout and "prompt: Le chat" in done.stdout
    assert "autre.txt" in done.stdout and "checkpoints/last.ckpt" in done.stdout


@pytest.mark.parametrize(
    "script, typed",
    [
        ("train.py", ("seed=1,2",)),
        ("train.py", ("-m", "seed=1,2", "--cfg", "job")),
        ("train.py", ("-m", "resume=auto", "output_dir=a")),
        ("train.py", ("-m", "ckpt_path=null,a")),
        ("gpt_lightning", ("serve", "-m", "port=0,1")),
    ],
)
def test_what_a_sweep_cannot_do_is_one_sentence(command, tmp_path, script, typed):
    done = command(script, *typed, cwd=tmp_path)
    assert done.returncode == 1 and len(sentences(done.stderr)) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_a_sweep_is_the_help(command, tmp_path):
    done = command("train.py", "-m", "seed=1,2", "ckpt_path=absent", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Commandes courantes" in done.stdout, done.stderr


def test_each_job_reads_the_whole_standard_input(command, two_runs):
    typed = ("-m", "seed=1,2", "max_new_tokens=2", "ckpt_path=RUN1")
    done = command("generate.py", *typed, cwd=two_runs, stdin="Le chien\n")
    assert done.returncode == 0 and done.stdout.count("Le chien") == 2, done.stderr


@pytest.mark.parametrize(
    "word", ["best", *(pytest.param(word, marks=pytest.mark.slow) for word in ("last", "auto"))]
)
def test_every_job_starts_from_the_same_weights(command, two_runs, tmp_path, word):
    """Aucune ne part d'une autre : à réglages égaux, pertes égales ; et la table dit d'où l'on part."""
    shutil.copytree(two_runs / "RUN1", tmp_path / "outputs" / "avant")
    short = ("trainer.max_steps=1", "callbacks.sample=null", "data.max_length=32", "data.stride=32")
    typed = (
        "-m",
        f"init_from={word}",
        "seed=1,1",
        "data=text",
        f"data.path={two_runs / 'autre.txt'}",
        *short,
    )
    done = command("train.py", *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("Balayage fini") :].splitlines()
    assert "outputs/avant/checkpoints/" in table[0]
    losses = re.findall(r"^ +\d +1 +([\d,]+)", "\n".join(table), re.M)
    assert len(losses) == 2 and len(set(losses)) == 1
