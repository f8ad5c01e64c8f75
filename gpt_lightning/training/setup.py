"""Préparer une course : ce qui doit être vérifié, résolu ou accordé avant que Lightning ne parte."""

import ctypes
import itertools
import logging
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import CheckpointIO

from gpt_lightning.model import GPTConfig
from gpt_lightning.training.checkpoint_io import DirectCheckpointIO
from gpt_lightning.training.optim import OptimConfig, steps_of
from gpt_lightning.training.plan import Plan

PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
REFUSED = {
    "overfit_batches": (
        0,
        "l'ordre des fenêtres est celui du chargeur ; trainer.limit_train_batches limite une époque",
    ),
    "use_distributed_sampler": (False, "le chargeur partage lui-même les fenêtres entre les processus"),
    "reload_dataloaders_every_n_epochs": (0, "le chargeur sait changer d'époque"),
    "barebones": (False, "une course écrit toujours ses mesures et ses checkpoints"),
}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
log = logging.getLogger("gpt_lightning")


def say(trainer: lightning.Trainer, *lines: str) -> None:
    """Écrit dans le journal, depuis le premier processus seulement."""
    if trainer.is_global_zero:
        for line in lines:
            log.info(line)


def quiet() -> None:
    """Fait taire ce que Lightning dit à chaque course et que nos messages disent déjà, en français."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning)\.")
    warnings.filterwarnings(
        "ignore", message=".*(isinstance\\(treespec, LeafSpec\\)|does not have many workers).*"
    )


def keep_memory() -> None:
    """Demande à la glibc de garder la mémoire libérée : rendre puis reprendre les grands tampons à chaque pas coûte
    de 10 à 25 % d'un pas sur CPU (benchmarks/RESULTS.md). Sans effet ailleurs que sous Linux."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def seed(value: Any) -> None:
    """Sème python, numpy et torch. ValueError si ce n'est pas un entier de 32 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise ValueError(f"seed={value!r} : il faut un entier entre 0 et 4294967295.")
    lightning.seed_everything(value, verbose=False)


def trainer_settings(values: dict[str, Any], place: Any = None) -> dict[str, Any]:
    """Les arguments de `lightning.Trainer`, précision résolue. ValueError sur ce que nous refusons.

    Sous torchrun ou srun, `place` (une `processes.Place`) dit combien de processus et de machines il y a.
    """
    for key, (allowed, why) in REFUSED.items():
        if values[key] != allowed:
            raise ValueError(f"trainer.{key}={values[key]} est refusé : {why}.")
    _check_choice("accelerator", values["accelerator"], ACCELERATORS)
    _check_choice("precision", values["precision"], PRECISIONS)
    if values["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            "trainer.accelerator=gpu, mais aucun GPU n'est visible : essayez trainer.accelerator=auto."
        )
    _check_numbers(values)
    _check_devices(values["devices"])
    resolved = dict(values) | _places(values, place)
    if values["precision"] == "auto":
        resolved["precision"] = automatic_precision(values["accelerator"])
    # le plan compte les pas et Finish arrête la course : Lightning n'a pas d'époque à compter
    return resolved | {"max_epochs": -1, "max_steps": -1, "plugins": _plugins(values["plugins"])}


def _plugins(given: Any) -> list:
    plugins = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    has_io = any(isinstance(plugin, CheckpointIO) for plugin in plugins)
    return plugins if has_io else [*plugins, DirectCheckpointIO()]


def _check_numbers(values: dict[str, Any]) -> None:
    for key, least in (
        ("log_every_n_steps", 1),
        ("num_nodes", 1),
        ("accumulate_grad_batches", 1),
        ("max_steps", -1),
    ):
        if isinstance(values[key], bool) or not isinstance(values[key], int) or values[key] < least:
            raise ValueError(f"trainer.{key}={values[key]!r} : il faut un entier d'au moins {least}.")
    for key, least in (("max_epochs", -1), ("gradient_clip_val", 0)):
        value = values[key]
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or value < least
        ):
            raise ValueError(f"trainer.{key}={value!r} : il faut un nombre d'au moins {least}, ou null.")
    for key in ("max_epochs", "max_steps", "limit_train_batches", "limit_val_batches"):
        if values[key] == 0 and not isinstance(values[key], bool):
            raise ValueError(f"trainer.{key}=0 : une course s'entraîne et s'évalue au moins une fois.")


def _places(values: dict[str, Any], place: Any) -> dict[str, int]:
    """`devices` et `num_nodes` du lanceur. ValueError si la configuration en demande d'autres."""
    if place is None:
        return {}
    given = {"devices": place.per_node, "num_nodes": place.nodes}
    for key, value in given.items():
        if values[key] not in (1, "auto", -1, value, str(value)):
            raise ValueError(
                f"trainer.{key}={values[key]}, mais {place.launcher} en a lancé {value} : retirez trainer.{key}."
            )
    return given


