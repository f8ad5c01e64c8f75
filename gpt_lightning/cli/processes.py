"""Faire travailler les autres processus d'une exécution : ceux que Lightning lance, ceux de torchrun, ceux de SLURM.

Un seul lit la ligne de commande : le premier. Il compose la configuration et choisit le dossier ; les autres reçoivent
ses réglages, par un fichier s'il les lance lui-même, par le réseau sinon.
"""

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from gpt_lightning import layout
from gpt_lightning.errors import UserError
from gpt_lightning.typing import Settings

CHILD = "--child"  # un processus que Lightning a lancé : le fichier des réglages suit
CONNECTION = timedelta(minutes=5)  # le temps de se trouver
PATIENCE = timedelta(days=30)  # entre deux tâches d'un balayage, il y a un entraînement
FAREWELL = timedelta(seconds=30)  # délai laissé aux autres pour lire que tout est fini
BRIEF = timedelta(seconds=5)  # le même, quand la tâche a échoué
GROUP = ("LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")
T = TypeVar("T")
_PR_SET_PDEATHSIG = 1  # prctl.h


@dataclass(frozen=True)
class Launcher:
    """Le lanceur, torchrun ou srun, et la place de ce processus parmi ceux qu'il a lancés."""

    name: str
    rank: int
    world_size: int
    per_node: int
    nodes: int
    local_rank: int = 0  # le rang de ce processus sur sa machine
    node: int = 0  # le rang de sa machine


