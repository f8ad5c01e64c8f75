"""Trouver un checkpoint : le plus récent, celui d'une exécution, ou un fichier."""

import os
from pathlib import Path

from gpt_lightning import messages
from gpt_lightning.errors import UserError

OUTPUTS = "outputs"


def find_checkpoint(
    source: str | None, *, root: str = OUTPUTS, prefer: str = "best", key: str = "ckpt_path"
) -> Path:
    """Le fichier que `source`, la valeur de `key`, désigne.

    None, `best` ou `last` : l'exécution la plus récente sous `root` (celle du checkpoint le plus récent). Un dossier
    d'exécution : son checkpoint `prefer`, l'autre s'il manque. Un fichier : lui-même. UserError sinon.
    """
    if source in (None, "best", "last"):
        return _of_run(newest_run(root), source or prefer)
    path = Path(os.path.expanduser(source))
    if path.parts[:1] and path.parts[0].startswith("~"):  # ./~ : un dossier, qu'on relira peut-être
        path = path.absolute()
    if path.is_dir() and (path / "checkpoints").is_dir():
        return _of_run(path, prefer)
    if path.exists():
        return path
    raise UserError(messages.not_a_source(key, source))


def newest_run(root: str = OUTPUTS) -> Path:
    """Le dossier de l'exécution dont un checkpoint est le plus récent, balayages compris."""
    found = Path(root).glob("**/checkpoints/*.ckpt")
    newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        raise UserError(messages.no_run_yet())
    return newest.parent.parent


def _of_run(run: Path, wanted: str) -> Path:
    folder = run / "checkpoints"
    whole = [folder / "last.ckpt", *sorted(folder.glob("step_*.ckpt"), reverse=True)]  # de quoi reprendre
    best = [folder / "best.ckpt"]
    for path in [*best, *whole] if wanted == "best" else [*whole, *best]:
        if path.exists():
            return path
    raise UserError(f"{run} n'a ni checkpoints/best.ckpt ni checkpoints/last.ckpt.")
