"""Une exécution tuée ou arrêtée, puis reprise, finit sur les mêmes bits que celle que rien n'a arrêtée."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt_lightning.cli.processes import _free_port
from tests.resilience.runs import Runs, curves, ended, measures, released, same_run, steps_of, until

STEPS = "trainer.max_steps=20"
INTERVAL = 5  # pas entre deux checkpoints, au plus (eval_every)
MATRIX = {  # dropout, lecteurs, processus, accumulation, optimiseur et horaire
    "simple": (),
    "dropout": ("model.drop_rate=0.2",),
    "lecteurs": ("model.drop_rate=0.2", "data.num_workers=2"),
    "accumulation": ("model.drop_rate=0.2", "trainer.accumulate_grad_batches=4", "data.batch_size=2"),
    "deux processus": ("model.drop_rate=0.2", "trainer.devices=2", "data.batch_size=2"),
    "deux, accumulation": (
        "model.drop_rate=0.2",
        "trainer.devices=2",
        "data.batch_size=2",
        "trainer.accumulate_grad_batches=4",
        "data.num_workers=2",
    ),
    "adamw wsd": ("optim=adamw", "optim.lr=1e-3", "optim.schedule=wsd"),
    "sgd constant": (
        "optim=target",
        "optim._target_=torch.optim.SGD",
        "optim.lr=0.1",
        "optim.schedule=constant",
    ),
    "cosinus": ("optim.schedule=cosine", "callbacks=early_stopping", "callbacks.early_stopping.patience=50"),
}


@pytest.fixture
def short(text_file, tmp_path):
    """Un texte dont une époque fait moins de vingt pas : les reprises la traversent."""
    path = tmp_path / "court.txt"
    path.write_text(text_file.read_text(encoding="utf-8")[:1500], encoding="utf-8")
    return path


def killed(runs: Runs, rng: random.Random, wanted: int) -> int:
    """Lance « tué », le tue `wanted` fois n'importe quand, le reprend jusqu'au bout ; rend le nombre de morts."""
    run, kills = runs.cwd / "tué", 0
    process = runs.fresh("tué")
    for _ in range(wanted):
        said = until(process, "| entraînement")  # une évaluation de plus : il avance
        time.sleep(rng.random() * 0.2)
        process.kill()
        said += process.stdout.read()
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        seen = max([int(step) for step in re.findall(r"pas (\d+)/", said)], default=0)
        assert steps_of(run) >= seen - INTERVAL  # rien de plus n'est perdu
        begun = (run / "checkpoints" / "last.ckpt").exists()
        process = runs.resumed("tué") if begun else runs.fresh("tué", "resume=auto")
    ended(process)
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("case", MATRIX)
def test_killed_at_random_moments_it_ends_on_the_same_bits(case, cache, short, tmp_path):
    steps = 150 if "trainer.devices=2" in MATRIX[case] else 400
    runs = Runs(tmp_path, cache, short, f"trainer.max_steps={steps}", *MATRIX[case])
    expected = runs.whole("entier")
    kills = killed(runs, random.Random(case), 12)
    print(f"{case} : {kills} morts")
    assert kills >= 6  # les autres fois, il avait fini
    same_run(tmp_path / "tué", expected)


@pytest.mark.slow  # trois quarts de minute ; test_stops.py s'arrête et reprend au même bit, plus vite
def test_killed_twice_it_ends_on_the_same_bits(cache, short, tmp_path):
    runs = Runs(tmp_path, cache, short, "trainer.max_steps=60", *MATRIX["accumulation"])
    expected = runs.whole("entier")
    assert killed(runs, random.Random(0), 2)
    same_run(tmp_path / "tué", expected)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_stopped_by_a_signal_it_ends_on_the_same_bits(devices, cache, short, tmp_path):
    runs = Runs(tmp_path, cache, short, STEPS, "model.drop_rate=0.2", f"trainer.devices={devices}")
    expected = runs.whole("entier")
    process, gate = runs.held("arrete", 6)
    until(process, "pas 5/")
    process.send_signal(signal.SIGTERM)
    with released(gate):
        said = ended(process, 143)
    assert "SIGTERM" in said and "ckpt_path=arrete" in said and 5 <= steps_of(tmp_path / "arrete") < 20
    ended(runs.resumed("arrete"))
    same_run(tmp_path / "arrete", expected)


@pytest.mark.slow
@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_the_number_of_processes_may_change_with_a_global_batch(before, after, cache, text_file, tmp_path):
    same = (
        "trainer.precision=32-true",
        "data.batch_size=2",
        "global_batch_tokens=128",
        "trainer.log_every_n_steps=1",
    )
    runs = Runs(tmp_path, cache, text_file, STEPS, *same)
    expected = measures(runs.whole("entier", f"trainer.devices={before}"))
    process, gate = runs.held("course", 6, f"trainer.devices={before}")
    until(process, "pas 5/")
    process.send_signal(signal.SIGTERM)
    with released(gate):
        ended(process, 143)
    ended(runs.resumed("course", f"trainer.devices={after}"))
    found = measures(tmp_path / "course")
    assert found.keys() == expected.keys() == set(range(1, 21))
    for step, row in expected.items():
        assert found[step]["train/loss"] == pytest.approx(row["train/loss"], rel=1e-6)


@pytest.mark.slow
def test_without_a_global_batch_another_number_of_processes_is_refused(cache, text_file, tmp_path):
    runs = Runs(tmp_path, cache, text_file, "trainer.max_steps=6", "data.batch_size=2")
    runs.whole("course")
    said = ended(runs.resumed("course", "trainer.devices=2", "trainer.max_steps=9"), 1)
    assert "global_batch_tokens=32" in said and len(said.strip().splitlines()[-1]) > 40


@pytest.mark.slow
def test_a_resume_needs_nothing_but_the_run(cache, text_file, tmp_path):
    """La source de init_from a disparu, le dossier a été déplacé : best.ckpt y est encore le meilleur."""
    runs = Runs(tmp_path, cache, text_file, STEPS)
    source = runs.whole("source")
    runs.typed = [
        one for one in runs.typed if not one.startswith(("model=", "tokenizer="))
    ]  # ceux de la source
    expected = runs.whole("entier", f"init_from={source}", "seed=7")
    process, _ = runs.held("course", 6, f"init_from={source}", "seed=7")
    until(process, "pas 5/")
    process.kill()
    process.wait()
    shutil.rmtree(source)
    (tmp_path / "autre part").mkdir()
    (tmp_path / "course").rename(tmp_path / "autre part" / "copie")
    ended(runs.resumed("autre part/copie"))
    same_run(tmp_path / "autre part" / "copie", expected)
    best = (tmp_path / "autre part" / "copie" / "checkpoints" / "best.ckpt").read_bytes()
    ended(runs.resumed("autre part/copie", "trainer.max_steps=25", "optim.lr=5"))  # bien pire
    assert (tmp_path / "autre part" / "copie" / "checkpoints" / "best.ckpt").read_bytes() == best
    assert not (tmp_path / "course").exists()


@pytest.mark.slow
def test_torchrun_restarts_a_killed_rank_and_the_run_ends_on_the_same_bits(cache, short, tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=3")
    launcher = (*torchrun, f"--master_port={_free_port()}")
    runs = Runs(tmp_path, cache, short, "trainer.max_steps=40", "data.batch_size=2", launcher=launcher)
    ended_well(runs.fresh("entier"))
    process = runs.fresh("course", "resume=auto")
    until(process, "pas 5/")
    os.kill(rank_of(process.pid, 1), signal.SIGKILL)
    ended_well(process)
    same_run(tmp_path / "course", tmp_path / "entier")


def ended_well(process) -> None:
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said


def rank_of(agent: int, rank: int) -> int:
    """Le processus de ce rang, parmi les enfants de torchrun."""
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(agent)], capture_output=True, text=True)
    for pid in done.stdout.split():
        if f"LOCAL_RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return int(pid)
    raise AssertionError(done.stdout)


@pytest.mark.slow
def test_three_thousand_steps_and_sixty_saves_leak_nothing(cache, text_file, tmp_path):
    runs = Runs(
        tmp_path,
        cache,
        text_file,
        "trainer.max_steps=3000",
        "save_every=50",
        "eval_every=500",
    )
    process, seen = runs.fresh("course", "trainer.log_every_n_steps=50"), []
    while process.poll() is None:
        said = until(process, "pas ")
        if not said:
            break
        if "pas " in said:
            with contextlib.suppress(OSError):
                seen.append(resources(process.pid, tmp_path / "course"))
    assert process.wait() == 0
    first, last = seen[1], seen[-1]
    assert last["threads"] <= first["threads"] and last["files"] <= first["files"] + 1
    assert last["memory"] <= first["memory"] * 1.02 and last["checkpoints"] == first["checkpoints"] == 4


def resources(pid: int, run: Path) -> dict[str, int]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "checkpoints": len([path for path in (run / "checkpoints").iterdir() if path.name[0] != "."]),
    }


@pytest.mark.parametrize("first, then", [(8, 9), (9, 10), (99, 100)])
def test_the_curves_of_a_run_resumed_within_a_second_are_in_order(first, then, tmp_path):
    """Deux fichiers d'un processus et d'une seconde : leurs noms ne diffèrent que par un compteur."""
    from torch.utils.tensorboard import SummaryWriter

    for purge, steps in ((None, (1, 2, 3)), (3, (3, 4))):
        with SummaryWriter(tmp_path, purge_step=purge) as writer:
            for step in steps:
                writer.add_scalar("perte", step if purge else -step, step)
        (written,) = set(tmp_path.glob("events.out.tfevents.*")) - {tmp_path / named(first)}
        written.rename(tmp_path / named(then if purge else first))
    assert curves(tmp_path) == {"perte": [(1, -1.0), (2, -2.0), (3, 3.0), (4, 4.0)]}


def named(count: int) -> str:
    return f"events.out.tfevents.1.vm.2.{count}"
