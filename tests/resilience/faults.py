"""Des pannes à une opération choisie sur les fichiers : la mort, ou un refus du système.

`python -m tests.resilience.faults <cas> <fichier>` lance la commande d'un cas (un JSON), dont les opérations d'écriture
sous `watched` se comptent. À la `at`-ième, elle meurt (`errno` 0) ou reçoit cette erreur ; avec `for_good`, les
suivantes aussi. Le fichier dit combien il y en eut.
"""

import builtins
import importlib
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from tests.forks import Forks

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CALLS = {"replace": 1, "rename": 1, "link": 1, "unlink": 0, "remove": 0, "mkdir": 0, "rmdir": 0, "fsync": 0}


class Faults:
    """Compte les opérations sur ce qui est sous `watched`, et fait échouer celle que l'on veut."""

    def __init__(self, watched: str, at: int, errno: int, for_good: bool) -> None:
        self.watched, self.at, self.errno, self.for_good = os.path.realpath(watched), at, errno, for_good
        self.count = 0

    def reached(self, path, half=lambda: None) -> None:
        if not self.watches(path):
            return
        self.count += 1
        if self.count == self.at or (self.for_good and self.count > self.at > 0):
            half()
            if not self.errno:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self.errno, os.strerror(self.errno), str(path))

    def watches(self, path) -> bool:
        try:
            path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        except OSError:
            return False
        return os.path.realpath(path).startswith(self.watched)

    def install(self) -> None:
        for name, which in CALLS.items():
            setattr(os, name, self._counted(getattr(os, name), which))
        opened, low = builtins.open, os.open

        def open_low(path, flags, *rest, **options):
            if flags & WRITES:
                self.reached(path)
            return low(path, flags, *rest, **options)

        def open_file(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **rest):
            if isinstance(file, int) or not set(mode) & set("wax+") or not self.watches(file):
                return opened(file, mode, buffering, encoding, errors, newline, **rest)
            self.reached(file)
            raw = Counted(file, mode.replace("b", "").replace("t", ""))
            raw.faults = self
            binary = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)

        os.open = open_low
        builtins.open = io.open = open_file

    def _counted(self, original, which):
        def counted(*arguments, **options):
            self.reached(arguments[which])
            return original(*arguments, **options)

        return counted


class Counted(io.FileIO):
    """Un fichier dont chaque écriture compte ; celle qui échoue n'en écrit que la moitié."""

    def write(self, data):
        whole = super().write
        self.faults.reached(self.name, lambda: whole(bytes(data)[: len(data) // 2]))
        return whole(data)

    def truncate(self, size=None):
        self.faults.reached(self.name)
        return super().truncate(size)


class Zygote:
    """Lance les cas, l'un après l'autre ; chacun est un enfant d'un processus qui a tout importé (tests/forks.py)."""

    def __init__(self, forks: Forks, cache: Path) -> None:
        self._forks = forks
        self._env = {
            **os.environ,
            "PYTHONPATH": str(forks.root),
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(cache),
            "COLUMNS": "200",
        }

    def __call__(self, script: str, *argv: str, cwd: Path, at: int = -1, errno: int = 0, **options) -> dict:
        """Comment finit ce cas : son code, ce qu'il a dit, et les opérations comptées s'il n'est pas mort."""
        case = {"script": script, "argv": argv, "watched": str(cwd), "at": at, "errno": errno, **options}
        count = cwd.parent / f"{cwd.name}.compte"
        count.unlink(missing_ok=True)
        if copied := case.pop("copy", None):
            shutil.copytree(copied, cwd)
        cwd.mkdir(parents=True, exist_ok=True)
        env = self._env | case.pop("env", {})
        typed = ("-m", "tests.resilience.faults", json.dumps(case), str(count))
        done = self._forks.run(*typed, cwd=cwd, env=env, timeout=240, merged=True)
        counted = int(count.read_text()) if count.exists() else None
        return {"rc": done.returncode, "said": done.stdout, "count": counted}


def main() -> None:
    """Un cas : la commande, dont les opérations sous `watched` se comptent jusqu'à sa fin."""
    case, count = json.loads(sys.argv[1]), Path(sys.argv[2])
    for number, name in ((1, "stdout"), (2, "stderr")):  # dans l'ordre où c'est dit
        setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "w"), encoding="utf-8", write_through=True))
    sys.argv = [case["script"], *case["argv"]]
    faults = Faults(case["watched"], case["at"], case["errno"], case.get("for_good", False))
    command = importlib.import_module(f"gpt_lightning.{case['script']}").main
    faults.install()
    try:
        command()
    finally:
        faults.at, faults.for_good = -1, False
        count.write_text(str(faults.count))


if __name__ == "__main__":
    main()
