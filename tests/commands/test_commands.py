"""Les commandes, comme un utilisateur les tape : de vrais processus, un dossier de travail neuf."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
import torch
import yaml

from gpt_lightning.training.loggers.metrics_csv import read_metrics
from tests.conftest import ROOT, hearing_signals, sentences

SMALL = ("data.max_length=32", "data.stride=32", "data.batch_size=4")


def test_training_says_what_it_does_and_writes_it_all(finished_run):
    cwd, folder, done = finished_run
    for word in (
        "Appareil",
        "précision",
        "Corpus",
        "jetons",
        "fenêtres",
        "paramètres",
        "FLOP",
        "mémoire",
        "reste",
    ):
        assert word in done.stdout
    assert "Traceback" not in done.stderr and done.stderr == ""
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    expected = {
        "train.log",
        "metrics.csv",
        "config.yaml",
        "plots/loss.pdf",
        "plots/loss.png",
        ".hydra/config.yaml",
    }
    assert expected <= files
    checkpoints = {p.name for p in (folder / "checkpoints").iterdir()}
    assert checkpoints == {f"{n}.ckpt" for n in ("best", "last", "step_0000008", "step_0000012")}
    assert {p.name for p in (folder / "samples").iterdir()} == {f"step_{n:07d}.txt" for n in (5, 10, 12)}
    rows = read_metrics(folder / "metrics.csv")
    assert {step for step, row in rows.items() if "val/loss" in row} == {5, 10, 12}
    assert {step for step, row in rows.items() if "train/loss" in row} == {2, 4, 6, 8, 10, 12}
    assert rows[12]["tokens"] == 12 * 8 * 32 and rows[12]["val/loss"] < rows[5]["val/loss"]


@pytest.mark.parametrize("name", ["best", "last", "step_0000008"])
def test_checkpoints_hold_no_code(finished_run, name):
    checkpoint = torch.load(finished_run[1] / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert checkpoint["gpt_lightning"]["tokenizer"]["kind"] == "words_v2"
    assert ("optimizer_states" in checkpoint) == (name != "best")


def test_the_next_commands_work_when_pasted(finished_run, command):
    cwd, _, done = finished_run
    line = next(line for line in done.stdout.splitlines() if "generate.py" in line)
    script, *arguments = shlex.split(line)[1:]
    generated = command(script, *arguments, cwd=cwd)
    (first, *_) = torch.load(finished_run[1] / "checkpoints" / "best.ckpt", weights_only=True)[
        "gpt_lightning"
    ]["prompts"]
    assert generated.returncode == 0 and generated.stdout.startswith(first)
    assert len(generated.stdout) > len(first)


def test_generating_writes_the_text_only_and_leaves_nothing(finished_run, command):
    cwd, _, _ = finished_run
    before = sorted(cwd.rglob("*"))
    prompt = "Il était une fois l'eau, enfin = 1984 ${x}"
    runs = [
        command("generate.py", f"prompt={prompt}", "seed=3", "max_new_tokens=8", "decoding=top_k", cwd=cwd)
        for _ in range(2)
    ]
    assert runs[0].returncode == 0 and runs[0].stdout.startswith(prompt)
    assert runs[0].stdout == runs[1].stdout and "jetons/s" in runs[0].stderr
    assert sorted(cwd.rglob("*")) == before


def test_generating_with_what_is_off_elsewhere_is_off(finished_run, command):
    cwd, _, _ = finished_run
    off = ("decoding=temperature", "decoding.no_repeat_ngram=0", "decoding.lookup_ngram=-1")
    runs = [
        command("generate.py", "prompt=Le chat", "max_new_tokens=8", *typed, cwd=cwd)
        for typed in (("decoding=greedy",), (*off, "decoding.temperature=1e-8"))
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[1].stderr
    assert runs[0].stdout == runs[1].stdout


def test_generating_reads_a_pipe_and_writes_several_samples(finished_run, command):
    cwd, _, _ = finished_run
    typed = ("num_samples=2", "max_new_tokens=5", "seed=1", "decoding=typical", "logprobs=true", "dtype=bf16")
    done = command("generate.py", "-", *typed, cwd=cwd, stdin="Le chat\n")
    first, separator, second = done.stdout.rstrip("\n").partition("\n---\n")
    assert done.returncode == 0 and separator and first.startswith("Le chat") and second.startswith("Le chat")
    assert first != second and "log-probabilité" in done.stderr


def test_generating_from_lines_into_a_file_and_a_dialogue(finished_run, command):
    cwd, _, _ = finished_run
    (cwd / "débuts.txt").write_text("Le chat\nLe chien veille\n", encoding="utf-8")
    try:
        typed = ("prompts_file=débuts.txt", "output=suites.jsonl", "max_new_tokens=4", "decoding=beam")
        done = command("generate.py", *typed, cwd=cwd)
        records = [json.loads(line) for line in (cwd / "suites.jsonl").read_text("utf-8").splitlines()]
        assert done.returncode == 0 and done.stdout == "" and [r["tokens"] for r in records] == [4, 4]
        again = command("generate.py", *typed, cwd=cwd, timeout=60)
        assert again.returncode == 1 and "existe déjà" in again.stderr
    finally:
        (cwd / "débuts.txt").unlink()
        (cwd / "suites.jsonl").unlink(missing_ok=True)
    said = "/decoding greedy\nLe chat\n/quitter\n"
    spoken = command("generate.py", "interactive=true", "max_new_tokens=3", cwd=cwd, stdin=said)
    assert spoken.returncode == 0 and spoken.stdout.startswith("Le chat") and "temperature=0" in spoken.stderr


def test_generating_in_a_sweep_leaves_nothing(finished_run, command):
    cwd, _, _ = finished_run
    before = sorted(cwd.rglob("*"))
    done = command(
        "generate.py", "-m", "decoding=greedy,nucleus", "max_new_tokens=3", "prompt=Le chat", cwd=cwd
    )
    starts = [line.startswith("Le chat") for line in done.stdout.splitlines()]
    assert done.returncode == 0 and starts == [True, True] and sorted(cwd.rglob("*")) == before


def test_the_help_of_generate_fits_on_a_screen(command, tmp_path):
    from gpt_lightning.cli.composition import CONF

    done = command("generate.py", "--help", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) <= 24 and max(map(len, lines)) <= 100
    assert all(path.stem in done.stdout for path in (CONF / "decoding").glob("*.yaml"))


def test_generating_before_training_says_so(command, tmp_path):
    done = command("generate.py", "decoding=nucleus", cwd=tmp_path)
    assert done.returncode == 1 and "python train.py" in done.stderr and len(sentences(done.stderr)) == 1
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "typed, words",
    [
        (("model.n_head=2",), ("model.n_head", "model.n_heads")),
        (("model=gpt123m",), ("model=gpt124m",)),
        (("trainer.max_step=3", "optim.lr=1"), ("trainer.max_steps",)),
        (("+nouvelle=1",), ("nouvelle",)),
        (("model.n_heads=3",), ("model.n_heads=3", "model.n_heads=2")),
        (("trainer.precision=bf17",), ("bf16-mixed",)),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_one_sentence(command, tmp_path, typed, words):
    done = command("train.py", *typed, cwd=tmp_path, timeout=60)
    assert done.returncode == 1 and len(sentences(done.stderr)) == 1, done.stderr
    assert all(word in done.stderr for word in words)
    assert not list(tmp_path.glob("outputs/**/*.ckpt"))


def test_help_is_ours(command, tmp_path):
    done = command("train.py", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Commandes courantes" in done.stdout and "gpt124m" in done.stdout


SWEEPER = '''
import random
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

class Random(BasicSweeper):
    """Tire une graine au hasard à chaque appel : deux processus qui rejoueraient le balayage en auraient deux."""

    def __init__(self, max_batch_size=None, params=None):
        super().__init__(max_batch_size=max_batch_size, params=params)

    def sweep(self, arguments):
        drawn = ",".join(str(random.SystemRandom().randrange(10**6)) for _ in range(2))
        return super().sweep([*arguments, f"seed={drawn}"])
'''
WITNESS = """
import atexit, json, os, sys
def note():
    if "PL_GLOBAL_SEED" in os.environ and os.environ.get("WITNESS"):
        place = os.path.join(os.environ["WITNESS"], f"{os.getpid()}.json")
        with open(place, "w") as file:
            json.dump({"child": "--child" in sys.argv, "argv": sys.argv, "seed": os.environ["PL_GLOBAL_SEED"]}, file)
