"""Des pannes à une opération choisie sur les fichiers : la mort, ou un refus du système.

`python -m tests.resilience.faults` lit des cas sur son entrée, un JSON par ligne, et dit comment chacun a fini. Il
importe tout une fois, puis chaque cas est un enfant (fork) dont les opérations d'écriture sous `watched` se comptent.
À la `at`-ième, il meurt (`errno` 0) ou reçoit cette erreur ; avec `for_good`, les suivantes aussi.
"""

import builtins
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

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


def run(case: dict) -> dict:
    """Un cas, dans un enfant : son code de sortie, ce qu'il a dit, et les opérations comptées s'il n'est pas mort."""
    cwd = Path(case["cwd"])
    said, count = cwd.parent / f"{cwd.name}.dit", cwd.parent / f"{cwd.name}.compte"
    count.unlink(missing_ok=True)
    if case.get("copy"):
        shutil.copytree(case["copy"], cwd)
    cwd.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _child(case, cwd, said, count)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    counted = int(count.read_text()) if count.exists() else None
    return {"rc": code, "said": said.read_text(encoding="utf-8", errors="replace"), "count": counted}


def _child(case: dict, cwd: Path, said: Path, count: Path) -> int:
    os.chdir(cwd)
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(handle, number)
        stream = io.TextIOWrapper(io.FileIO(number, "w"), encoding="utf-8", write_through=True)
        setattr(sys, name, stream)
    sys.argv = [case["script"], *case["argv"]]
    os.environ |= case.get("env", {})
    watched = case.get("watched", str(cwd))
    faults = Faults(watched, case["at"], case["errno"], case.get("for_good", False))
    main = importlib.import_module(f"gpt_lightning.{case['script']}").main
    faults.install()
    try:
        main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    faults.at, faults.for_good = -1, False
    count.write_text(str(faults.count))
    return code


def main() -> None:
    """Importe tout ce qu'un cas importerait, puis les lance."""
    import torch

    torch.set_num_threads(1)
    for name in (
        "lightning.pytorch.callbacks",
        "matplotlib.figure",
        "matplotlib.backends.backend_pdf",
        "matplotlib.backends.backend_agg",
        "torch.utils.tensorboard",
        "torch.optim.adamw",
        "gpt_lightning.commands.train",
        "gpt_lightning.commands.export",
        "gpt_lightning.commands.generate",
        "gpt_lightning.commands.prepare",
        "gpt_lightning.training.engine",
        "gpt_lightning.training.report",
        "gpt_lightning.data",
        "gpt_lightning.weights.exporting",
    ):
        importlib.import_module(name)
    print("prêt", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


class Zygote:
    """Lance les cas, l'un après l'autre, dans un processus qui a déjà tout importé."""

    def __init__(self, root: Path, cache: Path) -> None:
        env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.resilience.faults"],
            cwd=root,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout.readline() == "prêt\n"

    def __call__(self, script: str, *argv: str, cwd: Path, at: int = -1, errno: int = 0, **options) -> dict:
        case = {"script": script, "argv": argv, "cwd": str(cwd), "at": at, "errno": errno, **options}
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    main()
