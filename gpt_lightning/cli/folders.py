"""Ouvrir le dossier d'une exécution, qui n'est jamais celui d'une autre, et le retirer si rien n'a commencé.

Hydra n'écrit rien. Ce fichier seul crée outputs/<date>/<heure>/ (ou `output_dir=`), y écrit .hydra/ et config.yaml, et
ouvre train.log. Dans un balayage, chaque tâche a le sien, numéroté, dans celui du balayage.
"""

import contextlib
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from gpt_lightning import durable, layout
from gpt_lightning.cli import console, lock, signals, sweeps
from gpt_lightning.cli.arguments import Texts, escape_interpolations, literal_path, shell_override
from gpt_lightning.cli.composition import to_plain
from gpt_lightning.cli.record import saved_settings, write_settings
from gpt_lightning.errors import UserError
from gpt_lightning.layout import (
    CHECKPOINTS,
    FILM,
    LEFT,
    LOG,
    OUTPUTS,
    PLOTS,
    RECORD,
    SAMPLES,
    SWEEP,
    resumable_files,
)
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number


class RunFolders:
    """Ouvre le dossier de chaque tâche d'une ligne de commande : la seule, ou celles d'un balayage."""

    def __init__(self, overrides: Sequence[str] = (), write_page: sweeps.WritePage | None = None) -> None:
        self._write_page = write_page
        self._sweep: Path | None = None  # le dossier du balayage en cours
        self._sweep_created: list[Path] = []
        self._swept = swept_keys(overrides)
        self._results: list[sweeps.Result] = []

    def note_result(self, result: float | None) -> None:
        """Note le résultat de la tâche qui finit, si c'est une tâche de balayage ; None : elle a échoué."""
        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            used = {} if result is None else saved_settings(self._job_folder())
            folder = None if self._sweep is None else self._job_folder()
            row = sweeps.Result(hydra.job.num, folder, self._values(), used.get("init_from"), result)
            self._results.append(row)

    def sweep_table(self) -> str | None:
        """La table d'un balayage fini ; None si ce n'en est pas un, ou s'il n'en reste rien."""
        if self._sweep is None:
            return None
        if not any(
            path.is_dir() for path in self._sweep.iterdir()
        ):  # chaque tâche a échoué avant de commencer
            _remove(self._sweep, set(), self._sweep_created)
            return None
        table = sweeps.table(self._swept, self._results, str(self._sweep))
        path = self._sweep / layout.PAGE
        if self._write_page is not None:
            with durable.surviving(path):
                self._write_page(self._sweep, self._swept, self._results)
        return f"{table}\nPage       : {path}" if path.exists() else table

    def _job_folder(self) -> Path:
        """Le dossier de la tâche en cours du balayage."""
        assert self._sweep is not None
        hydra = HydraConfig.get()  # `hydra.sweep.subdir`, que Hydra a résolu dans un dossier à lui
        return self._sweep / os.path.relpath(hydra.runtime.output_dir, os.path.abspath(hydra.sweep.dir))

    def _values(self) -> list[str]:
        given = dict(text.split("=", 1) for text in HydraConfig.get().overrides.task if "=" in text)
        return [given.get(key, "") for key in self._swept]

    @contextmanager
    def open(self, cfg: DictConfig, texts: Texts) -> Iterator[Settings]:
        """Réserve le dossier, y ouvre le journal, et donne les réglages résolus.

        Une reprise rouvre le dossier qu'elle continue. Si la tâche échoue avant ses premières mesures, il ne reste
        rien de ce qu'elle a écrit. UserError si `output_dir` est le dossier d'une autre exécution.
        """
        resumed = cfg.ckpt_path is not None
        created: list[Path] = []
        if not resumed:
            if cfg.get("resume") and cfg.output_dir is not None:
                _clear(Path(cfg.output_dir))
            folder, created = self._reserve(cfg.output_dir)
        elif cfg.output_dir is None:
            raise UserError("ckpt_path= se donne sur la ligne de commande, pas dans un fichier de conf/.")
        else:
            folder = Path(cfg.output_dir)
        before = {path.name for path in folder.iterdir()} - {RECORD}
        with lock.hold(folder):
            for place in (folder, *(folder / name for name in (RECORD, CHECKPOINTS, PLOTS, SAMPLES, FILM))):
                durable.sweep(place, alone=True)  # d'un processus tué
            try:
                settings = {**self._settings(cfg, folder), **texts}
                if not resumed:  # une reprise n'écrit rien avant d'être acceptée
                    write_settings(folder, settings, settings)
                with console.log_to(folder / LOG):
                    yield settings
            except BaseException:
                if not resumed and not layout.has_begun(folder):
                    _remove(folder, before, created)
                raise

    def _settings(self, cfg: DictConfig, folder: Path) -> Settings:
        """Les réglages résolus de la tâche, dans `folder`."""
        with open_dict(cfg):
            cfg.output_dir = escape_interpolations(str(folder))
            if self._sweep is not None and "run_name" in cfg and not cfg.run_name:
                pairs = zip(self._swept, self._values(), strict=True)
                name = " ".join(f"{key.rpartition('.')[2]} {value}" for key, value in pairs)
                cfg.run_name = re.sub(r"[/=,'\"]+", "_", name)
        settings = to_plain(cfg, resolve=True)
        for key in ("init_from", "base_path"):
            if self._sweep is not None and self._sweep in Path(settings[key] or "").parents:
                raise UserError(
                    f"{key}={settings[key]} est une tâche de ce balayage, qui n'est pas finie avant lui."
                )
        return settings

    def _reserve(self, output_dir: str | None) -> tuple[Path, list[Path]]:
        """Réserve un dossier à cette tâche seule ; renvoie aussi ceux qu'il a fallu créer."""
        hydra, asked = HydraConfig.get(), None if output_dir is None else Path(output_dir)
        if hydra.mode != RunMode.MULTIRUN:
            return _claim(asked, RECORD)
        if self._sweep is None:
            self._sweep, self._sweep_created = _claim(asked, SWEEP)
            shutil.copyfile(Path(hydra.sweep.dir) / SWEEP, self._sweep / SWEEP)
        folder = self._job_folder()
        if layout.is_taken(folder):
            raise UserError(
                f"hydra.sweep.subdir= donne deux fois {folder} : ajoutez-y ${{hydra.job.num}}, le numéro de la tâche."
            )
        return _claim(folder, RECORD)


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """Les clés que ces surcharges font varier : celles qui ont plusieurs valeurs."""
    typed = [text for text in overrides if "=" in text and not text.startswith(("-", "hydra."))]
    parsed = OverridesParser.create().parse_overrides(typed)
    return [override.get_key_element() for override in parsed if override.is_sweep_override()]


