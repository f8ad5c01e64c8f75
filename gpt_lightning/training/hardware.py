"""La machine : ses appareils, la précision qu'ils calculent, leur crête, la mémoire employée."""

import logging
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from gpt_lightning import wording
from gpt_lightning.errors import UserError, number
from gpt_lightning.training.measures import processor, recall
from gpt_lightning.typing import Settings
from gpt_lightning.weights.inference import native_bf16

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
PROBE_FLOPS = 4_000_000_000  # d'un produit mesuré, au plus
PROBE_WORK = 2 * PROBE_FLOPS  # d'une mesure, dans chaque type : un dixième de seconde sur une machine libre
BF16_GAIN = 1.5  # ce que le bf16 doit gagner sur un produit pour payer ses conversions, et que le bruit ne franchit pas
# Par thread : en deçà, le produit ne se mesure pas. Sur deux cœurs à AVX512-BF16 (AMD Zen 5, torch 2.13), le rapport
# du float32 au bf16 suit les FLOP de chaque thread : 0,8 à 0,9 pour un million, 1,2 à 1,3 pour deux, 2 pour quatre, 2,5
# à 3 pour huit (mais 1,5 à 3 si d'autres occupent les cœurs), 3,3 pour dix-sept, 4 à 4,4 à partir de cent. Un
# pas de model=tiny, à un million (8 textes de 32 jetons), est une fois et demie plus lent en bf16-mixed ; à huit (16
# textes de 128, deux threads), un septième plus rapide ; celui de model=mini (134 millions), deux fois.
SMALL_FLOPS = 16_000_000


class Launcher(Protocol):
    """Les processus que torchrun ou srun ont lancés."""

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
        """Le débit d'un produit de matrices sur cet appareil, dans cette précision."""
        return matmul_rate(self.device, self.precision)


def resolve(
    values: Settings,
    launcher: Launcher | None = None,
    automatic: Callable[[torch.device], str] | None = None,
) -> Machine:
    """La machine que `accelerator`, `devices`, `num_nodes` et `precision` de `trainer` désignent.

    `automatic` choisit ce que `precision: auto` devient sur un appareil. Sous torchrun ou srun, `launcher` dit combien
    de processus il y a. UserError si la configuration en demande d'autres, ou un appareil qui n'est pas là.
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
        raise UserError(
            "trainer.accelerator=mps, mais cet appareil n'est pas là : essayez trainer.accelerator=auto."
        )
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    return torch.device("cpu")


def _count(devices: int | str | list[int], kind: str) -> int:
    """Le nombre d'appareils d'une machine, écrit comme Lightning le prend : 2, -1, auto, "0,1", [0, 1]."""
    if isinstance(devices, list):
        return len(devices)
    text = str(devices).replace(" ", "").strip(",")
    if text in ("auto", "-1"):
        return torch.cuda.device_count() if kind == "cuda" else 1
    return len(text.split(",")) if "," in str(devices) else int(text)


def automatic_precision(device: torch.device, tokens: int = 1024, width: int = 768) -> str:
    """bf16-mixed si c'est là plus rapide que 32-true, qui ne perd rien.

    Sur CPU, la fonction mesure le produit d'une couche cachée de cette largeur C, (tokens, C) x (C, 4 C), dans les deux
    types, et retient la mesure (measures.py) : l'appareil pourrait savoir calculer en bf16 et n'y rien gagner. Un
    produit trop petit ne se mesure pas.
    """
    if device.type != "cpu":
        return "bf16-mixed" if native_bf16(device) else "32-true"
    threads = torch.get_num_threads()
    if not native_bf16(device) or 8 * tokens * width * width < SMALL_FLOPS * threads:
        return "32-true"
    tokens = max(1, min(tokens, PROBE_FLOPS // (8 * width * width)))
    what = f"float32 / bf16, {tokens} x {width}, {threads} threads, torch {torch.__version__}, {processor()}"
    ratio, source = recall(what, lambda: _bf16_ratio(tokens, width), low=0.01, high=100)
    faster = wording.number(ratio, 1)
    log.info(
        f"Précision  : un produit de {tokens} x {width} va {faster} fois plus vite en bf16 qu'en float32"
        + ("" if source is None else f"\n             (mesure retenue dans {source})")
    )
    return "bf16-mixed" if ratio >= BF16_GAIN else "32-true"


def _bf16_ratio(tokens: int, width: int) -> float:
    """Combien de fois le produit (tokens, C) x (C, 4 C) va plus vite en bf16 qu'en float32.

    Les deux types alternent, pour que la charge de la machine tombe sur l'un comme sur l'autre, et le meilleur temps
    de chacun compte : de 6 à 50 produits, le premier à part. Rien n'est tiré du générateur de torch.
    """
    factors, seconds = {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        shapes = (tokens, width), (width, 4 * width)
        factors[dtype] = [torch.full(shape, 1 / width, dtype=dtype) for shape in shapes]
        torch.mm(*factors[dtype])
        seconds[dtype] = math.inf
    for _ in range(max(6, min(50, PROBE_WORK // (8 * tokens * width * width)))):
        for dtype, pair in factors.items():
            began = time.perf_counter()
            torch.mm(*pair)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - began)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def matmul_rate(device: torch.device, precision: str) -> float | None:
    """Le débit d'un produit de matrices dans le type de `precision`, en FLOP/s ; None sur un appareil dont on ne sait
    pas attendre la fin.

    Il décide de compiler : il se mesure une fois, et se retient (measures.py).
    """
    if device.type not in ("cpu", "cuda"):
        return None
    dtype = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4], torch.float32)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    threads = "" if device.type == "cuda" else f" sur {torch.get_num_threads()} threads"
    what = f"FLOP/s, {dtype}, {name}{threads}, torch {torch.__version__}"
    return recall(what, lambda: _rate(device, dtype), low=1e6, high=1e18).value


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """Le débit d'un produit de matrices carrées, à l'instant. Rien n'est tiré du générateur de torch."""
    wait = torch.cuda.synchronize if device.type == "cuda" else torch.cpu.synchronize
    size, repeats = (1024, 2) if device.type == "cpu" else (4096, 10)
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
    return next((peak * 1e12 for card, peak in PEAKS if re.search(rf"\b{card}\b", name)), None)


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
