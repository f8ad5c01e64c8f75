"""La machine : ce qu'elle peut calculer, ce qu'elle a retenu, ce qu'elle est."""

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

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
PACKAGES = (
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "tiktoken",
    "tensorboard",
    "numpy",
    "gpt_lightning",
)


def peak_flops(device: torch.device, precision: str, given: float | None = None) -> float | None:
    """La crête d'un appareil en FLOP/s : `given`, ou la table ; None plutôt qu'un nombre faux.

    La table ne vaut que pour les produits en 16 bits d'un GPU connu. ValueError si `given` n'est pas positif.
    """
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
            raise ValueError(f"peak_flops={given!r} : il faut des FLOP par seconde, comme 989e12.")
        return float(given)
    if device.type != "cuda" or precision == "32-true":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for known, peak in PEAKS if re.search(rf"\b{known}\b", name)), None)


def peak_memory(device: torch.device) -> float:
    """Le pic de mémoire, en octets : celui de l'appareil sur CUDA, celui du processus ailleurs."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)  # macOS compte en octets, Linux en Kio


def environment() -> dict[str, Any]:
    """De quoi refaire la course : commande, versions, commit, machine."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "git": _git(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
    }


def _git() -> dict[str, Any] | None:
    """Le commit du projet et s'il a des changements ; None hors d'un dépôt ou sans git."""
    root = str(Path(__file__).resolve().parents[2])

    def ask(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line for line in cpuinfo.read_text(errors="replace").splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()
