"""Un signal finit le pas, sauve, et rend le bon code ; personne ne survit, rien ne se bloque."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import hearing_signals
from tests.resilience.runs import Runs, ended, steps_of, until

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 138, signal.SIGHUP: 129}
LONG = (
    "trainer.max_steps=1000000",
    "eval_every=20",
    "data.eval_batches=5",
    "callbacks.sample.max_new_tokens=20",
)
NOTE = """
import os, signal, sys
from gpt_lightning.cli import signals
ignored = getattr(signal, sys.argv[1]) if sys.argv[1] else None
if ignored:
    signal.signal(ignored, signal.SIG_IGN)
signals.listen()
for name in filter(vars(signal).get, signals.NAMES):
    signum = getattr(signal, name)
    try:
        os.kill(os.getpid(), signum)
        print(name, "ignoré" if signum == ignored else "perdu")
    except signals.Interrupted as found:
        print(name, found.signum)
with signals.note_signals():
    os.kill(os.getpid(), signal.SIGTERM)
    print("noté", signals.last_signal())
    os.kill(os.getpid(), signal.SIGINT)
    print("le premier reste", signals.last_signal())
with signals.note_signals():
    os.kill(os.getpid(), signal.SIGINT)
    print("puis", signals.last_signal(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("jamais")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="les numéros sont ceux de Linux")
@pytest.mark.parametrize("ignored", ["", "SIGHUP"])
def test_signals_are_raised_then_noted_and_a_second_ctrl_c_leaves(ignored):
    done = subprocess.run(
        [sys.executable, "-c", NOTE, ignored],
        preexec_fn=hearing_signals,
        capture_output=True,
        encoding="utf-8",
    )
    hup = "ignoré" if ignored else "1"
    assert done.stdout.splitlines() == [
        "SIGINT 2",
        "SIGTERM 15",
        f"SIGHUP {hup}",
        "SIGUSR1 10",
        "noté 15",
        "le premier reste 15",
        "puis 2",
    ]
    assert done.returncode == 130 and "Traceback" not in done.stderr


def living(where) -> list[str]:
    """Les processus d'entraînement encore vivants de ce dossier."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == str(where):
                found.append(pid)
        except OSError:
            continue
    return found


def stop_and_check(
    runs: Runs, signum: int, rng: random.Random, name: str, victim=lambda first: first
) -> None:
    process = runs.fresh(name, *LONG)
    said = until(process, "pas 20/")
    time.sleep(rng.random())
    began = time.monotonic()
    os.kill(victim(process.pid), signum)
    said += ended(process, CODES[signum], timeout=60)
    assert time.monotonic() - began < 20, said
    (step,) = re.findall(r"Interrompu par .* au pas ([\d\u202f]+)\.", said)
    assert int(re.sub(r"\D", "", step)) == steps_of(runs.cwd / name), said
    deadline = time.monotonic() + 10
    while living(runs.cwd) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not living(runs.cwd), said


def child_of(pid: int) -> int:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return int(done.stdout.split()[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="lit /proc")
@pytest.mark.parametrize("signum", CODES, ids=lambda one: one.name)
@pytest.mark.parametrize("case", ["un", "deux, le premier", "deux, le second"])
def test_any_moment_any_process(case, signum, cache, text_file, tmp_path):
    rng = random.Random(f"{case}{signum}")
    devices = 1 if case == "un" else 2
    runs = Runs(tmp_path, cache, text_file, f"trainer.devices={devices}", "data.batch_size=2")
    for attempt in range(5 if devices == 1 else 2):
        if case == "deux, le second":
            stop_and_check(runs, signum, rng, f"course{attempt}", child_of)
        else:
            stop_and_check(runs, signum, rng, f"course{attempt}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="lit /proc")
def test_a_signal_while_the_corpus_is_prepared_leaves_nothing(cache, text_file, tmp_path):
    runs = Runs(tmp_path, cache, text_file, *LONG, f"data.cache_dir={tmp_path}/cache")
    process = runs.fresh("course")
    until(process, "Dossier")
    process.send_signal(signal.SIGTERM)
    ended(process, 143)
    assert not (tmp_path / "course").exists()


@pytest.mark.slow
def test_nohup_is_respected(cache, text_file, tmp_path):
    runs = Runs(tmp_path, cache, text_file, *LONG, launcher=("nohup", sys.executable))
    process = runs.fresh("course")
    until(process, "pas 20/")
    process.send_signal(signal.SIGHUP)
    assert until(process, "pas 60/").count("pas ") >= 1 and process.poll() is None
    process.send_signal(signal.SIGTERM)
    ended(process, 143)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("SIGTERM", marks=pytest.mark.slow), "SIGINT"])
def test_a_signal_to_the_whole_group_spares_the_readers(name, cache, text_file, tmp_path):
    """Ctrl-C et un gestionnaire de tâches parlent à tout le groupe : les processus de lecture n'en meurent pas."""
    runs = Runs(tmp_path, cache, text_file, "data.num_workers=2", "trainer.max_steps=100000")
    process = runs.fresh("course", start_new_session=True)
    until(process, "pas 5/")
    signum = getattr(signal, name)
    os.killpg(process.pid, signum)
    ended(process, 128 + signum)
    assert steps_of(tmp_path / "course") > 0