atexit.register(note)
"""


@pytest.mark.slow  # quatre processus, une demi-minute ; test_parallel.py garde un essai rapide de deux processus
def test_a_sweep_over_two_processes_is_one_folder_and_both_ranks_agree(command, tmp_path, text_file):
    """Deux tâches de deux processus, avec des graines tirées au hasard par le balayeur."""
    plugins, witness, cwd = tmp_path / "plugins", tmp_path / "temoins", tmp_path / "travail"
    (plugins / "hydra_plugins" / "hasard").mkdir(parents=True)
    witness.mkdir(), cwd.mkdir()
    (plugins / "hydra_plugins" / "hasard" / "__init__.py").write_text(SWEEPER)
    (plugins / "sitecustomize.py").write_text(WITNESS)
    conf = plugins / "conf" / "hydra" / "sweeper"
    conf.mkdir(parents=True)
    (conf / "hasard.yaml").write_text(
        "_target_: hydra_plugins.hasard.Random\nmax_batch_size: null\nparams: null\n"
    )
    done = command(
        "train.py",
        "-m",
        "--config-dir",
        str(plugins / "conf"),
        "hydra/sweeper=hasard",
        "model=tiny",
        "data=text",
        f"data.path={text_file}",
        "trainer.devices=2",
        "trainer.max_steps=2",
        *SMALL,
        cwd=cwd,
        PYTHONPATH=f"{plugins}",
        WITNESS=str(witness),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 processus sur CPU (gloo)") == 2
    (sweep,) = {path.parent for path in cwd.glob("outputs/*/*/multirun.yaml")}
    assert sorted(p.name for p in sweep.iterdir()) == ["0", "1", "multirun.yaml", "report.html"]
    assert [len(list((sweep / job).glob("*.log"))) for job in ("0", "1")] == [1, 1]
    seeds = [
        yaml.safe_load((sweep / job / "config.yaml").read_text(encoding="utf-8"))["seed"]
        for job in ("0", "1")
    ]
    notes = [json.loads(path.read_text()) for path in witness.iterdir()]
    children = [note for note in notes if note["child"]]
    assert sorted(int(note["seed"]) for note in children) == sorted(seeds) and seeds[0] != seeds[1]


@pytest.mark.slow  # tests/resilience reprend dans les essais rapides, et compare bien plus
def test_resuming_continues_in_the_same_folder(command, tmp_path, text_file):
    common = (
        "model=tiny",
        "data=text",
        f"data.path={text_file}",
        "tokenizer=words_v2",
        *SMALL,
        "eval_every=4",
    )
    first = command("train.py", *common, "trainer.max_steps=4", "optim.schedule=constant", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = command("train.py", "ckpt_path=last", "trainer.max_steps=8", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    (folder,) = {path.parent for path in tmp_path.glob("outputs/**/metrics.csv")}
    rows = read_metrics(folder / "metrics.csv")
    assert {step for step, row in rows.items() if "val/loss" in row} == {4, 8}
    whole = command(
        "train.py",
        *common,
        "trainer.max_steps=8",
        "optim.schedule=constant",
        "output_dir=entier",
        cwd=tmp_path,
    )
    assert whole.returncode == 0, whole.stderr
    straight = read_metrics(tmp_path / "entier" / "metrics.csv")
    assert rows[8]["val/loss"] == straight[8]["val/loss"] and rows[8]["tokens"] == straight[8]["tokens"]
    over = command("train.py", "ckpt_path=last", "trainer.max_steps=8", cwd=tmp_path)
    assert over.returncode == 0 and "dernier pas (8)" in over.stdout
    again = command("train.py", *common, "output_dir=entier", cwd=tmp_path)
    assert again.returncode == 1 and re.search("contient déjà une exécution", again.stderr)


@pytest.mark.slow
def test_gpt124m_on_two_processes(command, tmp_path):
    done = command(
        "train.py", "model=gpt124m", "trainer.devices=2", "trainer.max_steps=3", cwd=tmp_path, timeout=1500
    )
    assert done.returncode == 0, done.stderr
    assert "124,4 M de paramètres" in done.stdout
    (log,) = tmp_path.glob("outputs/**/*.log")
    assert len(list(tmp_path.glob("outputs/*/*"))) == 1


def test_starting_from_exported_weights(finished_run, command, tmp_path, text_file):
    """export, puis init_from : l'architecture et le tokenizer viennent des poids, et la perte de là où elle était."""
    cwd, folder, _ = finished_run
    done = command(
        "gpt_lightning",
        "export",
        "format=hf",
        f"ckpt_path={folder}",
        f"to={tmp_path}/sortie d'été",
        cwd=cwd,
    )
    assert done.returncode == 0 and "words_v2" in done.stderr, done.stderr
    started = command(
        "train.py",
        f"init_from={tmp_path}/sortie d'été",
        "data=text",
        f"data.path={text_file}",
        "optim.lr=1e-9",
        "trainer.max_steps=1",
        *SMALL,
        cwd=tmp_path,
    )
    assert started.returncode == 0 and "Départ" in started.stdout, started.stderr
    (metrics,) = tmp_path.glob("outputs/**/metrics.csv")
    before = list(read_metrics(folder / "metrics.csv").values())[-1]["val/loss"]
    assert list(read_metrics(metrics).values())[-1]["val/loss"] == pytest.approx(before, abs=1e-3)


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize(
    "typed",
    [
        ("generate.py", "ckpt_path=piege/checkpoints/last.ckpt"),
        ("gpt_lightning", "export", "ckpt_path=piege/checkpoints/last.ckpt", "to=sortie"),
        ("train.py", "init_from=piege/checkpoints/last.ckpt", "model=tiny"),
        ("train.py", "ckpt_path=piege", "model=tiny"),
    ],
    ids=lambda typed: " ".join(typed[:2]),
)
def test_code_in_a_weights_file_is_never_run(command, tmp_path, typed):
    (tmp_path / "piege" / "checkpoints").mkdir(parents=True)
    (tmp_path / "piege" / ".hydra").mkdir()
    (tmp_path / "piege" / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {}}}")
    (tmp_path / "piege" / "config.yaml").write_text("{}")
    torch.save({"gpt_lightning": Bomb(tmp_path / "canari")}, tmp_path / "piege" / "checkpoints" / "last.ckpt")
    done = command(*typed, cwd=tmp_path)
    assert done.returncode == 1 and "last.ckpt n'est pas lisible" in done.stderr, done.stderr
    assert len(sentences(done.stderr)) == 1 and not (tmp_path / "canari").exists()


