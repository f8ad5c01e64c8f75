"""Ce qui est dit avant et après un entraînement."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning

from gpt_lightning import messages
from gpt_lightning.model import GPTModel, cost
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.learned import flops_per_token, is_frozen, n_learned
from gpt_lightning.training.baselines import baselines
from gpt_lightning.training.hardware import Machine, peak_memory
from gpt_lightning.training.module import GPTModule
from gpt_lightning.training.plan import Plan
from gpt_lightning.weights import StartingPoint

FILES = (
    "checkpoints",
    "plots",
    "samples",
    "metrics.csv",
    "config.yaml",
    "environment.yaml",
)
log = logging.getLogger("gpt_lightning")  # seul le premier processus écrit ses informations


def before(
    settings: Mapping[str, Any],
    machine: Machine,
    module: GPTModule,
    start: StartingPoint,
    *,
    corpus: str,
    rate: float | None,
) -> None:
    """Dit ce qui sera fait : appareil, corpus, modèle, mémoire, plan, durée, point de départ ou de reprise.

    `rate` est le débit mesuré de la machine, en FLOP/s, d'où la durée se déduit.
    """
    config, plan, data = module.model.config, module.plan, settings["data"]
    memory = cost.training_memory(
        config,
        batch_size=data["batch_size"],
        length=data["max_length"],
        precision=machine.precision,
        fused_attention=config.kernels == "fused" and (machine.device.type != "cpu" or config.drop_rate == 0),
        learned=n_learned(module.model),
        head=not isinstance(module.model, GPTClassifier),
    )
    seconds = estimated_seconds(module.model, plan, length=data["max_length"], rate=rate)
    flops = flops_per_token(module.model, data["max_length"])
    log.info(messages.device(machine.device.type, machine.world_size, machine.precision, module.compiled))
    log.info(corpus)
    log.info(messages.model(cost.n_parameters(config), flops, memory))
    if is_frozen(module.model):
        whole = sum(p.numel() for p in module.model.parameters())
        adapters = module.adapted.config if module.adapted else None
        full = cost.BYTES_PER_PARAMETER[machine.precision] * whole
        log.info(messages.learning(n_learned(module.model), whole, adapters, memory["parameters"], full))
    log.info(messages.plan(plan.total_steps, plan.epochs, plan.tokens_per_step, plan.accumulate, seconds))
    log.info(messages.optimizer(module.optim.optimizer.__name__, module.optim.lr, plan.tokens_per_step))
    if start.source:
        own = start.tokenizer is not None
        log.info(messages.starting_from(start.source, cost.n_parameters(config), own))
    if settings["ckpt_path"]:
        log.info(messages.resuming(settings["ckpt_path"], plan.done_steps))


def estimated_seconds(model: GPTModel, plan: Plan, *, length: int, rate: float | None) -> float | None:
    """Ordre de grandeur de la durée : les FLOP du plan, à la moitié du débit `rate` (FLOP/s)."""
    if plan.total_tokens is None or rate is None:
        return None
    return flops_per_token(model, length) * (plan.total_tokens - plan.done_tokens) / rate / 0.5


def after(
    trainer: lightning.Trainer, module: GPTModule, folder: Path, seconds: float, following: Sequence[str]
) -> None:
    """La table de la fin : pertes, coût, fichiers écrits, commandes à taper ensuite."""
    found = []
    if module.labels and trainer.is_global_zero:
        log.info(messages.comparing())
        pairs = {split: [one[:2] for one in several] for split, several in module.data.texts.items()}
        found = baselines(pairs["train"], pairs["val"], module.labels)
    results = {
        **module.metrics,
        "baselines": found,
        "best": best_score(trainer),
        "tokens": module.tokens_seen,
        "memory": peak_memory(trainer.strategy.root_device),
        "disk": taken(folder),
    }
    log.info(messages.finished(str(folder), results, seconds, written(folder), following))


def taken(folder: Path) -> int:
    """La place que prend un dossier sur le disque, en octets ; un fichier à deux noms compte une fois."""
    found = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return sum({(one.st_dev, one.st_ino): one.st_size for one in found}.values())


def written(folder: Path) -> list[str]:
    """Les fichiers d'un dossier d'exécution, tels qu'on les nomme à la fin."""
    found = []
    for name in FILES:
        path = folder / name
        inside = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
        if path.exists():
            few = inside if 0 < len(inside) <= 3 else []
            found.append(f"{name}/{{{', '.join(few)}}}" if len(few) > 1 else f"{name}/" if inside else name)
    return found


def best_score(trainer: lightning.Trainer) -> float | None:
    """La meilleure perte de validation que les checkpoints ont retenue."""
    scores = [getattr(c, "best_model_score", None) for c in trainer.checkpoint_callbacks]
    found = [float(score) for score in scores if score is not None and not math.isnan(float(score))]
    return min(found, default=None)
