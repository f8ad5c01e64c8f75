"""Faire travailler Lightning : ce que le Trainer reçoit, et les contournements, chacun avec sa raison."""

import ctypes
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import lightning
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import CheckpointIO

from gpt_lightning.errors import UserError, choice
from gpt_lightning.training.callbacks import (
    Finish,
    FirstStep,
    LastCheckpoint,
    Lines,
    ReportPage,
    StopOnSignal,
    Stopped,
)
from gpt_lightning.training.checkpoint_io import DurableCheckpointIO
from gpt_lightning.training.divergence import Diverged
from gpt_lightning.training.hardware import Machine
from gpt_lightning.training.loggers.prometheus import Prometheus
from gpt_lightning.training.loggers.tracker import Tracker
from gpt_lightning.training.module import GPTModule
from gpt_lightning.training.plan import Plan, is_done, prolong
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.typing import Settings
from gpt_lightning.weights.format import TrainingProgress
from gpt_lightning.weights.loading import Resumed
from gpt_lightning.wording import cannot_compile, number

log = logging.getLogger("gpt_lightning")  # seul le premier processus écrit ses informations
COMPILING_PAYS = 180.0  # secondes : en deçà, la minute de compilation coûte plus qu'elle ne rapporte
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def prepare_process(run: RunConfig) -> None:
    """Prépare ce processus (la graine, la mémoire, le silence de Lightning), et nomme le dossier de l'exécution."""
    _quiet()
    keep_memory()
    lightning.seed_everything(run.seed, verbose=False)
    log.info(f"Dossier    : {run.output_dir}")


def _quiet() -> None:
    """Fait taire les messages que Lightning répète, et que les nôtres donnent déjà en français."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning)\.")
    warnings.filterwarnings(
        "ignore", message=".*(isinstance\\(treespec, LeafSpec\\)|does not have many workers).*"
    )


def keep_memory() -> None:
    """Demande à la glibc de garder la mémoire libérée : libérer puis redemander les grands tampons à chaque pas coûte
    de 10 à 25 % d'un pas sur CPU (benchmarks/RESULTS.md). Sans effet ailleurs que sous Linux."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def should_compile(asked: bool | str, device: str, seconds: float | None = None) -> bool:
    """Vrai s'il faut compiler le modèle. `auto` : si l'entraînement (`seconds` estimées) dure assez pour payer
    l'attente, sur CUDA, où il va deux fois plus vite, et sur CPU, où il y gagne jusqu'à un tiers
    (benchmarks/RESULTS.md), s'il y a de quoi compiler. Une durée que l'on ne sait pas est longue sur CUDA."""
    choice("compile", asked, ("auto", True, False))
    if asked != "auto":
        return bool(asked)
    if device not in ("cuda", "cpu") or seconds is None:
        return device == "cuda"
    return seconds > COMPILING_PAYS and (device == "cuda" or can_compile())


def can_compile() -> bool:
    """Vrai si torch compile ici pour le processeur : il y faut un compilateur C++, et les en-têtes de Python."""
    import torch

    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2))
    except Exception:  # torch lève de tout : ce qu'il lève dit seulement qu'il ne peut pas
        return False
    return True


def decide(
    run: RunConfig, module: GPTModule, machine: Machine, threads: int | str, seconds: float | None
) -> RunConfig:
    """Décide la précision et la compilation, et renvoie ces réglages ; compile le modèle de `module` s'il le faut.

    `threads` est ce que cette clé est devenue, `seconds` la durée estimée de l'entraînement, None si on ne la sait pas.
    """
    compile = should_compile(run.compile, machine.device.type, seconds)
    if compile:
        module.compile_forward()
    return run.decide(machine.precision, compile, threads)


def arguments(run: RunConfig, machine: Machine, accumulate: int) -> dict[str, object]:
    """Le nœud `trainer` de la configuration, accordé à la machine : ce que `lightning.Trainer` reçoit.

    Nos intervalles sont en pas d'optimiseur, ceux de Lightning en lots : un pas en lit `accumulate`. Le plan compte les
    pas et Finish arrête l'entraînement : Lightning n'a pas d'époque à compter. Le chargeur partage lui-même les
    fenêtres. Le Trainer juge tout en se construisant, avant que le corpus ne soit lu ; `follow` lui donne ensuite le
    plan.
    """
    values = run.trainer
    given = {
        **values,
        "devices": machine.devices,
        "num_nodes": machine.num_nodes,
        "precision": machine.precision,
        "max_epochs": -1,
        "max_steps": -1,
        "accumulate_grad_batches": accumulate,
        "use_distributed_sampler": False,
        "plugins": _plugins(values["plugins"]),
    }
    if values["val_check_interval"] is None and values["check_val_every_n_epoch"] is None:
        given["val_check_interval"] = run.eval_every * accumulate
    return given


def equipment(
    run: RunConfig,
    loggers: list[Logger],
    callbacks: Iterable[lightning.Callback],
    received: Callable[[], int],
) -> dict[str, object]:
    """Les objets que le Trainer reçoit en plus de ses réglages ; `received()` donne le signal reçu, ou 0."""
    return {
        "default_root_dir": run.output_dir,
        "logger": loggers or False,
        "callbacks": choose_callbacks(callbacks, run.trainer, received),
    }