def _claim(asked: Path | None, mark: str) -> tuple[Path, list[Path]]:
    """Réserve `asked`, ou le premier nom libre de cette seconde, en y créant `mark` ; renvoie les dossiers créés."""
    now = time.strftime("%Y-%m-%d/%H-%M-%S")
    names = (OUTPUTS / (now if n == 1 else f"{now}_{n}") for n in count(1))
    for folder in names if asked is None else [asked]:
        created = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            file = next(
                path
                for path in (*folder.parents[::-1], folder)
                if os.path.lexists(path) and not path.is_dir()
            )
            what = "un lien qui ne mène à rien" if file.is_symlink() and not file.exists() else "un fichier"
            raise UserError(f"{file} est {what} : ôtez-le, ou choisissez un autre output_dir=.") from None
        if not layout.is_taken(folder):
            with contextlib.suppress(FileExistsError):  # une autre exécution vient de le prendre
                (folder / mark).mkdir() if mark == RECORD else (folder / mark).touch(exist_ok=False)
                return folder, created
    raise UserError(
        f"{_occupant_of(Path(str(asked)))} : choisissez un autre output_dir={_or_go_on(Path(str(asked)))}."
    )


def _occupant_of(folder: Path) -> str:
    """Ce qui occupe déjà ce dossier."""
    what = "un balayage" if (folder / SWEEP).exists() else "une exécution"
    return f"{folder} contient déjà {what}"


def _or_go_on(folder: Path) -> str:
    """La fin de la phrase : continuer ce qui est dans ce dossier, ou le recommencer, si cela se peut."""
    if (folder / SWEEP).exists() or not (folder / RECORD).is_dir():
        return ""
    if not resumable_files(folder):
        return ", ou ajoutez resume=auto, qui recommence une exécution arrêtée avant son premier checkpoint"
    return f", ou reprenez-la avec {shell_override('ckpt_path', folder)}"


def leave_if_stopped(folder: Path, command: str, signum: int, step: int) -> None:
    """Affiche ce qui est gardé et comment continuer, si le signal `signum` a arrêté l'entraînement (0 : aucun).

    Lève alors Interrupted : la commande finit sur le code du signal.
    """
    if not signum:
        return
    last = layout.last(folder)
    stop = f"\nInterrompu par {signals.name_of(signum)} au pas {number(step)}."
    if last.exists():
        again = f"{_script(command)} {shell_override('ckpt_path', folder)}"
        console.log.info(f"{stop} Gardé : {last}. Pour continuer :\n    {again}")
    else:
        console.log.info(f"{stop} Rien n'est gardé : callbacks.last est retiré.")
    raise signals.Interrupted(signum)


def _script(name: str) -> str:
    """La commande qui lance `name` : son script, à côté de celui qui tourne, ou le paquet."""
    script = Path(sys.argv[0]).with_name(f"{name}.py")
    beside = Path(sys.argv[0]).suffix == ".py" and script.exists()
    return f"python {script}" if beside else f"python -m gpt_lightning {name}"


def next_commands(folder: Path, command: str, *words: str) -> list[str]:
    """Les commandes à taper ensuite, prêtes à coller : `command` et ses mots, puis TensorBoard."""
    swept = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    # la commande prend l'exécution la plus récente : d'un balayage, ce sera la dernière tâche
    newest = OUTPUTS.absolute() in folder.absolute().parents and not swept
    return commands(command, words, None if newest else folder, OUTPUTS if newest else folder)


def commands(command: str, words: Sequence[str], run: Path | None, logs: Path) -> list[str]:
    """`command` sur l'exécution `run` (None : la plus récente), et TensorBoard sur `logs`."""
    source = [] if run is None else [shell_override("ckpt_path", run)]
    return [
        " ".join([_script(command), *words, *source]),
        f"tensorboard --logdir {shlex.quote(literal_path(logs))}",
    ]


def _clear(folder: Path) -> None:
    """Retire d'un dossier ce qu'une exécution interrompue avant son premier checkpoint y a laissé.

    UserError si elle est encore en cours.
    """
    if not (folder / RECORD).is_dir() or resumable_files(folder):
        return
    with lock.hold(folder):
        for path in [*(folder / name for name in LEFT), *folder.glob("events.out.tfevents.*")]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _remove(folder: Path, before: set[str], created: list[Path]) -> None:
    """Retire ce qui n'était pas là avant, et les dossiers créés s'ils sont vides ; ce qui résiste reste."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in before:
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in reversed(created):
        with contextlib.suppress(OSError):  # une autre exécution s'en sert
            path.rmdir()
