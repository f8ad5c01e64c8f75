"""Plusieurs processus : les mêmes pertes qu'un seul, quel que soit le lanceur, et personne ne survit à un mort."""

import os
import signal
import subprocess
import sys
import time

import pytest

from gpt_lightning.cli.processes import _free_port
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from tests.conftest import ROOT

COMMON = (
    "trainer.precision=32-true",
    "model=tiny",
    "data=text",
    "tokenizer=words_v2",
    "data.max_length=16",
    "data.stride=16",
    "trainer.precision=32-true",
    "trainer.max_steps=50",
    "trainer.log_every_n_steps=1",
    "eval_every=25",
    "optim.lr=1e-3",
    "callbacks.sample=null",
    "output_dir=execution",
)
# Python l'exécute au démarrage de chaque processus : il note ceux qui ouvrent le corpus
WATCH = """
import os, sys
def watch(event, arguments):
    if event == "open" and str(arguments[0]) == os.environ["WATCHED"] and not watch.seen:
        watch.seen = True
        with open(os.environ["READERS"], "a") as file:
            file.write(f"{os.getpid()}\\n")
watch.seen = False
sys.addaudithook(watch)
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def watching(text_file, folder) -> dict[str, str]:
    """De quoi noter dans `folder` les processus qui ouvrent `text_file`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH)
    path = f"{folder}{os.pathsep}{ROOT}"
    return {"PYTHONPATH": path, "WATCHED": str(text_file), "READERS": str(folder / "lecteurs")}


def readers(folder) -> int:
    return len((folder / "lecteurs").read_text().splitlines())


def environment(cache, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def together(commands: list[list[str]], cwd, environments: list[dict]) -> list[str]:
    """Lance toutes les commandes à la fois ; rend leurs sorties."""
    running = [
        subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        for command, env in zip(commands, environments, strict=True)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), outputs
    return outputs


@pytest.fixture(scope="module")
def alone(command, text_file, cache, tmp_path_factory) -> dict[int, float]:
    """Les pertes d'un seul processus, lots de 8."""
    cwd = tmp_path_factory.mktemp("seul")
    done = command("train.py", *COMMON, f"data.path={text_file}", "data.batch_size=8", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return losses(cwd)


def losses(cwd) -> dict[int, dict[str, float]]:
    rows = read_metrics(cwd / "execution" / "metrics.csv")
    return {step: {k: v for k, v in row.items() if k.endswith("/loss")} for step, row in rows.items()}


def same(found: dict, expected: dict) -> bool:
    assert len(found) == len(expected) == 50
    return all(found[step] == pytest.approx(expected[step], rel=1e-6) for step in expected)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_and_one_reads_the_corpus(alone, command, text_file, tmp_path):
    typed = (*COMMON, f"data.path={text_file}", "data.batch_size=4", "trainer.devices=2")
    done = command("train.py", *typed, cwd=tmp_path, **watching(text_file, tmp_path / "guet"))
    assert done.returncode == 0, done.stderr
    assert same(losses(tmp_path), alone) and readers(tmp_path / "guet") == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher, machines", [("torchrun", 1), ("deux machines", 2), ("srun", 2)])
def test_every_launcher_gives_the_losses_of_one(launcher, machines, alone, cache, text_file, tmp_path):
    typed = [str(ROOT / "train.py"), *COMMON, f"data.path={text_file}", "data.batch_size=4"]
    watch = watching(text_file, tmp_path / "guet")
    port, env = str(_free_port()), environment(cache, **watch)
    if launcher == "torchrun":
        outputs = together(
            [[*TORCHRUN, "--nproc_per_node=2", "--master_port", port, *typed]], tmp_path, [env]
        )
    elif launcher == "deux machines":
        address = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", "--master_port", port]
        commands = [[*TORCHRUN, *address, f"--node_rank={rank}", *typed] for rank in (0, 1)]
        outputs = together(commands, tmp_path, [env] * 2)
    else:
        slurm = {
            "SLURM_JOB_ID": "4242",
            "SLURM_JOB_NAME": "essai",
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_NNODES": "2",
            "SLURM_LOCALID": "0",
            "SLURM_NODELIST": "127.0.0.1",
        }
        places = [{"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)} for rank in (0, 1)]
        outputs = together(
            [[sys.executable, *typed]] * 2,
            tmp_path,
            [environment(cache, **watch, **slurm, **p) for p in places],
        )
    assert same(losses(tmp_path), alone)
    assert sum(output.count("Corpus     :") for output in outputs) == 1  # un seul processus parle
    assert sorted(path.name for path in tmp_path.iterdir()) == ["execution", "guet"]
    assert readers(tmp_path / "guet") == machines  # un par machine


@pytest.mark.slow
def test_a_sweep_under_torchrun(cache, text_file, tmp_path):
    typed = [
        str(ROOT / "train.py"),
        "-m",
        "seed=1,2",
        *COMMON,
        f"data.path={text_file}",
        "trainer.max_steps=4",
    ]
    together(
        [[*TORCHRUN, "--nproc_per_node=2", "--master_port", str(_free_port()), *typed]],
        tmp_path,
        [environment(cache)],
    )
    jobs = sorted(path.name for path in (tmp_path / "execution").iterdir() if path.is_dir())
    assert jobs == ["0", "1"] and all((tmp_path / "execution" / job / "metrics.csv").exists() for job in jobs)


@pytest.mark.slow
def test_a_failing_job_of_a_sweep_under_torchrun_ends_neither_the_others_nor_in_a_hang(
    cache, text_file, tmp_path
):
    typed = [*COMMON, f"data.path={text_file}", "optim.lr=-1,1e-3,1", "trainer.max_steps=4"]
    typed = [one for one in typed if one != "optim.lr=1e-3"]
    done = subprocess.run(
        [
            *TORCHRUN,
            "--nproc_per_node=2",
            "--master_port",
            str(_free_port()),
            str(ROOT / "train.py"),
            "-m",
            *typed,
        ],
        cwd=tmp_path,
        env=environment(cache),
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )
    assert done.returncode == 1 and "échec" in done.stdout and "optim.lr=-1" in done.stdout + done.stderr
    ended = sorted(path.parent.name for path in (tmp_path / "execution").glob("*/metrics.csv"))
    assert ended == ["1", "2"]


def children(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="lit /proc")
@pytest.mark.parametrize("victim", ["premier", "second"])
def test_a_dead_process_takes_the_others_down(victim, cache, text_file, tmp_path):
    typed = [*COMMON, f"data.path={text_file}", "trainer.devices=2", "trainer.max_steps=100000"]
    log = open(tmp_path / "sortie.txt", "w")  # noqa: SIM115
    first = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *typed],
        cwd=tmp_path,
        env=environment(cache),
        stdout=log,
        stderr=log,
    )
    deadline = time.monotonic() + 120
    while "pas 25/" not in (tmp_path / "sortie.txt").read_text("utf-8") and time.monotonic() < deadline:
        time.sleep(0.5)
    second = next(pid for pid in children(first.pid))
    os.kill(first.pid if victim == "premier" else second, signal.SIGKILL)
    assert first.wait(timeout=30) != 0
    end = time.monotonic() + 30
    while alive(second) and time.monotonic() < end:
        time.sleep(0.2)
    assert not alive(second)
