"""De quoi refaire un entraînement : commande, versions, commit, machine."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

from gpt_lightning.typing import Settings

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


def environment() -> Settings:
    """Le contenu de environment.yaml, en valeurs simples."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": sys.orig_argv,  # telle que tapée : sys.argv est réécrit pour Hydra
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # le projet lancé depuis ses sources, sans être installé
        return None


def _git() -> dict[str, str | bool] | None:
    """Le commit du projet et s'il a des changements ; None hors d'un dépôt ou sans git."""
    root = str(Path(__file__).resolve().parents[2])

    def ask(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, check=True)
        return done.stdout.decode("utf-8", "replace").strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