def _check_devices(devices: Any) -> None:
    wrong_number = isinstance(devices, bool) or (isinstance(devices, int) and (devices == 0 or devices < -1))
    text = devices.replace(",", "").replace(" ", "") if isinstance(devices, str) else "auto"
    if wrong_number or not (text in ("auto", "-1") or text.isdigit()):
        raise ValueError(f"trainer.devices={devices} : il faut un nombre d'appareils, -1 ou auto.")


def _check_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"trainer.{key}={value} : les choix sont {', '.join(choices)}.")


def automatic_precision(accelerator: str) -> str:
    """bf16-mixed là où le matériel le calcule vraiment (CUDA 8.0, CPU avec AMX ou AVX512-BF16), sinon 32-true."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "32-true"
    if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()):
        return "32-true"
    native = [
        getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    ]
    return "bf16-mixed" if any(probe() for probe in native if probe) else "32-true"


def output_folder(settings: dict[str, Any]) -> Path:
    """Le dossier de la course, créé. ValueError s'il contient déjà une course que l'on ne reprend pas."""
    folder = Path(settings["output_dir"])
    if rank_zero_only.rank != 0:
        return folder
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"{folder}/checkpoints est un fichier : choisissez un autre output_dir=.") from None
    if settings["ckpt_path"] is None and any((folder / "checkpoints").glob("*.ckpt")):
        raise ValueError(
            f"{folder} contient déjà une course : choisissez un autre output_dir=, "
            f"ou reprenez-la avec ckpt_path={folder}."
        )
    return folder


def callbacks(nodes: dict[str, Any] | None, values: dict[str, Any], *more: lightning.Callback) -> list:
    """Les callbacks demandés (un nœud null est retiré), moins ceux que le Trainer interdit."""
    chosen = [node for node in (nodes or {}).values() if node is not None]
    if not values["enable_checkpointing"]:
        chosen = [c for c in chosen if not isinstance(c, Checkpoint)]
    if not values["enable_progress_bar"]:
        chosen = [c for c in chosen if not isinstance(c, ProgressBar)]
    return [*chosen, *more]


def loggers(nodes: dict[str, Any] | None) -> list[Logger] | bool:
    """Les journaux demandés ; False s'il n'y en a aucun."""
    return [node for node in (nodes or {}).values() if node is not None] or False


def compiled(choice: Any, device: str) -> bool:
    """Faut-il compiler le modèle ? `auto` : sur CUDA seulement, où le gain paie l'attente."""
    if choice not in ("auto", True, False):
        raise ValueError(f"compile={choice} : les choix sont auto, true, false.")
    return device == "cuda" if choice == "auto" else choice


def with_vocabulary(values: dict[str, Any], vocab_size: int) -> GPTConfig:
    """La configuration du modèle, avec le vocabulaire du tokenizer si `model.vocab_size` est null."""
    given = values["vocab_size"]
    if given is not None and given < vocab_size:
        raise ValueError(
            f"model.vocab_size={given}, mais le tokenizer a {vocab_size} identifiants : laissez null."
        )
    return GPTConfig.from_dict({**values, "vocab_size": vocab_size if given is None else given})


def check_window(max_length: int, context_length: int) -> None:
    """ValueError si la fenêtre (jetons) dépasse le contexte du modèle."""
    if max_length > context_length:
        raise ValueError(
            f"data.max_length={max_length} dépasse model.context_length={context_length} : "
            f"essayez data.max_length={context_length} data.stride={context_length}."
        )


def limits(settings: dict[str, Any]) -> dict[str, Any]:
    """Les limites de la course, telles que `make_plan` les prend."""
    values = settings["trainer"]
    fast = int(values["fast_dev_run"])
    return {
        "max_epochs": None if fast else values["max_epochs"],
        "max_steps": fast or values["max_steps"],
        "max_tokens": None if fast else settings["max_tokens"],
        "timed": values["max_time"] is not None,
        "eval_every": settings["eval_every"],
    }


def limited(n_batches: int, limit: int | float | None, accumulate: int = 1) -> int:
    """Les lots d'une époque sous trainer.limit_train_batches (un nombre, ou une fraction), en pas entiers.

    ValueError s'il n'en reste pas un pas.
    """
    if limit is None:
        return n_batches
    kept = min(n_batches, limit) if isinstance(limit, int) else int(n_batches * limit)
    if kept < accumulate:
        raise ValueError(
            f"trainer.limit_train_batches={limit} laisse {kept} lots, et un pas en lit {accumulate} : augmentez-le."
        )
    return kept // accumulate * accumulate


