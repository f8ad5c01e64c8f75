"""Trouver un checkpoint : le plus récent, celui d'une exécution, ou un fichier."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from gpt_lightning.errors import UserError

OUTPUTS = "outputs"
TASKS = ("text", "instruct", "classify")  # ce qu'un modèle sait faire : continuer un texte, répondre, classer
WRITERS = ("text", "instruct")  # ceux qui écrivent
DATA_MODULES = {
    "ConversationDataModule": "instruct",
    "LabelledDataModule": "classify",
}  # les autres : du texte


def find_checkpoint(
    source: str | None,
    *,
    root: str = OUTPUTS,
    prefer: str = "best",
    key: str = "ckpt_path",
) -> Path:
    """Le premier de `find_checkpoints` : celui que `source` désigne."""
    return find_checkpoints(source, root=root, prefer=prefer, key=key)[0]


def find_checkpoints(
    source: str | None,
    *,
    root: str = OUTPUTS,
    prefer: str = "best",
    key: str = "ckpt_path",
    tasks: Sequence[str] = TASKS,
) -> list[Path]:
    """Le fichier que `source`, la valeur de `key`, désigne, puis ceux qui le remplacent s'il est abîmé.

    None, `best` ou `last` : l'exécution la plus récente sous `root` (celle du checkpoint le plus récent) dont la tâche
    est une de `tasks`. Un dossier d'exécution : son checkpoint `prefer`, puis les autres, du plus récent au plus
    ancien. Un fichier : lui seul.
    UserError sinon.
    """
    if source in (None, "best", "last"):
        run = newest_run(root, tasks)
        if run is None:
            raise UserError(
                "Aucun modèle entraîné sous outputs/ : lancez d'abord « python train.py »."
                if newest_run(root) is None
                else _no_run_of(tasks[0])
            )
        return of_run(run, source or prefer)
    path = Path(os.path.expanduser(source))
    if path.parts[:1] and path.parts[0].startswith("~"):  # ./~ : un dossier, qu'on relira peut-être
        path = path.absolute()
    if path.is_dir() and (path / "checkpoints").is_dir():
        return of_run(path, prefer)
    if path.exists():
        return [path]
    raise UserError(f"{key}={source} : ni dossier d'exécution, ni fichier de poids, ni last, ni best.")


def newest_run(root: str = OUTPUTS, tasks: Sequence[str] = TASKS) -> Path | None:
    """Le dossier de l'exécution d'une de ces tâches dont un checkpoint est le plus récent, balayages compris."""
    found = sorted(Path(root).glob("**/checkpoints/*.ckpt"), key=lambda path: -path.stat().st_mtime_ns)
    runs = dict.fromkeys(path.parent.parent for path in found)
    return next((run for run in runs if task_of(run) in tasks), None)


def task_of(run: Path) -> str:
    """La tâche d'une exécution, d'après le module de données de ses réglages."""
    try:
        settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        target = str(settings["data"]["_target_"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return "text"
    return next((task for name, task in DATA_MODULES.items() if target.endswith(name)), "text")


def of_run(run: Path, wanted: str) -> list[Path]:
    """Les checkpoints d'une exécution, celui qui est voulu (`best` ou `last`) d'abord. UserError si elle n'en a pas."""
    folder = run / "checkpoints"
    whole = [folder / "last.ckpt", *sorted(folder.glob("step_*.ckpt"), reverse=True)]  # de quoi reprendre
    best = [folder / "best.ckpt"]
    found = [path for path in ([*best, *whole] if wanted == "best" else [*whole, *best]) if path.exists()]
    if not found:
        raise UserError(f"{run} n'a ni checkpoints/best.ckpt ni checkpoints/last.ckpt.")
    return found


COMMANDS = {
    "text": ("continuer un texte", "python generate.py"),
    "instruct": ("répondre à des questions", "python -m gpt_lightning chat"),
    "classify": ("classer un texte", "python -m gpt_lightning classify"),
}


def _no_run_of(task: str) -> str:
    """Des modèles sont entraînés, mais aucun pour cela."""
    how = "python train.py" + ("" if task == "text" else f" experiment={task}")
    return f"Aucun modèle sous outputs/ ne sait {COMMANDS[task][0]} : lancez d'abord « {how} »."
