"""Un dossier, un seul entraînement vivant : le verrou refuse le second, et tombe avec le processus."""

import signal
import subprocess
import sys

import pytest

from gpt_lightning.cli import lock
from gpt_lightning.errors import UserError
from tests.resilience.runs import Runs, ended, steps_of, until

HOLD = "import sys, pathlib\nfrom gpt_lightning.cli import lock\n" + (
    "with lock.hold(pathlib.Path(sys.argv[1])):\n    print('tenu', flush=True)\n    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path):
    """Un autre processus qui tient le verrou."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "tenu\n"
    yield process
    process.kill()
    process.wait()


def test_a_live_run_is_named_and_refused(holder, tmp_path):
    with pytest.raises(UserError, match=f"en cours.*{holder.pid}"), lock.hold(tmp_path):
        pass


@pytest.mark.parametrize("way", ["kill", "exit"])
def test_the_lock_falls_with_its_process(holder, tmp_path, way):
    holder.kill() if way == "kill" else holder.stdin.close()
    holder.wait()
    with lock.hold(tmp_path):
        assert (tmp_path / lock.NAME).exists()
    assert not (tmp_path / lock.NAME).exists()


def test_twice_in_one_process_is_refused(tmp_path):
    with lock.hold(tmp_path), pytest.raises(UserError, match="en cours"), lock.hold(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "3", '{"pid": 1}', '{"pid": 999999999, "host": "ailleurs"}'])
def test_what_a_dead_machine_left_is_taken_over(tmp_path, content):
    (tmp_path / lock.NAME).write_text(content)
    with lock.hold(tmp_path):
        pass


def test_without_kernel_locks_the_file_says_who(holder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(UserError, match="en cours"), lock.hold(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with lock.hold(tmp_path):
        pass


@pytest.mark.slow
def test_a_live_run_is_neither_shared_nor_resumed_and_auto_starts_then_continues(cache, text_file, tmp_path):
    runs = Runs(tmp_path, cache, text_file, "trainer.max_steps=20000", "save_every=50", "eval_every=50")
    alive = runs.fresh("course", "resume=auto")
    until(alive, "pas 50/")
    assert "contient déjà une exécution" in ended(runs.fresh("course"), 1)
    assert "en cours" in ended(runs.resumed("course"), 1)
    assert "en cours" in ended(runs.fresh("course", "resume=auto"), 1)
    alive.send_signal(signal.SIGTERM)
    ended(alive, 143)
    before = steps_of(tmp_path / "course")
    short = ("resume=auto", f"trainer.max_steps={before + 3}")
    ended(runs.fresh("course", *short))
    assert steps_of(tmp_path / "course") == before + 3
    assert "Rien à faire" in ended(runs.fresh("course", *short))
    for path in (tmp_path / "course" / "checkpoints").iterdir():
        path.unlink()  # comme une exécution tuée avant son premier checkpoint
    assert "contient déjà une exécution" in ended(runs.fresh("course", "trainer.max_steps=3"), 1)
    ended(runs.fresh("course", "resume=auto", "trainer.max_steps=3"))
    assert steps_of(tmp_path / "course") == 3