def check_validation(n_windows: int, world_size: int) -> None:
    """ValueError si chaque processus n'a pas une fenêtre de validation au moins."""
    if n_windows < world_size:
        raise ValueError(
            f"Le texte de validation n'a que {n_windows} fenêtres pour {world_size} processus : "
            f"essayez data.max_length plus court, ou moins de processus."
        )


def check_schedule(optim: OptimConfig, plan: Plan) -> None:
    """ValueError si le rythme ne tient pas dans la course, ou demande une longueur que l'on ne connaît pas."""
    if plan.total_steps is None:
        fraction = isinstance(optim.warmup, float) and 0 < optim.warmup < 1
        if optim.schedule != "constant" or fraction:
            raise ValueError(
                f"Avec trainer.max_time seul, la longueur de la course est inconnue : "
                f"optim.schedule={optim.schedule} et optim.warmup={optim.warmup} n'ont pas de sens ; "
                f"ajoutez trainer.max_steps=... ou prenez optim.schedule=constant optim.warmup=0."
            )
        return
    warmup = steps_of(optim.warmup, plan.total_steps, plan.tokens_per_step)
    decay = steps_of(optim.decay, plan.total_steps, plan.tokens_per_step) if optim.schedule == "wsd" else 0
    if warmup + decay > plan.total_steps > 0:
        raise ValueError(
            f"La montée ({warmup} pas) et la descente ({decay} pas) dépassent la course ({plan.total_steps} pas) : "
            f"essayez optim.warmup=0.1" + (" optim.decay=0.2." if decay else ".")
        )


def follow(trainer: lightning.Trainer, plan: Plan, accumulate: int) -> None:
    """Accorde le Trainer au plan : accumulation, fin, évaluation comptée en pas d'optimiseur."""
    trainer.accumulate_grad_batches = accumulate
    trainer.fit_loop.epoch_loop.max_steps = -1 if plan.total_steps is None else plan.total_steps
    if trainer.val_check_interval == 1.0:
        trainer.val_check_interval = plan.eval_every * accumulate
        trainer.check_val_every_n_epoch = None
    _ask_less_often(trainer.fit_loop.epoch_loop, trainer.log_every_n_steps)


def _ask_less_often(loop: Any, every: int) -> None:
    """Lightning 2.6 demande à chaque lot si un processus doit s'arrêter, et attend l'appareil pour le savoir ; une fois
    sur `every` suffit, et tous les processus comptent de même."""
    ask = getattr(loop, "_broadcast_sigterm_tensor", None)
    if ask is not None:
        count = itertools.count()
        loop._broadcast_sigterm_tensor = lambda: ask() if next(count) % every == 0 else None


def estimated_seconds(config: GPTConfig, plan: Plan, *, length: int, device: torch.device) -> float | None:
    """Ordre de grandeur de la course : ses FLOP, au débit d'un produit de matrices mesuré à l'instant, à 50 %."""
    if plan.total_steps is None or device.type not in ("cpu", "cuda"):
        return None
    size = 1024 if device.type == "cpu" else 4096
    a = torch.randn(size, size, device=device)
    a @ a
    began = time.perf_counter()
    float((a @ a)[0, 0])
    rate = 2 * size**3 / (time.perf_counter() - began)
    return config.flops_per_token(length) * plan.total_steps * plan.tokens_per_step / rate / 0.5


def hyperparameters(settings: dict[str, Any]) -> dict[str, Any]:
    """Les réglages qui distinguent une course, {"optim.lr": 0.002 ...}, tels que TensorBoard les montre."""
    chosen = {key: settings[key] for key in ("seed", "global_batch_tokens", "max_tokens", "init_from")}
    for group in ("model", "data", "optim", "trainer"):
        chosen |= {
            f"{group}.{key}": value for key, value in settings[group].items() if not key.startswith("_")
        }
    return {
        key: v if isinstance(v, int | float | str) else str(v) for key, v in chosen.items() if v is not None
    }


def written(folder: Path) -> list[str]:
    """Les fichiers d'une course, par dossier, tels qu'on les nomme à la fin."""
    names = (
        "checkpoints",
        "plots",
        "samples",
        "metrics.csv",
        "tensorboard",
        "config.yaml",
        "environment.yaml",
    )
    found = []
    for name in names:
        path = folder / name
        inside = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
        if path.exists():
            few = inside if 0 < len(inside) <= 3 and name != "tensorboard" else []
            found.append(f"{name}/{{{', '.join(few)}}}" if len(few) > 1 else f"{name}/" if inside else name)
    return found


def best_score(trainer: lightning.Trainer) -> float | None:
    """La meilleure perte de validation que les checkpoints ont retenue."""
    scores = [getattr(c, "best_model_score", None) for c in trainer.checkpoint_callbacks]
    found = [float(score) for score in scores if score is not None and not math.isnan(float(score))]
    return min(found, default=None)