def launcher(environment: Mapping[str, str] | None = None) -> Launcher | None:
    """Le lanceur de ce processus, d'après les variables d'environnement ; None sans torchrun ni srun.

    UserError si SLURM ne dit pas combien de tâches chaque machine a.
    """
    env = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in env:
        names = (
            "RANK",
            "WORLD_SIZE",
            "LOCAL_WORLD_SIZE",
            "GROUP_WORLD_SIZE",
            "LOCAL_RANK",
            "GROUP_RANK",
        )
        return Launcher("torchrun", *(int(env[name]) for name in names))
    interactive = env.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env and not interactive:
        if "SLURM_NTASKS_PER_NODE" not in env:
            raise UserError(
                "SLURM : dites combien de tâches par machine, avec --ntasks-per-node (une par appareil)."
            )
        tasks, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", "1"))
        here = (int(env.get(name, "0")) for name in ("SLURM_LOCALID", "SLURM_NODEID"))
        return Launcher("srun", int(env["SLURM_PROCID"]), tasks, tasks // nodes, nodes, *here)
    return None


def is_first() -> bool:
    """Vrai dans le processus qui lit la ligne de commande et écrit les fichiers."""
    where = launcher()
    return sys.argv[1:2] != [CHILD] and (where is None or where.rank == 0)


class FailedElsewhere(Exception):
    """La tâche a échoué dans le premier processus de cette machine, qui a dit pourquoi."""


class SharedSettings:
    """Les réglages du premier processus, tâche après tâche, pour tous ceux du lanceur.

    Et, sur chaque machine, ce que son premier processus a préparé pour les autres.
    """

    current: "SharedSettings | None" = None  # celui de ce processus, sous un lanceur

    def __init__(self, where: Launcher) -> None:
        from torch.distributed import TCPStore

        self._launcher, self._count, self._shared = where, 0, 0
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun en tient déjà un
        host, port = _address(where)
        self._store = TCPStore(
            host,
            port if agent else port + 1,
            is_master=where.rank == 0 and not agent,
            wait_for_workers=False,
            timeout=CONNECTION,
        )
        self._store.set_timeout(PATIENCE)
        self._try = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        SharedSettings.current = self

    def send(self, settings: Settings | None, farewell: timedelta = FAREWELL) -> None:
        """Donne les réglages d'une tâche ; None : il n'y en aura plus, et l'on attend les autres `farewell` au plus."""
        # relancé, torchrun garde son magasin, où torch relirait les adresses des processus morts
        port = _free_port() if self._count or self._try != "0" else None
        self._store.set(self._key(), json.dumps([settings, port, layout.view()]))
        self._next(port)
        if settings is None:  # ce processus tient peut-être le magasin : il attend que les autres l'aient lu
            others = [
                f"gpt_lightning/{self._try}/adieu/{rank}" for rank in range(1, self._launcher.world_size)
            ]
            with contextlib.suppress(RuntimeError):
                self._store.wait(others, farewell)

    def __iter__(self) -> Iterator[Settings]:
        """Les réglages des tâches, dès que le premier processus les donne."""
        while True:
            try:
                settings, port, checkpoints = json.loads(self._store.get(self._key()))
            except RuntimeError:  # le premier n'a pas échoué, lui : sans ce processus, il attendrait
                sys.exit(1)
            if settings is None:
                self._store.set(f"gpt_lightning/{self._try}/adieu/{self._launcher.rank}", "")
                return
            self._store.set_timeout(PATIENCE)
            self._next(port)
            layout.share_view(checkpoints)  # pour que last, best et auto y soient les mêmes
            yield settings

    def hurry(self) -> None:
        """Réduit l'attente : la tâche a échoué ici ; si elle a échoué aussi dans le premier, la suivante vient vite."""
        self._store.set_timeout(FAREWELL)

    def once_per_machine(self, work: Callable[[], T]) -> T:
        """Le résultat de `work` (des valeurs simples), que seul le premier processus de chaque machine exécute.

        FailedElsewhere dans les autres s'il échoue : lui seul dit pourquoi.
        """
        self._shared += 1
        key = f"{self._key()}/machine/{self._launcher.node}/{self._shared}"
        return self._by_one(self._launcher.local_rank == 0, key, work)

    def once(self, work: Callable[[], T]) -> T:
        """Le même, que seul le premier processus de tous exécute."""
        self._shared += 1
        return self._by_one(self._launcher.rank == 0, f"{self._key()}/une fois/{self._shared}", work)

    def _by_one(self, works: bool, key: str, work: Callable[[], T]) -> T:
        """Le résultat de `work`, exécuté ici si `works`, ou lu sous `key` quand un autre processus l'y a mis."""
        if not works:
            done = json.loads(self._store.get(key))
            if done is None:
                raise FailedElsewhere
            return done[0]
        try:
            result = work()
        except BaseException:
            self._store.set(key, "null")
            raise
        self._store.set(key, json.dumps([result]))
        return result

    def _key(self) -> str:
        return f"gpt_lightning/{self._try}/{self._count}"

    def _next(self, port: int | None) -> None:
        """La tâche suivante d'un balayage se retrouve sur un autre port : le premier garde les adresses d'avant."""
        self._count, self._shared = self._count + 1, 0
        if port is not None:
            os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


@contextmanager
def share_settings(where: Launcher | None) -> Iterator[Callable[[Settings], None]]:
    """Donne des réglages aux autres processus du lanceur ; à la sortie, leur dit qu'il n'y en aura plus."""
    if where is None:
        yield lambda settings: None
        return
    shared = SharedSettings(where)
    try:
        yield shared.send
    except BaseException:
        shared.send(None, BRIEF)  # l'un d'eux est peut-être mort
        raise
    shared.send(None)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return sock.getsockname()[1]


def _address(where: Launcher) -> tuple[str, int]:
    if where.name == "torchrun":
        return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    from lightning.fabric.plugins.environments import SLURMEnvironment

    slurm = SLURMEnvironment()
    return slurm.main_address, slurm.main_port


_prepared: Any = None  # dans un processus que Lightning a lancé, ce que le premier a préparé


def receive_settings() -> Settings:
    """Les réglages d'un processus que Lightning a lancé ; le fichier qui les portait est effacé."""
    global _prepared
    path = Path(sys.argv[2])
    settings, _prepared, checkpoints = json.loads(path.read_text(encoding="utf-8"))
    layout.share_view(checkpoints)
    path.unlink()
    return settings


def once_per_machine(work: Callable[[], T]) -> T:
    """Le résultat de `work` (des valeurs simples), exécuté par un seul processus de cette machine."""
    if _prepared is not None:
        return _prepared
    shared = SharedSettings.current
    return work() if shared is None else shared.once_per_machine(work)


def once(work: Callable[[], T]) -> T | None:
    """Le résultat de `work` (des valeurs simples), exécuté par le premier processus.

    None dans un enfant de Lightning, qui reçoit des réglages où tout est décidé.
    """
    if sys.argv[1:2] == [CHILD]:
        return None
    shared = SharedSettings.current
    return work() if shared is None else shared.once(work)


@contextmanager
def launch_children(command: str, settings: Settings, prepared: object) -> Iterator[None]:
    """Fait lancer à Lightning, pendant ce bloc, les autres processus sur `command` et ces réglages.

    Ils reçoivent `prepared`, ce que `once_per_machine` a renvoyé ici. Chacun lit et efface son fichier, que personne
    d'autre ne peut lire : un réglage venu de l'environnement peut être un secret.

    La commande de Lightning rejouerait toute la ligne de commande, balayage compris. À la sortie, le groupe de
    processus est détruit et l'environnement remis, pour que la tâche suivante d'un balayage reparte de zéro.
    """
    from lightning.pytorch.strategies.launchers import subprocess_script

    original = subprocess_script._hydra_subprocess_cmd
    before = dict(os.environ)
    if (
        settings["threads"] != "auto"
    ):  # Lightning en choisirait un autre nombre, et le laisserait à la tâche suivante
        os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
    beside = tempfile.TemporaryDirectory()
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # le projet peut ne pas être installé

    def child(local_rank: int) -> tuple[list[str], str]:
        handle, path = tempfile.mkstemp(dir=beside.name)  # lisible de son seul propriétaire
        with open(handle, "w", encoding="utf-8") as file:
            json.dump([settings, prepared, layout.view()], file)
        return [sys.executable, "-m", "gpt_lightning", command, CHILD, path], os.getcwd()

    subprocess_script._hydra_subprocess_cmd = child
    try:
        yield
    finally:
        beside.cleanup()
        subprocess_script._hydra_subprocess_cmd = original
        _leave_process_group()
        for name in (*GROUP, "PYTHONPATH", "OMP_NUM_THREADS"):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def _leave_process_group() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def become_follower(rank: str) -> None:
    """Règle un processus qui n'est pas le premier : il ne dit que ses problèmes, et meurt avec son parent."""
    logging.basicConfig(level=logging.WARNING, format=f"[processus {rank}] %(message)s")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
