"""Écrire un fichier pour de bon : entier ou pas du tout, et sur le disque quand la fonction revient.

Tout ce que le projet écrit et qui compte passe par ici. Un fichier s'écrit à côté de sa place, sous un nom à lui, va
sur le disque, puis prend son nom d'un coup ; le dossier va sur le disque à son tour. Une coupure laisse donc l'ancien
ou le nouveau, et au pire un brouillon que `sweep` retire.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt_lightning.errors import UserError
from gpt_lightning.wording import cannot_write, goes_on

log = logging.getLogger("gpt_lightning")
_SCRATCH = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)\.brouillon")
_reported: set[Path] = set()  # les fichiers que le disque refuse, et dont le journal a déjà parlé


class WriteError(UserError):
    """Le disque a refusé une écriture ; `path` est ce qui devait s'écrire."""

    def __init__(self, path: Path, sentence: str) -> None:
        super().__init__(sentence)
        self.path = path


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Traduit ce que le système refuse dans ce bloc en une WriteError qui nomme `path` et dit quoi faire."""
    try:
        yield
    except Exception as error:
        sentence = refusal(path, error)
        if sentence is None:
            raise
        raise WriteError(path, sentence) from error


def refusal(path: Path | str, error: BaseException) -> str | None:
    """La phrase d'un système qui a refusé d'écrire `path` ; None si `error` est autre chose."""
    refused = system_error(error)
    if refused is None:
        return None
    return cannot_write(str(path), refused.errno or 0, refused.strerror or str(refused))


def system_error(error: BaseException) -> OSError | None:
    """L'OSError qui est derrière `error` ; None si c'est autre chose.

    torch (RuntimeError) et safetensors, écrit en Rust, la cachent chacun à sa manière.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        if isinstance(seen, UserError):
            return None
        seen = seen.__cause__ or seen.__context__
    match = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(match[1]), os.strerror(int(match[1]))) if match else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Donne un chemin voisin où écrire ; à la fin du bloc il est sur le disque et s'appelle `path`, d'un coup.

    Le dossier doit exister. WriteError si le système refuse quoi que ce soit ; `path` est alors comme avant, et il ne
    reste rien à côté.
    """
    beside = scratch(path)
    with refusals(path):
        try:
            yield beside
            sync(beside)
            os.replace(beside, path)
            sync(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Écrit ce texte, entier ou pas du tout. WriteError si le disque refuse."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def save_figure(figure: Any, folder: Path, name: str) -> list[Path]:
    """Écrit une figure de matplotlib en PDF et en PNG dans `folder`, qui existe. WriteError si le disque refuse."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("pdf", "png")]
    for path in paths:
        with replacing(path) as beside:
            figure.savefig(beside, dpi=150, format=path.suffix[1:])
    return paths


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Donne un dossier voisin à remplir ; à la fin du bloc, ses fichiers sont dans `folder`, le plus grand en dernier.

    WriteError si le système refuse : `folder` est alors comme avant, ou toujours absent.
    """
    with refusals(folder):
        absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        beside, placed, done = scratch(folder), False, False
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            yield beside
            for path in beside.iterdir():
                sync(path)
            if folder.exists():
                for path in sorted(beside.iterdir(), key=lambda path: path.stat().st_size):
                    os.replace(path, folder / path.name)
            else:
                os.replace(beside, folder)
                placed = True
            sync(folder)
            sync(folder.parent)
            done = True
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            for parent in [] if done else absent:
                with contextlib.suppress(OSError):
                    shutil.rmtree(parent) if placed and parent == folder else parent.rmdir()


def sync(path: Path) -> None:
    """Attend que `path`, un fichier ou un dossier, soit sur le disque ; sans effet là où un dossier ne s'ouvre pas."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # Windows n'ouvre pas les dossiers
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # un dossier d'un disque réseau
            raise
    finally:
        os.close(handle)


def scratch(path: Path) -> Path:
    """Le brouillon de `path` : à côté de lui, d'un nom qui dit quel processus de quelle machine l'écrit."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.brouillon")


def orphans(folder: Path) -> list[Path]:
    """Les brouillons de `folder` que des processus morts de cette machine ont laissés."""
    paths = [(path, _SCRATCH.fullmatch(path.name)) for path in (folder.iterdir() if folder.is_dir() else ())]
    return [path for path, draft in paths if draft and draft[1] == _host() and not is_alive(int(draft[2]))]


def adopt(path: Path) -> Path:
    """Le brouillon de `path` ; celui qu'un processus mort a laissé prend son nom, s'il y en a un."""
    beside = scratch(path)
    for orphan in orphans(path.parent):
        if not beside.exists() and orphan.name.startswith(f".{path.name}."):
            with contextlib.suppress(OSError):  # un autre processus vient de le prendre
                orphan.rename(beside)
    return beside


def sweep(folder: Path, *, alone: bool = False, keep: Callable[[Path], bool] = lambda path: False) -> None:
    """Retire de `folder` les brouillons des processus morts de cette machine ; tous, si l'appelant y est seul.

    Reste ce que `keep` garde, une semaine.
    """
    drafts = orphans(folder)
    if alone and folder.is_dir():
        drafts = [path for path in folder.iterdir() if _SCRATCH.fullmatch(path.name)]
    for path in drafts:
        with contextlib.suppress(OSError):
            if not keep(path) or time.time() - path.stat().st_mtime > 7 * 86_400:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def is_alive(pid: int) -> bool:
    """Vrai si un processus de cette machine a ce numéro."""
    if os.name == "nt":  # os.kill(pid, 0) y enverrait un Ctrl-C
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # type: ignore[attr-defined]
        return bool(handle and ctypes.windll.kernel32.CloseHandle(handle))  # type: ignore[attr-defined]
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


@contextmanager
def surviving(path: Path) -> Iterator[None]:
    """Si le disque refuse d'écrire `path` dans ce bloc, le journal le dit une fois, et l'entraînement continue."""
    try:
        with refusals(path):
            yield
    except WriteError as error:
        if path not in _reported:
            _reported.add(path)
            log.warning(goes_on(str(error)))


def cache_folder() -> Path:
    """Le dossier de ce qui se refait : $XDG_CACHE_HOME/gpt_lightning, ou ~/.cache/gpt_lightning.

    RuntimeError si la personne n'a pas de foyer.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt_lightning"
