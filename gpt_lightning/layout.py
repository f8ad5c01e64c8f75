"""Un dossier d'exécution : nommer ses fichiers, et le retrouver sur le disque.

Ce fichier ne lit rien de ce qu'ils contiennent : la tâche d'un modèle est dans son checkpoint (weights/format.py).
"""

import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpt_lightning.errors import UserError

OUTPUTS = Path("outputs")
DAY = 86_400  # secondes ; les horloges de deux machines diffèrent de moins
# leur création réserve le dossier d'une exécution, ou d'un balayage
RECORD, SWEEP = ".hydra", "multirun.yaml"
SETTINGS, ENVIRONMENT, HPARAMS = "config.yaml", "environment.yaml", "hparams.yaml"
METRICS, LOG, PAGE = "metrics.csv", "train.log", "report.html"
CHECKPOINTS, PLOTS, SAMPLES, WANDB, FILM = "checkpoints", "plots", "samples", "wandb", "film"
LAST, BEST = "last.ckpt", "best.ckpt"
STEPS = "step_*.ckpt"
# ce qu'une exécution laisse dans son dossier, et ce que la table de la fin en montre
LEFT = (RECORD, SETTINGS, ENVIRONMENT, HPARAMS, METRICS, LOG, CHECKPOINTS, PLOTS, SAMPLES, PAGE, WANDB, FILM)
SHOWN = (PAGE, CHECKPOINTS, PLOTS, SAMPLES, FILM, METRICS, SETTINGS, ENVIRONMENT)
NO_RUN = "Aucun modèle entraîné sous outputs/ : lancez d'abord « python train.py »."


def run_of(checkpoint: Path) -> Path:
    """Le dossier de l'exécution qui a écrit ce checkpoint."""
    return checkpoint.parent.parent


def last(run: Path) -> Path:
    """Le checkpoint d'où une exécution se reprend."""
    return run / CHECKPOINTS / LAST


def film_image(folder: Path, step: int) -> Path:
    """Le fichier de l'image du pas `step`, dans le dossier d'un film."""
    return folder / f"step_{step:07d}.safetensors"


def film_images(folder: Path) -> dict[int, Path]:
    """Les images d'un film, par pas ; vide sans film."""
    paths = ((path.stem.removeprefix("step_"), path) for path in folder.glob("step_*.safetensors"))
    return dict(sorted((int(step), path) for step, path in paths if step.isdecimal()))


def resumable_files(run: Path) -> list[Path]:
    """Les checkpoints dont une exécution se reprend, le plus récent d'abord.

    best.ckpt, écrit avant le premier last.ckpt, n'a que les poids.
    """
    folder = run / CHECKPOINTS
    steps = sorted(folder.glob(STEPS), reverse=True)
    return [path for path in (folder / LAST, *steps) if path.is_file()]


def has_checkpoint(run: Path) -> bool:
    """Vrai si cette exécution a écrit un checkpoint."""
    return any(path.is_file() for path in run.glob(f"{CHECKPOINTS}/*.ckpt"))


def has_begun(run: Path) -> bool:
    """Vrai si cette exécution a écrit une mesure ou un checkpoint."""
    return (run / METRICS).exists() or has_checkpoint(run)


def is_taken(folder: Path) -> bool:
    """Vrai si ce dossier est celui d'une exécution, ou d'un balayage."""
    return any((folder / name).exists() for name in (RECORD, SWEEP, CHECKPOINTS))


def newest_first(paths: Sequence[Path]) -> list[Path]:
    """Ceux de ces chemins qui sont des checkpoints d'une exécution, du plus récent au plus ancien.

    Une copie d'un autre nom, un lien mort, une boucle de liens, un dossier du même nom n'en cachent aucun ; une date
    dans le futur ne dit rien, et passe après les autres.
    """
    dated = [(written, path) for path in paths if (written := _date_of(path)) is not None]
    return [path for _, path in sorted(dated, key=lambda pair: -pair[0])]


def _date_of(path: Path) -> float | None:
    """Sa date, en secondes ; 0 si elle est à plus d'un jour dans le futur, None si ce n'est pas un checkpoint."""
    if path.name not in (LAST, BEST) and not path.match(STEPS):
        return None
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    written = status.st_mtime_ns / 1e9
    return written if written < time.time() + DAY else 0


# les checkpoints que la commande en cours a vus, sous chaque racine
_seen: dict[str, list[str]] | None = None


@contextmanager
def one_look(*, now: bool = False) -> Iterator[None]:
    """Pendant ce bloc, le disque n'est regardé qu'une fois : last, best et auto y désignent la même exécution.

    `now` : tout de suite, et non quand l'un d'eux se lit. Un balayage n'y voit donc pas ses propres tâches.
    """
    global _seen
    before, _seen = _seen, {}
    try:
        if now:
            _look(OUTPUTS)
        yield
    finally:
        _seen = before


