"""Le verrou d'un dossier d'exécution : un seul entraînement vivant y écrit.

C'est un verrou du noyau : il tombe avec le processus, même tué, même après un redémarrage. Là où le système de fichiers
n'en a pas, le fichier dit quel processus de quelle machine le tient.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gpt_lightning import durable
from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

NAME = ".lock"
_held: set[Path] = set()  # le noyau laisse un processus reprendre son propre verrou


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Tient le verrou de `folder` pendant ce bloc. UserError si un autre entraînement le tient."""
    path = (folder / NAME).resolve()
    if path in _held:
        raise UserError(_run_is_alive(str(folder), None))
    with durable.refusals(path):
        opened = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    with opened as file:
        if not _acquire(file) or not _is_still_at(file, path):
            raise UserError(_run_is_alive(str(folder), _owner(file)))
        with durable.refusals(path):
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            file.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            with contextlib.suppress(OSError):
                path.unlink()
    with contextlib.suppress(OSError):  # Windows ne retire pas un fichier ouvert
        if os.name == "nt":
            path.unlink()


def _acquire(file: IO[str]) -> bool:
    """Prend le verrou ; faux si un autre processus vivant l'a."""
    try:
        import fcntl
    except ImportError:  # Windows
        return not _is_alive(_owner(file))
    try:  # pas flock : un processus de lecture qui survit un instant le garderait
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # ce système de fichiers n'en a pas
        return not _is_alive(_owner(file))
    return True


def _is_still_at(file: IO[str], path: Path) -> bool:
    """Faux si le fichier ouvert n'est plus à ce chemin : son détenteur vient de le retirer, un autre l'a repris."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(file: IO[str]) -> JsonObject | None:
    file.seek(0)
    try:
        owner = json.loads(file.read())
    except ValueError:
        return None
    return owner if isinstance(owner, dict) else None


def _is_alive(owner: JsonObject | None) -> bool:
    if not owner or owner.get("host") != socket.gethostname():
        return False
    try:
        pid = int(owner["pid"])
        return pid != os.getpid() and durable.is_alive(pid)  # celui que ce processus tient est dans _held
    except (ValueError, TypeError, KeyError):
        return False


def _run_is_alive(folder: str, owner: Mapping[str, object] | None) -> str:
    """La phrase qui dit qu'un autre entraînement écrit dans ce dossier."""
    who = f" (processus {owner.get('pid')} de {owner.get('host')})" if owner else ""
    return f"{folder} est celui d'un entraînement en cours{who} : attendez sa fin, ou choisissez un autre output_dir=."