TRAIN = ("model=tiny", "data=text", "tokenizer=words_v2", *SMALL, "trainer.max_steps=2")


@pytest.mark.slow
def test_a_run_in_a_folder_of_ones_own(command, tmp_path, text_file):
    """Son début de texte est gardé, ses commandes finales marchent une fois collées, son taux est résolu une fois."""
    prompt, folder = "Le chat, l'autre ${x}", tmp_path / "l'été, enfin"
    typed = (
        *TRAIN,
        f"data.path={text_file}",
        "tokenizer=bytes",
        f"prompt={prompt}",
        f"output_dir={folder.name}",
    )
    done = command("train.py", *typed, cwd=tmp_path)
    assert done.returncode == 0 and prompt in done.stdout, done.stderr
    assert "MuonAdamW, taux d'apprentissage 0,0" in done.stdout
    generated, board = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")][-2:]
    script, *arguments = shlex.split(generated)[1:]
    again = command(script, *arguments, "max_new_tokens=2", cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.startswith(prompt), again.stderr
    assert folder.name in again.stderr and (tmp_path / shlex.split(board)[-1]).is_dir()
    settings = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert isinstance(settings["optim"]["lr"], float)
    settings["optim"]["lr"] = 0.0123  # une version qui aurait une autre règle
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    more = command("train.py", f"ckpt_path={folder.name}", "trainer.max_steps=4", cwd=tmp_path)
    assert more.returncode == 0 and "taux d'apprentissage 0,0123" in more.stdout, more.stderr
    assert (folder / "samples" / "step_0000004.txt").read_text("utf-8").startswith(prompt)


def test_evaluating_takes_the_corpus_of_the_run(finished_run, command, text_file):
    cwd, folder, _ = finished_run
    last = list(read_metrics(folder / "metrics.csv").values())[-1]["val/loss"]
    done = command("gpt_lightning", "evaluate", "ckpt_path=last", cwd=cwd)
    assert done.returncode == 0 and text_file.stem in done.stdout, done.stderr
    loss = float(re.search(r"Perte +([\d,]+)", done.stdout)[1].replace(",", "."))
    assert loss == pytest.approx(last, abs=0.05)  # les mêmes fenêtres, plus le reste de la dernière
    other = command("gpt_lightning", "evaluate", "data.max_length=16", "data.stride=8", cwd=cwd)
    assert other.returncode == 0 and text_file.stem in other.stdout
    chosen = command("gpt_lightning", "evaluate", "data=text", "data.path=absent.txt", cwd=cwd)
    assert chosen.returncode == 1 and "absent.txt" in chosen.stderr


def test_a_sweep_ends_with_its_table(command, tmp_path, text_file):
    """Même quand une tâche échoue au milieu ; et les lignes des pertes restent quand la barre est retirée."""
    typed = ("optim.lr=1e-3,-1,1e-1", *TRAIN, f"data.path={text_file}", "trainer.enable_progress_bar=false")
    done = command("train.py", "-m", *typed, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.count("pas 2/2 |") == 2, done.stderr
    assert "optim.lr" in done.stderr and "Traceback" not in done.stderr
    table = done.stdout[done.stdout.index("Balayage fini") :].splitlines()
    assert table[1].split() == ["tâche", "optim.lr", "perte", "de", "validation"]
    assert [line.split()[:2] for line in table[2:5]] == [["0", "0.001"], ["1", "-1"], ["2", "0.1"]]
    assert table[3].split()[2:] == ["échec"]
    assert sum("la meilleure" in line for line in table) == 1
    (sweep,) = tmp_path.glob("outputs/*/*")
    assert {p.parent.name for p in sweep.glob("*/*/events.out*")} == {"lr 0.001", "lr 0.1"}
    assert not (sweep / "1").exists()


def test_a_sweep_whose_every_job_fails_leaves_nothing(command, tmp_path, text_file):
    typed = ("optim.lr=-1,-2", *TRAIN, f"data.path={text_file}")
    done = command("train.py", "-m", *typed, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("optim.lr") == 2 and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_interruption_says_what_is_kept_and_how_to_go_on(cache, tmp_path, text_file):
    typed = [
        *TRAIN[:-1],
        f"data.path={text_file}",
        "trainer.max_steps=100000",
        "eval_every=5",
        "output_dir=a",
    ]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *typed],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)},
        preexec_fn=hearing_signals,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    for line in process.stdout:
        if line.startswith("pas 10/"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(timeout=60) == 130
    assert "Gardé : a/checkpoints/last.ckpt" in rest and "ckpt_path=a" in rest