def view() -> dict[str, list[str]] | None:
    """Ce que `one_look` a vu, pour le donner à un autre processus."""
    return _seen


def share_view(checkpoints: dict[str, list[str]] | None) -> None:
    """Voit ce qu'un autre processus a vu."""
    global _seen
    _seen = checkpoints


def _look(root: Path) -> list[str]:
    """Les checkpoints sous `root`, le plus récent d'abord."""
    there = {} if _seen is None else _seen
    if str(root) not in there:
        there[str(root)] = list(map(str, newest_first(list(root.glob(f"**/{CHECKPOINTS}/*.ckpt")))))
    return there[str(root)]


def newest_run(root: Path = OUTPUTS, accepts: Callable[[Path], bool] = lambda run: True) -> Path | None:
    """Le dossier de l'exécution que `accepts` retient dont un checkpoint est le plus récent, balayages compris."""
    checkpoints = [Path(name) for name in _look(root)]
    return next((run for run in dict.fromkeys(map(run_of, checkpoints)) if accepts(run)), None)


def best_models(root: Path = OUTPUTS) -> list[Path]:
    """Le meilleur checkpoint de chaque exécution, du plus récent au plus ancien."""
    return newest_first(list(root.glob(f"**/{CHECKPOINTS}/{BEST}")))


def checkpoints_of(run: Path, prefer: str) -> list[Path]:
    """Les checkpoints d'une exécution, `prefer` (best ou last) d'abord. UserError si elle n'en a pas."""
    resumable, best = resumable_files(run), [run / CHECKPOINTS / BEST]
    paths = [
        path for path in ([*best, *resumable] if prefer == "best" else [*resumable, *best]) if path.is_file()
    ]
    if not paths:
        raise UserError(without_checkpoint(run))
    return paths


def without_checkpoint(run: Path) -> str:
    """La phrase d'un dossier, d'une exécution ou d'un balayage, qui n'a pas de checkpoint : quoi taper."""
    jobs = newest_first(list(run.glob(f"*/**/{CHECKPOINTS}/*.ckpt")))
    if (run / SWEEP).exists() and jobs:
        return f"{run} est un balayage : choisissez une de ses tâches, comme {run_of(jobs[0])}."
    if (run / SWEEP).exists() or not (run / RECORD).is_dir():
        return f"{run} n'a ni {CHECKPOINTS}/{BEST} ni {CHECKPOINTS}/{LAST} : choisissez une autre exécution."
    return (
        f"{run} n'a pas encore de checkpoint : si cette exécution s'est arrêtée, redonnez sa commande avec "
        f"output_dir={shlex.quote(str(run))} resume=auto, qui la recommence."
    )


def find_checkpoint(
    source: str | None, *, root: Path = OUTPUTS, prefer: str = "best", key: str = "ckpt_path"
) -> Path:
    """Le premier de `find_checkpoints` : celui que `source` désigne."""
    return find_checkpoints(source, root=root, prefer=prefer, key=key)[0]


def find_checkpoints(
    source: str | None,
    *,
    root: Path = OUTPUTS,
    prefer: str = "best",
    key: str = "ckpt_path",
    accepts: Callable[[Path], bool] = lambda run: True,
    nothing: Callable[[], str] = lambda: NO_RUN,
) -> list[Path]:
    """Trouve le fichier que `source`, la valeur de `key`, désigne ; puis ceux qui le remplacent s'il est abîmé.

    None, `best` ou `last` : l'exécution la plus récente sous `root` (celle du checkpoint le plus récent) que `accepts`
    retient ; s'il n'y en a pas, UserError dit `nothing()`. Un dossier d'exécution : son checkpoint `prefer`, puis les
    autres, du plus récent au plus ancien. Un fichier : lui seul. UserError sinon.
    """
    if source in (None, "best", "last"):
        run = newest_run(root, accepts)
        if run is None:
            raise UserError(nothing())
        return checkpoints_of(run, source or prefer)
    path = Path(os.path.expanduser(source))
    if path.parts[:1] and path.parts[0].startswith("~"):  # ./~ : un dossier, qu'on relira peut-être
        path = path.absolute()
    if path.is_dir() and is_taken(path):
        return checkpoints_of(path, prefer)
    if path.exists():
        return [path]
    several = " ; -m essaie plusieurs valeurs" if "," in source else ""
    raise UserError(
        f"{key}={source} : ni dossier d'exécution, ni fichier de poids, ni last, ni best{several}."
    )
