"""Les bases de jetons, et les index de suffixes, gardés d'une commande à l'autre : les montrer, les effacer."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt_lightning import durable
from gpt_lightning.data.build import JOURNAL, is_unfinished
from gpt_lightning.data.store import META, take_alone
from gpt_lightning.errors import UserError

UNITS = {"h": 3600, "d": 86_400, "j": 86_400, "w": 7 * 86_400}  # secondes
INDEXES = "suffixes"  # le dossier des index de ce qui n'a pas sa propre base
_NAME = re.compile(r"(.+?)(?:-(\w*))?-[0-9a-f]{16}")  # <corpus>-<tokenizer>-<empreinte>, data/text.py


@dataclass(frozen=True)
class Stored:
    """Une base gardée, ou l'index d'un corpus, qui est un fichier et n'a pas de tokenizer.

    `size` est en octets, `used`, la dernière lecture, en secondes.
    """

    folder: Path
    corpus: str
    tokenizer: str
    size: int
    used: float

    @property
    def is_index(self) -> bool:
        return self.folder.parent.name == INDEXES


def index_path(cache_dir: Path, name: str, identity: str) -> Path:
    """Le fichier de l'index d'un corpus qui n'a pas sa propre base."""
    plain = re.sub(r"[^\w-]+", "_", name)[:60]
    return cache_dir / INDEXES / f"{plain}-{identity}.bin"


def list_stores(cache_dir: Path) -> list[Stored]:
    """Les bases de `cache_dir`, de la dernière lue à la plus ancienne ; rien d'autre n'en est."""
    durable.sweep(cache_dir, keep=is_unfinished)  # ce que des processus morts ont laissé
    listed = []
    unfinished = {
        path: path.name[1:].rsplit(".", 2)[0] for path in durable.orphans(cache_dir) if is_unfinished(path)
    }
    complete = {path: path.name for path in (cache_dir.iterdir() if cache_dir.is_dir() else ())}
    for folder, title in {**complete, **unfinished}.items():
        name, last = _NAME.fullmatch(title), JOURNAL if folder in unfinished else META
        with contextlib.suppress(OSError):  # une autre commande vient de l'effacer
            if name and not folder.is_symlink() and (folder / last).is_file():
                size = sum(path.stat().st_size for path in folder.iterdir())
                corpus = f"{name[1]} (inachevé)" if folder in unfinished else name[1]
                listed.append(Stored(folder, corpus, name[2] or "", size, (folder / last).stat().st_mtime))
    listed += _list_indexes(cache_dir / INDEXES)
    return sorted(listed, key=lambda base: (-base.used, base.folder.name))


def _list_indexes(folder: Path) -> list[Stored]:
    durable.sweep(folder)
    listed = []
    for path in folder.glob("*.bin"):
        with contextlib.suppress(OSError):
            if _NAME.fullmatch(path.stem) and path.is_file() and not path.is_symlink():
                corpus, file = path.stem.rpartition("-")[0], path.stat()
                listed.append(Stored(path, f"{corpus} (index)", "", file.st_size, file.st_mtime))
    return listed


def choose(bases: Sequence[Stored], what: object) -> list[Stored]:
    """Celles que `what` désigne : all, un numéro (1 : la première) ou plusieurs, older=30d. UserError sinon."""
    parts = what if isinstance(what, list) else str(what).split(",")
    chosen = [base for part in parts for base in _choose(bases, str(part).strip())]
    return list(dict.fromkeys(chosen))


def _choose(bases: Sequence[Stored], what: str) -> list[Stored]:
    if what == "all":
        return list(bases)
    if re.fullmatch(r"[0-9]{1,9}", what):
        if not 1 <= int(what) <= len(bases):
            raise UserError(
                f"clear={what} : il n'y a pas de base de ce numéro, sans clear= la commande les montre."
            )
        return [bases[int(what) - 1]]
    age = re.fullmatch(r"older[=:]?([0-9]{1,6})([hdjw])", what)
    if age is None:
        raise UserError(f"clear={what} : il faut all, un numéro, ou une ancienneté comme clear=older=30d.")
    oldest = time.time() - int(age[1]) * UNITS[age[2]]
    return [base for base in bases if base.used < oldest]


def erase(base: Stored) -> bool:
    """Efface une base ; faux si un processus vivant l'a ouverte, et elle reste. Un index lu s'efface sans le gêner."""
    if base.is_index:
        try:
            base.folder.unlink(missing_ok=True)
        except PermissionError:
            if os.name == "nt":  # il est ouvert
                return False
            raise
        return True
    with take_alone(base.folder) as alone:
        if not alone:
            return False
        aside = durable.scratch(base.folder)
        try:
            base.folder.rename(aside)  # d'un coup : qui la cherche la voit entière, ou absente
        except FileNotFoundError:
            return True
        except PermissionError:
            if os.name == "nt":  # un de ses fichiers est ouvert
                return False
            raise
    shutil.rmtree(aside, ignore_errors=True)
    return True
