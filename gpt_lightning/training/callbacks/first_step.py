"""Un premier pas qui ment : la perte du premier lot, refaite sur le CPU en float32, doit être la même."""

import copy
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from gpt_lightning.training.evaluating import evaluating
from gpt_lightning.wording import number, percent

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

ALLOWED = {"32-true": 0.001}  # écart relatif ; en bf16 et en fp16, HALF
HALF = 0.01
log = logging.getLogger("gpt_lightning")
Loss = Callable[[Any], float]


class FirstStep(Callback):
    """Avant le premier lot, sur CUDA et MPS, compare sa perte à celle du CPU ; le journal dit ce qui ne va pas.

    Certaines versions de ces appareils calculent faux sans erreur.
    """

    def __init__(self) -> None:
        self._compared = False

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "GPTModule", batch: Any, batch_idx: int
    ) -> None:
        if self._compared:
            return
        self._compared = True
        entire = isinstance(
            trainer.strategy, SingleDeviceStrategy | DDPStrategy
        )  # sinon, il n'en a qu'une part
        if pl_module.device.type == "cpu" or not trainer.is_global_zero or not entire:
            return
        few = first_row(batch)

        def on_device(given: Any) -> float:
            with trainer.precision_plugin.forward_context():
                return loss_of(pl_module, pl_module.model, given)

        def on_cpu(given: Any) -> float:
            plain = copy.deepcopy(pl_module.model).cpu().float()
            return loss_of(pl_module, plain, move_data_to_device(given, torch.device("cpu")))

        sentence = compare(few, on_device, on_cpu, str(trainer.precision), pl_module.device.type)
        if sentence is not None:
            log.warning(sentence)


def compare(batch: Any, on_device: Loss, on_cpu: Loss, precision: str, device: str) -> str | None:
    """La phrase qui dit que ces deux pertes (nats) diffèrent trop ; None si elles sont les mêmes."""
    here, there = on_device(batch), on_cpu(batch)
    gap = abs(here - there) / max(abs(there), 1e-9)
    if gap <= ALLOWED.get(precision, HALF) or not math.isfinite(
        there
    ):  # une perte infinie : le garde la dira
        return None
    away = percent(gap) if math.isfinite(gap) else "pas un nombre"
    half = "trainer.precision=32-true, " if precision not in ALLOWED else ""
    return (
        f"Attention  : la perte du premier lot est {number(here, 4)} sur {device}, et {number(there, 4)} sur le CPU en "
        f"float32 ({away}) : cet appareil calcule peut-être faux. Essayez {half}une autre version de torch, ou "
        f"trainer.accelerator=cpu."
    )


@torch.no_grad()
def loss_of(module: "GPTModule", model: Any, batch: Any) -> float:
    """La perte d'un lot par `model`, sans dropout, en nats."""
    with evaluating(model):
        loss = module.task.batch_loss(module.task.forward(model), batch, len(module.labels))
    return float(loss.mean)


def first_row(batch: Any) -> Any:
    """La première ligne d'un lot (x, y) : refaire tout le lot sur le CPU serait long ; un autre lot, en entier."""
    plain = isinstance(batch, list | tuple) and all(
        isinstance(x, torch.Tensor) and x.ndim == 2 for x in batch
    )
    return [x[:1] for x in batch] if plain and len(batch) == 2 else batch
