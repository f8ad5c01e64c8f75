"""Une commande née d'un processus qui a tout importé finit comme un vrai processus : codes, flux, environnement."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.forks import FORKS, READ_AT_START
from tests.serving.live import until

PROGRAMS = {
    "rien": "",
    "un code": "import sys; sys.exit(3)",
    "un grand code": "import sys; sys.exit(259)",
    "None": "import sys; sys.exit(None)",
    "une phrase": "import sys; print('dit'); sys.exit('adieu, été')",
    "_exit": "import os; print('perdu'); os._exit(4)",
    "un signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "Ctrl-C": "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "import sys; sys.excepthook = lambda *_: None; raise KeyboardInterrupt",
    "atexit": "import atexit, sys; atexit.register(print, 'à la fin'); print('avant'); sys.exit(2)",
    "un fil": "import threading, time\nthreading.Thread(target=lambda: print('du fil')).start()",
    "entrée": "import sys; print(sys.stdin.read().upper(), sys.stdin.isatty(), sys.stdout.isatty())",
    "arguments": "import os, sys; print(sys.argv, sys.orig_argv, sys.path[0], os.getcwd(), __name__, __spec__)",
    "fichier": "print(__file__); import sys; print(sys.modules['__main__'].__file__)",
    "environnement": "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k != 'LC_CTYPE'}))",
    "enfant": "import subprocess; print(subprocess.run(['sh', '-c', 'echo $NOUVELLE'], capture_output=True))",
    "largeur": "import rich; print(rich.get_console().width)",
    "tirages": "import torch; torch.manual_seed(3); print(torch.rand(9), torch.get_num_threads())",
    "journal": "import logging; logging.warning('attention'); print(logging.getLogger('x').handlers)",
    "processus": """
import multiprocessing

def double(one):
    return 2 * one

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]), multiprocessing.current_process().name)
""",
}


@pytest.fixture
def both(forks, cache, tmp_path):
    """Lance un programme des deux façons : (enfant, vrai processus)."""

    def run(program: str, *arguments: str, stdin=None, merged=False, **more: str):
        path = tmp_path / "programme d'été.py"
        path.write_text(program, encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "XDG_CACHE_HOME": str(cache), **more}
        options = {"cwd": tmp_path, "env": env, "timeout": 60, "stdin": stdin, "merged": merged}
        return [forks.run(str(path), *arguments, **options, fork=fork) for fork in (True, False)]

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_child_ends_as_a_process_does(name, both):
    child, process = both(PROGRAMS[name], "a b", "é", stdin="un été\n", NOUVELLE="oui", COLUMNS="77")
    assert child.args == process.args and child.returncode == process.returncode
    assert (child.stdout, child.stderr) == (process.stdout, process.stderr)


def test_an_exception_is_told_and_ends_on_one(both):
    for done in both("print('avant')\nraise ValueError('aïe')"):
        assert (done.returncode, done.stdout) == (1, "avant\n")
        assert done.stderr.startswith("Traceback") and done.stderr.endswith("\nValueError: aïe\n")


def test_both_outputs_may_be_one(both):
    child, process = both(
        "import os; os.write(1, b'un '); os.write(2, b'deux '); os.write(1, b'un')", merged=True
    )
    assert child.stdout == process.stdout == "un deux un" and child.stderr is process.stderr is None


def test_a_module_is_run_as_with_m(forks, cache, tmp_path):
    (tmp_path / "paquet").mkdir()
    (tmp_path / "paquet" / "__init__.py").touch()
    (tmp_path / "paquet" / "__main__.py").write_text(
        "import sys; print(sys.argv, sys.path[0], __spec__.name, __name__)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    child, process = (
        forks.run("-m", "paquet", "x", cwd=tmp_path, env=env, timeout=60, fork=fork) for fork in (True, False)
    )
    assert child.returncode == 0 and child.stdout == process.stdout, child.stderr


@pytest.mark.slow
def test_each_child_draws_its_own_numbers(both):
    draw = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.initial_seed())"
    values = [one for done in (*both(draw), *both(draw)) for one in done.stdout.split()]
    assert len(set(values)) == len(values) == 12


def test_nothing_passes_from_a_child_to_the_next(both):
    first, _ = both(
        "import os, sys, torch; torch.manual_seed(5); os.environ['A'] = '1'; sys.modules['a'] = sys"
    )
    second, _ = both(
        "import os, sys, torch; print(torch.initial_seed() == 5, 'A' in os.environ, 'a' in sys.modules)"
    )
    assert first.returncode == 0 and second.stdout == "False False False\n"


@pytest.mark.skipif(sys.platform == "win32", reason="groupes de processus")
def test_a_command_that_takes_too_long_is_killed_with_its_children(forks, cache, tmp_path):
    program = "import os, subprocess; print('dit', flush=True); subprocess.run(['cat', '{}'])"
    fifo, path = tmp_path / "tube", tmp_path / "long.py"
    os.mkfifo(fifo)
    path.write_text(program.format(fifo))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not (FORKS and forks.could_be_a_child(env)):
        pytest.skip("un vrai processus")
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run(str(path), cwd=tmp_path, env=env, timeout=0.5)
    until(lambda: not is_read(fifo))
    path.write_text("print('ensuite')")
    assert forks.run(str(path), cwd=tmp_path, env=env, timeout=60).stdout == "ensuite\n"


def is_read(fifo):
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not FORKS, reason="chaque commande est un vrai processus")
@pytest.mark.parametrize(
    "name, value", [("PYTHONUTF8", "1"), ("LC_ALL", "C"), ("RANK", "1"), ("HF_HOME", "x")]
)
def test_what_is_read_at_start_takes_a_process(name, value, forks):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert forks.could_be_a_child(env) and not forks.could_be_a_child({**env, name: value})
    assert forks.could_be_a_child({**env, "OMP_NUM_THREADS": "1", "COLUMNS": "9", "XDG_CACHE_HOME": "x"})
    assert name.startswith(READ_AT_START)


@pytest.mark.skipif(not (FORKS and sys.platform.startswith("linux")), reason="lit /proc")
def test_the_parent_of_all_is_alone_in_its_process(both):
    """Un seul fil : rien n'a calculé sur des tenseurs, et se diviser est sûr."""
    child, _ = both(
        "import os; print(open(f'/proc/{os.getppid()}/status').read().split('Threads:')[1].split()[0])"
    )
    assert child.stdout == "1\n"


def test_signals_are_heard(both):
    heard = "import signal; print([signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)])"
    child, _ = both(heard)
    assert child.stdout.count("SIG_DFL") == 2 and signal.default_int_handler.__name__ in child.stdout
