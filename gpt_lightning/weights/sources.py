"""Trouver un checkpoint : le plus récent, celui d'une exécution, ou un fichier."""

import os
from pathlib import Path

from gpt_lightning import messages
from gpt_lightning.errors import UserError

OUTPUTS = "outputs"


def find_checkpoint(
    source: str | None, *, root: str = OUTPUTS, prefer: str = "best", key: str = "ckpt_path"
) -> Path:
    """Le premier de `find_checkpoints` : celui que `source` désigne."""
    return find_checkpoints(source, root=root, prefer=prefer, key=key)[0]


def find_checkpoints(
    source: str | None, *, root: str = OUTPUTS, prefer: str = "best", key: str = "ckpt_path"
) -> list[Path]:
    """Le fichier que `source`, la valeur de `key`, désigne, puis ceux qui le remplacent s'il est abîmé.

    None, `best` ou `last` : l'exécution la plus récente sous `root` (celle du checkpoint le plus récent). Un dossier
    d'exécution : son checkpoint `prefer`, puis les autres, du plus récent au plus ancien. Un fichier : lui seul.
    UserError sinon.
    """
    if source in (None, "best", "last"):
        return of_run(newest_run(root), source or prefer)
    path = Path(os.path.expanduser(source))
    if path.parts[:1] and path.parts[0].startswith("~"):  # ./~ : un dossier, qu'on relira peut-être
        path = path.absolute()
    if path.is_dir() and (path / "checkpoints").is_dir():
        return of_run(path, prefer)
    if path.exists():
        return [path]
    raise UserError(messages.not_a_source(key, source))


def newest_run(root: str = OUTPUTS) -> Path:
    """Le dossier de l'exécution dont un checkpoint est le plus récent, balayages compris."""
    found = Path(root).glob("**/checkpoints/*.ckpt")
    newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        raise UserError(messages.no_run_yet())
    return newest.parent.parent


def of_run(run: Path, wanted: str) -> list[Path]:
    """Les checkpoints d'une exécution, celui qui est voulu (`best` ou `last`) d'abord. UserError si elle n'en a pas."""
    folder = run / "checkpoints"
    whole = [folder / "last.ckpt", *sorted(folder.glob("step_*.ckpt"), reverse=True)]  # de quoi reprendre
    best = [folder / "best.ckpt"]
    found = [path for path in ([*best, *whole] if wanted == "best" else [*whole, *best]) if path.exists()]
    if not found:
        raise UserError(f"{run} n'a ni checkpoints/best.ckpt ni checkpoints/last.ckpt.")
    return found
