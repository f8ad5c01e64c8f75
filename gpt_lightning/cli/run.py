"""Lancer une tâche : composer conf/, ouvrir le dossier, prévenir les autres processus, répondre en français."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gpt_lightning import layout
from gpt_lightning.cli import console, defaults, effects, habits, hydra_words, options, processes, signals
from gpt_lightning.cli.arguments import Texts, swept_values, take_free_text, text_overrides
from gpt_lightning.cli.composition import CONF, to_plain
from gpt_lightning.cli.explain import explain, leave, refuse_unread_keys, tell
from gpt_lightning.cli.folders import RunFolders
from gpt_lightning.cli.inheritance import Inheritance
from gpt_lightning.cli.resume import refuse_in_sweep
from gpt_lightning.cli.sweeps import WritePage
from gpt_lightning.cli.targets import Inherit, hydra_without_code, inherit_nothing
from gpt_lightning.errors import UserError
from gpt_lightning.typing import Settings

Task = Callable[[Settings], float | None]  # la perte, pour un balayage


def run(
    task: Task,
    config_name: str,
    *,
    opens_run: bool = False,
    inherits: str | None = None,
    sweeps: bool = True,
    ineffective: Iterable[effects.IneffectiveKeys] = (),
    sweep_page: WritePage | None = None,
) -> None:
    """Compose conf/<config_name>.yaml avec la ligne de commande et appelle `task` (une fois par point d'un balayage).

    Avec `opens_run`, chaque appel a son dossier d'exécution, peut en reprendre un, et s'étend à plusieurs
    processus ; sans lui, la commande ne laisse rien derrière elle. Le groupe `inherits` est celui de l'exécution que
    `ckpt_path` désigne, sauf ce que la commande en dit. Sans `sweeps`, la commande refuse un balayage : elle ne
    finit pas, ou change ce que la tâche suivante lirait ; `sweep_page` écrit la page d'un balayage fini. Une clé
    que `ineffective` dit sans effet est refusée. Une faute de la personne donne une phrase sur stderr et le code 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra laisse passer ses exceptions, nous les traduisons
    console.make_outputs_safe(lasting=opens_run)
    if opens_run:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch le lit à son premier tenseur
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
        shows = not set(options.SHOWS).isdisjoint(options.names_in(argv))
        if "--info" not in options.names_in(argv):  # Hydra l'écrit dans son propre journal
            console.show_log(on_stdout=opens_run and not shows)
        overrides, texts = take_free_text(hydra_words.honour_keys(argv, opens_run=opens_run))
        if shows:
            overrides = _without_running(overrides, texts)
        elif options.is_sweep(overrides):
            if not sweeps:
                raise UserError(
                    f"{config_name} ne se balaie pas : retirez -m, et donnez une valeur à chaque clé."
                )
            if opens_run:
                refuse_in_sweep(overrides)
        elif not sweeps:
            _refuse_several_values(overrides, config_name)
        task = _refuse_ineffective_first(task, [*overrides, *texts], config_name, ineffective)
        inheritance = Inheritance(config_name, resumes=opens_run, group=inherits)
        inherit = inherit_nothing if "--help" in options.names_in(overrides) else inheritance.complete
        folders = RunFolders(overrides, sweep_page) if opens_run else None
        with layout.one_look(now=launcher is not None or options.is_sweep(overrides)):
            _lead(task, config_name, overrides, texts, launcher, folders, inherit)


def _without_running(overrides: list[str], texts: Texts) -> list[str]:
    """Les mêmes arguments, pour ce qui ne lance rien : le texte libre s'y voit, l'aide n'a pas de balayage."""
    given, words = options.separate(overrides)
    if "--hydra-help" in options.names_in(given):
        return given  # celle de Hydra ne dépend d'aucune clé
    if "--help" in options.names_in(given):
        words = [word for word in words if swept_values(word) == [word]]
    return [*given, *words, *text_overrides(texts)]


def _refuse_several_values(overrides: list[str], config_name: str) -> None:
    """UserError sur une clé à plusieurs valeurs, pour une commande qui n'a pas de balayage."""
    for word in options.separate(overrides)[1]:
        if swept_values(word) != [word]:
            raise UserError(f"« {word} » donne plusieurs valeurs, et {config_name} n'en prend qu'une.")


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
    inherit: Inherit,
) -> None:
    """Exécute la tâche, en donnant ses réglages aux processus du lanceur.

    Dans un balayage, une tâche qui échoue n'arrête pas les autres : la commande finit sur 1.
    """
    failures: list[int] = []
    with tempfile.TemporaryDirectory() as scratch, processes.share_settings(launcher) as share:
        if options.is_sweep(overrides):
            overrides.append(f"hydra.sweep.dir={scratch}")  # Hydra y écrit multirun.yaml
        sys.argv[1:] = overrides
        job = _job(task, config_name, texts, folders, share, failures)
        with hydra_without_code(inherit):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()
    table = folders.sweep_table() if folders is not None else None
    if table:
        console.log.info(table)
    if failures:
        sys.exit(1)


def _of_its_own(settings: Settings, swept: bool) -> Settings:
    """Les réglages d'une tâche sans dossier d'exécution : dans un balayage, elle a le sien dans `output_dir`."""
    if swept and settings.get("output_dir") is not None:
        return {**settings, "output_dir": str(Path(settings["output_dir"], str(HydraConfig.get().job.num)))}
    return settings


def _job(
    task: Task,
    config_name: str,
    texts: Texts,
    folders: RunFolders | None,
    share: Callable[[Settings], None],
    failures: list[int],
) -> Callable[[DictConfig], float | None]:
    keys = {text.partition("=")[0] for text in sys.argv[1:]}  # le reste est hérité

    def job(cfg: DictConfig) -> float | None:
        hydra_job = HydraConfig.get()
        swept = hydra_job.mode == RunMode.MULTIRUN
        try:
            if swept:
                own = [text for text in hydra_job.overrides.task if text.partition("=")[0] in keys]
                console.log.info(f"Balayage   : tâche {hydra_job.job.num}, {' '.join(own)}")
            refuse_unread_keys([*map(str, cfg), *texts], config_name)
            if folders is None:
                return task({**_of_its_own(to_plain(cfg, resolve=True), swept), **texts})
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
