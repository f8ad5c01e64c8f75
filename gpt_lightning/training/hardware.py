"""La machine : ses appareils, la précision qu'ils calculent, leur crête, la mémoire employée."""

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch

from gpt_lightning import wording
from gpt_lightning.errors import UserError, number
from gpt_lightning.weights.device import native_bf16

# Crêtes bf16 denses (sans parcimonie) en TFLOP/s, d'après les fiches des fabricants. Le premier nom trouvé gagne.
PEAKS = (
    ("H100 PCIe", 756),
    ("H100 NVL", 835),
    ("H100", 989),
    ("H200 NVL", 835),
    ("H200", 989),
    ("GH200", 989),
    ("H800", 989),
    ("B200", 2250),
    ("GB200", 2250),
    ("B100", 1750),
    ("A100", 312),
    ("A800", 312),
    ("A10G", 70),
    ("A10", 125),
    ("A30", 165),
    ("A40", 150),
    ("L40S", 362),
    ("L40", 181),
    ("L4", 121),
    ("RTX 6000 Ada", 364),
    ("RTX A6000", 155),
    ("RTX 5090", 210),
    ("RTX 4090", 165),
    ("RTX 3090", 71),
    ("MI300X", 1307),
    ("MI250X", 383),
)
log = logging.getLogger("gpt_lightning")
PROBE_FLOPS = 4_000_000_000  # d'une mesure : quelques dizaines de millisecondes
BF16_GAIN = 1.2  # ce que le bf16 doit gagner sur un produit pour payer ses conversions


class Launcher(Protocol):
    """Ce que torchrun ou srun disent des processus qu'ils ont lancés."""

    @property
    def name(self) -> str: ...

    @property
    def per_node(self) -> int: ...

    @property
    def nodes(self) -> int: ...


@dataclass(frozen=True)
class Machine:
    """Ce sur quoi l'entraînement a lieu : appareils (par machine) et machines, précision résolue."""

    device: torch.device  # celui du premier processus
    devices: int | str | list[int]  # tels que Lightning les prend
    num_nodes: int
    world_size: int  # processus en tout
    precision: str

    def matmul_rate(self) -> float | None:
        """Voir `matmul_rate`, sur cet appareil et dans cette précision."""
        return matmul_rate(self.device, self.precision)


def resolve(
    values: Mapping[str, Any],
    launcher: Launcher | None = None,
    automatic: Callable[[torch.device], str] | None = None,
) -> Machine:
    """La machine que `accelerator`, `devices`, `num_nodes` et `precision` de `trainer` désignent.

    `automatic` est ce que `precision: auto` devient sur un appareil. Sous torchrun ou srun, c'est `launcher` qui dit
    combien de processus il y a. UserError si la configuration en demande d'autres, ou un appareil qui n'est pas là.
    """
    device, devices, num_nodes = _device(values["accelerator"]), values["devices"], values["num_nodes"]
    if launcher is not None:
        for key, given in (("devices", launcher.per_node), ("num_nodes", launcher.nodes)):
            if values[key] not in (1, "auto", -1, given, str(given)):
                raise UserError(
                    f"trainer.{key}={values[key]}, mais {launcher.name} en a lancé {given} : retirez trainer.{key}."
                )
        devices, num_nodes = launcher.per_node, launcher.nodes
    precision = values["precision"]
    if precision == "auto":
        precision = (automatic or automatic_precision)(device)
    return Machine(device, devices, num_nodes, _count(devices, device.type) * num_nodes, precision)


def _device(accelerator: str) -> torch.device:
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        mps = accelerator == "gpu" and torch.backends.mps.is_available()
        if not mps:
            raise UserError(
                f"trainer.accelerator={accelerator}, mais aucun GPU n'est visible : essayez trainer.accelerator=auto."
            )
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise UserError("trainer.accelerator=mps, mais cet appareil n'est pas là : essayez accelerator=auto.")
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    return torch.device("cpu")


def _count(devices: Any, kind: str) -> int:
    """Le nombre d'appareils d'une machine, dit comme Lightning le prend : 2, -1, auto, "0,1", [0, 1]."""
    if isinstance(devices, list):
        return len(devices)
    text = str(devices).replace(" ", "").strip(",")
    if text in ("auto", "-1"):
        return torch.cuda.device_count() if kind == "cuda" else 1
    return len(text.split(",")) if "," in str(devices) else int(text)


@lru_cache
def automatic_precision(device: torch.device, tokens: int = 1024, width: int = 768) -> str:
    """bf16-mixed si c'est là plus rapide que 32-true, qui ne perd rien.

    Sur CPU, c'est mesuré : le produit d'une couche cachée de cette largeur C, (tokens, C) x (C, 4 C), dans les deux
    types. L'appareil pourrait savoir calculer en bf16 et n'y rien gagner.
    """
    if device.type != "cpu":
        return "bf16-mixed" if native_bf16(device) else "32-true"
    if not native_bf16(device):
        return "32-true"
    tokens = max(1, min(tokens, PROBE_FLOPS // (8 * width * width)))
    seconds = {dtype: _product_seconds(tokens, width, dtype) for dtype in (torch.float32, torch.bfloat16)}
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    log.info(
        f"Précision  : un produit de {tokens} x {width} va {wording.number(ratio, 1)} fois plus vite en "
        "bf16 qu'en float32"
    )
    return "bf16-mixed" if ratio > BF16_GAIN else "32-true"


def _product_seconds(tokens: int, width: int, dtype: torch.dtype) -> float:
    """Le temps d'un produit (tokens, C) x (C, 4 C), le meilleur de cinq. Rien n'est tiré du générateur de torch."""
    x = torch.full((tokens, width), 1 / width, dtype=dtype)
    weight = torch.full((width, 4 * width), 1 / width, dtype=dtype)
    found = []
    for _ in range(6):
        began = time.perf_counter()
        torch.mm(x, weight)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def matmul_rate(device: torch.device, precision: str) -> float | None:
    """Le débit d'un produit de matrices dans le type de `precision`, en FLOP/s, mesuré à l'instant.

    None sur un appareil qu'on ne sait pas attendre. Rien n'est tiré du générateur de torch.
    """
    if device.type not in ("cpu", "cuda"):
        return None
    wait = torch.cuda.synchronize if device.type == "cuda" else torch.cpu.synchronize
    size, repeats = (1024, 2) if device.type == "cpu" else (4096, 10)
    dtype = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4], torch.float32)
    a = torch.full((size, size), 1 / size, device=device, dtype=dtype)
    a @ a
    wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        a @ a
    wait(device)
    return repeats * 2 * size**3 / (time.perf_counter() - began)


def peak_flops(device: torch.device, precision: str, given: float | None = None) -> float | None:
    """La crête d'un appareil en FLOP/s : `given`, ou la table ; None plutôt qu'un nombre faux.

    La table ne vaut que pour les produits en 16 bits d'un GPU connu. UserError si `given` n'est pas positif.
    """
    if given is not None:
        return float(number("peak_flops", given, above=0))
    if device.type != "cuda" or precision == "32-true":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for known, peak in PEAKS if re.search(rf"\b{known}\b", name)), None)


def peak_memory(device: torch.device) -> float | None:
    """Le pic de mémoire, en octets : sur CUDA celui de l'appareil, sinon du processus ; None si le système se tait."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)  # macOS compte en octets, Linux en Kio
