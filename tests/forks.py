"""Des commandes sans le démarrage de Python : un processus qui a tout importé, dont chaque commande est un enfant.

Importer Lightning coûte quatre secondes, et les essais lancent des centaines de commandes. Ce fichier, lancé comme
un programme, est ce processus : il importe, ne règle rien, ne fait aucun calcul sur des tenseurs, et se divise (fork) à
chaque demande. L'enfant reçoit tout ce qu'un processus reçoit : arguments, dossier, environnement entier, entrée et
sorties (de vrais descripteurs). Il finit comme Python finit : `atexit`, tampons, code de sortie.

Ce qu'un enfant n'a pas est ce que l'interpréteur et les bibliothèques lisent en démarrant : `READ_AT_START`. Une
commande dont l'environnement y diffère est un vrai processus ; de même là où l'on ne se divise pas sans risque
(Windows, macOS). Il ne montre pas non plus un import oublié : les essais qui lancent un vrai processus le font
(tests/conftest.py, `command`, en donne la liste).
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

FORKS = hasattr(os, "fork") and hasattr(socket, "send_fds") and sys.platform != "darwin"
THREADS = "OMP_NUM_THREADS"  # un serveur par valeur
READY = b"."
READ_AT_START = (  # lus par Python, torch, Lightning, matplotlib ou huggingface_hub avant la première ligne de `main`
    ("PYTHON", "LANG", "LC_", "LD_", "DYLD_", "MALLOC_", "TZ", "HOME", "XDG_CONFIG_HOME")
    + ("OMP_", "MKL_", "GOMP_", "OPENBLAS_", "ATEN_", "DNNL_", "ONEDNN_", "CUDA_", "NVIDIA_")
    + ("TORCH_", "PYTORCH_", "NCCL_", "GLOO_", "MPL", "HF_", "TRANSFORMERS_", "TQDM_")
    + ("RANK", "LOCAL_RANK", "SLURM_", "JSM_")  # le rang de Lightning
)
IMPORTED = (
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "torch.optim.adamw",
    "torch.utils.tensorboard",
    "torch.utils.serialization.config",
    "hydra._internal.core_plugins.basic_launcher",
    "hydra._internal.core_plugins.basic_sweeper",
    "hydra._internal.core_plugins.importlib_resources_config_source",
)


class Forks:
    """Des commandes, en enfants d'un processus qui a tout importé ; il commence à la première demande.

    `root` est le dossier du projet, `env` l'environnement de ce processus.
    """

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root, self._env, self._servers = root, env, {}

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: Any) -> None:
        for server in self._servers.values():
            server.close()

    def run(
        self,
        *typed: str,
        cwd: Path,
        env: dict[str, str],
        timeout: float,
        stdin: str | None = None,
        merged: bool = False,
        fork: bool = True,
    ) -> subprocess.CompletedProcess:
        """Ce que rend `subprocess.run` pour `python *typed` ; avec `merged`, les erreurs sont dans la sortie.

        Passé `timeout`, la commande et ses enfants sont tués (subprocess.TimeoutExpired).
        """
        if fork and FORKS and self.could_be_a_child(env):
            return self._server(env).run(typed, str(cwd), env, stdin, timeout, merged)
        return subprocess.run(
            [sys.executable, *typed],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
            timeout=timeout,
            encoding="utf-8",
        )

    def could_be_a_child(self, env: dict[str, str]) -> bool:
        """Cet environnement donne-t-il un démarrage pareil ? Le nombre de fils de torch a ses serveurs."""
        return _read_at_start(env) == _read_at_start(self._env)

    def _server(self, env: dict[str, str]) -> "_Server":
        threads = env.get(THREADS)
        if threads not in self._servers:
            kept = {key: value for key, value in self._env.items() if key != THREADS}
            wanted = {} if threads is None else {THREADS: threads}
            self._servers[threads] = _Server(self.root, kept | wanted)
        return self._servers[threads]


def _read_at_start(env: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.startswith(READ_AT_START) and key != THREADS}


class _Server:
    """Le processus qui a tout importé, vu des essais."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self._socket, other = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(other.fileno())],
            cwd=root,
            env=env,
            pass_fds=[other.fileno()],
            stdin=subprocess.PIPE,  # les flux de Python s'ouvrent comme sur un tube
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C arrête les essais, et lui avec eux
            preexec_fn=_hearing,
        )
        other.close()
        if self._socket.recv(1) != READY:
            raise RuntimeError(self._process.communicate()[1].decode())
        os.set_blocking(self._process.stderr.fileno(), False)
        said = self._process.stderr.read()
        assert not said, said.decode()  # chaque commande l'aurait dit

    def run(
        self,
        typed: tuple[str, ...],
        cwd: str,
        env: dict[str, str],
        stdin: str | None,
        timeout: float,
        merged: bool,
    ) -> subprocess.CompletedProcess:
        request = json.dumps({"typed": typed, "cwd": cwd, "env": env}).encode()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error, _given(stdin) as given:
            status, told = os.pipe()
            with open(status, "rb") as status:
                fds = [given, out.fileno(), (out if merged else error).fileno(), told]
                socket.send_fds(self._socket, [len(request).to_bytes(8)], fds)
                os.close(told)
                self._socket.sendall(request)
                code = _code(status, timeout)
            texts = [_content(out), None if merged else _content(error)]
        args = [sys.executable, *typed]
        if code is None:
            raise subprocess.TimeoutExpired(args, timeout, *texts)
        return subprocess.CompletedProcess(args, code, *texts)

    def close(self) -> None:
        self._socket.close()
        self._process.communicate()


