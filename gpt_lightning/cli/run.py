"""Lancer une tâche : composer conf/, ouvrir le dossier, prévenir les autres processus, répondre en français."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gpt_lightning.cli import console, defaults, effects, habits, hydra_words, processes, signals
from gpt_lightning.cli.arguments import Texts, is_sweep, take_free_text, value_of
from gpt_lightning.cli.composition import CONF, to_plain
from gpt_lightning.cli.explain import explain, leave, refuse_unread_keys, tell
from gpt_lightning.cli.folders import RunFolders
from gpt_lightning.cli.resume import inherited_overrides, resume_overrides
from gpt_lightning.cli.targets import hydra_without_code
from gpt_lightning.typing import Settings

Task = Callable[[Settings], float | None]  # la perte, pour un balayage


def run(
    task: Task,
    config_name: str,
    *,
    opens_run: bool = False,
    inherits: str | None = None,
    ineffective: Iterable[effects.IneffectiveKeys] = (),
) -> None:
    """Compose conf/<config_name>.yaml avec la ligne de commande et appelle `task` (une fois par point d'un balayage).

    Avec `opens_run`, chaque appel a son dossier d'exécution, peut en reprendre un, et s'étend à plusieurs processus ;
    sans lui, la commande ne laisse rien derrière elle. Le groupe `inherits` est celui de l'exécution que `ckpt_path`
    désigne, sauf ce que la commande en dit. Une clé que `ineffective` dit sans effet est refusée. Une faute de la
    personne donne une phrase sur stderr et le code 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra laisse passer ses exceptions, nous les traduisons
    console.make_outputs_safe(lasting=opens_run)
    if opens_run:
        signals.listen()
    with _exit_codes(config_name):
        if sys.argv[1:2] == [processes.CHILD]:
            processes.become_follower(os.environ["LOCAL_RANK"])
            task(processes.receive_settings())
            return
        defaults.remember_command(sys.argv[1:])
        launcher = processes.launcher() if opens_run else None
        if launcher is not None and launcher.rank:
            _follow(task, launcher, config_name)
            return
        argv = habits.check_arguments(sys.argv[1:], config_name)
        console.show_log(on_stdout=opens_run)
        overrides, texts = take_free_text(hydra_words.honour_keys(argv, opens_run=opens_run))
        typed = list(overrides)
        if opens_run:
            overrides = resume_overrides(overrides, config_name)
        if inherits is not None:
            overrides = inherited_overrides(overrides, inherits)
        if not (opens_run and value_of("ckpt_path", overrides)):  # une reprise garde son corpus
            overrides = effects.with_own_text(overrides, config_name)
        task = _refuse_ineffective_first(task, [*typed, *texts], config_name, ineffective)
        _lead(task, config_name, overrides, texts, launcher, RunFolders(overrides) if opens_run else None)


@contextmanager
def _exit_codes(config_name: str) -> Iterator[None]:
    """Finit ce bloc sur un code honnête : une faute de la personne sur 1, un signal sur 128 et son numéro."""
    try:
        yield
    except (signals.Interrupted, KeyboardInterrupt) as stopped:
        if sys.argv[1:2] == [processes.CHILD]:  # Lightning tue le premier processus dès qu'un autre finit mal
            sys.exit(0)
        sys.exit(128 + getattr(stopped, "signum", signal.SIGINT))
    except BrokenPipeError:  # « | head » : plus personne ne lit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        leave(error, config_name)


def _refuse_ineffective_first(
    task: Task, typed: list[str], config_name: str, table: Iterable[effects.IneffectiveKeys]
) -> Task:
    """La tâche, qui refuse d'abord une clé tapée qui ne changerait rien."""

    def check_then_run(settings: Settings) -> float | None:
        effects.refuse_ineffective(typed, settings, config_name, table)
        return task(settings)

    return check_then_run


def _follow(task: Task, launcher: processes.Launcher, config_name: str) -> None:
    """Exécute ce que le premier processus exécute, tâche après tâche ; dit sa propre faute en une ligne."""
    processes.become_follower(str(launcher.rank))
    failed, shared = False, processes.SharedSettings(launcher)
    for settings in shared:
        try:
            task(settings)
        except processes.FailedElsewhere:
            failed = True
        except Exception as error:
            sentence = explain(error, config_name)
            if sentence is None:
                raise
            print(f"[processus {launcher.rank}] {sentence}", file=sys.stderr)
            failed = True
            shared.hurry()
    sys.exit(int(failed))


def _lead(
    task: Task,
    config_name: str,
    overrides: list[str],
    texts: Texts,
    launcher: processes.Launcher | None,
    folders: RunFolders | None,
) -> None:
    """Exécute la tâche, en donnant ses réglages aux processus du lanceur.

    Dans un balayage, une tâche qui échoue n'arrête pas les autres : la commande finit sur 1.
    """
    failures: list[int] = []
    with tempfile.TemporaryDirectory() as scratch, processes.share_settings(launcher) as share:
        if is_sweep(overrides):
            overrides.append(f"hydra.sweep.dir={scratch}")  # Hydra y écrit multirun.yaml
        sys.argv[1:] = overrides
        job = _job(task, config_name, texts, folders, share, failures)
        with hydra_without_code():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()
    table = folders.sweep_table() if folders is not None else None
    if table:
        console.log.info(table)
    if failures:
        sys.exit(1)


def _job(
    task: Task,
    config_name: str,
    texts: Texts,
    folders: RunFolders | None,
    share: Callable[[Settings], None],
    failures: list[int],
) -> Callable[[DictConfig], float | None]:
    def job(cfg: DictConfig) -> float | None:
        hydra_job = HydraConfig.get()
        swept = hydra_job.mode == RunMode.MULTIRUN
        try:
            if swept:
                console.log.info(
                    f"Balayage   : tâche {hydra_job.job.num}, {' '.join(hydra_job.overrides.task)}"
                )
            refuse_unread_keys([*map(str, cfg), *texts], config_name)
            if folders is None:
                return task({**to_plain(cfg, resolve=True), **texts})
            with folders.open(cfg, texts) as settings:
                share(settings)
                result = task(settings)
            folders.note_result(result)
            return result
        except BrokenPipeError:
            raise
        except Exception as error:  # ici plutôt que dans run : Hydra ajouterait sa propre phrase
            if not swept:
                leave(error, config_name)
            failures.append(hydra_job.job.num)
            tell(error, config_name)
            if folders is not None:
                folders.note_result(None)
            return None

    return job