def follow(
    trainer: lightning.Trainer,
    plan: Plan,
    run: RunConfig,
    loggers: Iterable[Logger] = (),
    began: float | None = None,
) -> None:
    """Donne le plan au Trainer : une époque limitée (trainer.limit_train_batches) y fait des pas entiers.

    Dans une reprise, les journaux reprennent après les pas faits, et oublient ce qui venait ensuite. La durée annoncée
    en cours de route compte depuis `began` (time.monotonic).
    """
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, Lines) and began is not None:
            callback.began = began
    # trainer.fast_dev_run dit déjà combien de lots
    if run.trainer["limit_train_batches"] is not None and not run.trainer["fast_dev_run"]:
        trainer.limit_train_batches = plan.steps_per_epoch * plan.accumulate
    for logger in loggers if plan.resumes else ():
        if hasattr(logger, "resume"):
            logger.resume(plan.done_steps)


def serve_metrics(port: int | None) -> list[Logger]:
    """Le journal que Prometheus lit sur ce port ; aucun sans port."""
    return [] if port is None else [Prometheus(port)]


def begin(trainer: lightning.Trainer, values: Settings, plan: Sequence[str], environment: Settings) -> None:
    """Ouvre les services de `logger`, avec les réglages que config.yaml garde, et donne à la page ce qu'elle montre.

    `plan` sont les lignes de ce qui sera fait. UserError si un service refuse.
    """
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, ReportPage):
            callback.told.plan, callback.told.environment = plan, environment
    for logger in trainer.loggers:  # sans les nôtres si trainer.fast_dev_run n'en veut pas
        if isinstance(logger, Tracker | Prometheus):
            logger.begin(values)


def _plugins(given: object) -> list[object]:
    plugins = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    has_io = any(isinstance(plugin, CheckpointIO) for plugin in plugins)
    return plugins if has_io else [*plugins, DurableCheckpointIO()]


def choose_callbacks(
    callbacks: Iterable[lightning.Callback],
    values: Mapping[str, object],
    received: Callable[[], int] = lambda: 0,
) -> list[lightning.Callback]:
    """Les callbacks demandés, moins ceux que le Trainer (`values`) interdit, plus ceux sans lesquels rien ne finit.

    `received()` donne le signal reçu, ou 0.
    """
    unwanted = {"enable_checkpointing": Checkpoint, "enable_progress_bar": ProgressBar}
    refused = tuple(kind for key, kind in unwanted.items() if not values[key])
    allowed = [callback for callback in callbacks if not isinstance(callback, refused)]
    return [FirstStep(), *allowed, StopOnSignal(received), Finish()]


def why_over(planned: Plan, resumed: Resumed, callbacks: Iterable[lightning.Callback]) -> str | None:
    """Pourquoi l'entraînement que l'on reprend est fini, et de quoi le prolonger ; None s'il ne l'est pas.

    Il a fait ses pas, ou l'arrêt anticipé l'a arrêté.
    """
    step = resumed.progress.step
    patiences = [callback.patience for callback in callbacks if isinstance(callback, EarlyStopping)]
    spent = [patience for patience in patiences if resumed.progress.evaluated and resumed.waited >= patience]
    patience = f"callbacks.early_stopping.patience={max(resumed.waited + 1, 2 * max(spent, default=0))}"
    if is_done(planned, resumed.progress):
        longer = prolong(planned, resumed.progress) + (f" {patience}" if spent else "")
        return (
            f"cet entraînement est à son dernier pas ({number(step)}) ; prolongez-le, par exemple {longer}."
        )
    if spent:
        return (
            f"l'arrêt anticipé a arrêté cet entraînement au pas {number(step)} ; il continue avec {patience}, ou "
            "callbacks.early_stopping=null."
        )
    return None


def finish_without_training(
    done: TrainingProgress, callbacks: Iterable[lightning.Callback], why: str
) -> float:
    """L'entraînement repris est fini : le journal dit `why` ; renvoie sa dernière perte de validation.

    Retire le checkpoint de trop qu'une mort juste après le dernier pas a laissé.
    """
    for callback in callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.prune()
    log.info(f"Rien à faire : {why}")
    return done.metrics["val/loss"]


def fit(
    trainer: lightning.Trainer, module: GPTModule, data: lightning.LightningDataModule, ckpt_path: str | None
) -> int:
    """Entraîne ; renvoie le signal qui a arrêté l'entraînement, 0 s'il est allé au bout.

    cli/signals.py note les signaux : les gestionnaires de Lightning 2.6 communiquent dans le signal, et s'y bloquent.
    UserError si un autre processus est mort.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    try:
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    except Stopped as stopped:
        return stopped.signum
    except Diverged:
        if trainer.global_rank:  # tous s'arrêtent au même pas, et le premier le dit
            sys.exit(0)
        raise
    except UserError:
        raise
    except Exception as error:
        sentence = _explain(error, trainer, ckpt_path if not module.started else None)
        if sentence is None:
            raise
        raise UserError(sentence) from error
    return 0


def _explain(error: Exception, trainer: lightning.Trainer, restoring: str | None) -> str | None:
    """Explique une erreur qui n'est pas la nôtre : un autre processus est mort, le modèle ne se compile pas, ou
    `restoring` ne se relit pas."""
    lost = r"gloo|NCCL|TCPStore|onnection (closed|reset)|process group"
    if trainer.world_size > 1 and isinstance(error, RuntimeError) and re.search(lost, str(error)):
        return (
            "Un autre processus de cet entraînement s'est arrêté : s'il a dit pourquoi, c'est plus haut ; "
            "reprenez au dernier checkpoint avec ckpt_path=."
        )
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return cannot_compile(type(error).__name__, str(error))
    if restoring is None:
        return None
    first = (str(error).splitlines() or [""])[0][:120]
    return f"{restoring} ne se reprend pas ({f'{type(error).__name__}: {first}'}) : init_from= part de ses poids seuls."