def _hearing() -> None:
    """Un signal qu'ignore qui lance les essais (« make test & ») ne l'est pas du serveur."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(one, signal.SIG_DFL)


@contextlib.contextmanager
def _given(text: str | None) -> Iterator[int]:
    """L'entrée d'une commande : un tube où `text` s'écrit, ou rien."""
    if text is None:
        with open(os.devnull, "rb") as nothing:
            yield nothing.fileno()
        return
    given, giving = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(giving, "w", encoding="utf-8") as file:
            file.write(text)

    with open(given, "rb"):
        threading.Thread(target=write, daemon=True).start()
        yield given


def _code(status: BinaryIO, timeout: float) -> int | None:
    """Le code d'une commande ; passé `timeout`, elle et ses enfants sont tués, et c'est None."""
    pid, code = int(status.readline()), None
    try:
        if select.select([status], [], [], timeout)[0]:
            code = int(status.readline())
        return code
    finally:
        if code is None:  # trop tard, ou Ctrl-C
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            status.read()


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8")


def serve(demands: socket.socket) -> dict[str, Any] | None:
    """Rend chaque demande dans un enfant neuf, et None quand il n'y en aura plus ; l'une après l'autre."""
    while True:
        size, fds, _, _ = socket.recv_fds(demands, 8, 4)
        if not size:
            return None
        request = json.loads(_exactly(demands, int.from_bytes(size)))
        child = os.fork()
        if child == 0:
            demands.close()
            _take(*fds)
            return request
        _watch(child, fds)


def _exactly(demands: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = demands.recv(size - len(content))
        if not part:
            raise EOFError("la demande s'arrête avant sa fin")
        content += part
    return content


def _take(given: int, out: int, error: int, told: int) -> None:
    """Dans l'enfant : son groupe, son entrée et ses sorties."""
    os.setpgid(0, 0)
    for number, fd in enumerate((given, out, error)):
        os.dup2(fd, number)
    for fd in (given, out, error, told):
        os.close(fd)


def _watch(child: int, fds: list[int]) -> None:
    """Dit le numéro de cet enfant, puis son code."""
    with contextlib.suppress(OSError):  # il l'a fait, ou il a fini
        os.setpgid(child, child)
    *others, told = fds
    for fd in others:
        os.close(fd)
    with open(told, "w", buffering=1) as status, contextlib.suppress(BrokenPipeError):
        print(child, file=status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=status)


def become(typed: list[str], cwd: str, env: dict[str, str]) -> None:
    """Devient `python *typed`, lancé dans `cwd` avec `env`."""
    import numpy
    import torch

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.orig_argv[:] = [sys.executable, *typed]
    importlib.invalidate_caches()
    numpy.random.seed()  # des tirages à lui, comme au démarrage ; `random` le fait seul
    torch.default_generator.seed()
    if typed[0] == "-m":
        sys.path[0] = os.getcwd()
        sys.argv[:] = typed[1:]
        if not hasattr(sys.modules.get(typed[1]), "__path__"):  # à lire comme si personne ne l'avait importé
            sys.modules.pop(typed[1], None)
        runpy.run_module(typed[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(typed[0]).resolve().parent)
        sys.argv[:] = typed
        runpy.run_path(typed[0], run_name="__main__")


def import_all() -> None:
    """Tout le projet, et ce que ses commandes importent en route."""
    import gpt_lightning

    ours = pkgutil.walk_packages(gpt_lightning.__path__, "gpt_lightning.")
    for name in (*(one.name for one in ours if not one.name.endswith("__main__")), *IMPORTED):
        with contextlib.suppress(ImportError):  # un extra qui n'est pas là
            importlib.import_module(name)


_leaving: int | None = None  # le code sur lequel finit cette commande, s'il est connu


def follow(request: dict[str, Any]) -> None:
    """La commande de cet enfant ; Python dit ce qui la fait finir, comme toujours."""
    global _leaving
    try:
        become(**request)
        _leaving = 0
    except SystemExit as leaving:
        code = leaving.code
        _leaving = code & 0xFF if isinstance(code, int) else int(code is not None)
        raise
    except Exception:
        _leaving = 1
        raise


def leave() -> None:
    """La dernière fonction d'`atexit` : ce qui reste à Python est de défaire quatre mille modules, un à un."""
    if _leaving is None:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (AttributeError, OSError, ValueError):
        return  # Python le dira
    os._exit(_leaving)


def main() -> None:
    atexit.register(leave)
    demands = socket.socket(fileno=int(sys.argv[1]))
    import_all()
    gc.freeze()  # les pages de ce qui est importé restent communes
    demands.sendall(READY)
    request = serve(demands)
    if request is not None:
        follow(request)


if __name__ == "__main__":
    main()
