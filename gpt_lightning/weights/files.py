"""Lire un fichier de poids sans jamais exécuter ce qu'il contient."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gpt_lightning.errors import UserError


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Traduit en une UserError toute erreur de lecture de `path`."""
    from safetensors import SafetensorError

    try:
        yield
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        SafetensorError,
        UnicodeDecodeError,
    ) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"{path} n'est pas lisible sans risque : ce n'est pas un fichier de poids, il est abîmé, ou il contient "
            f"du code, qui ne sera jamais exécuté ({why})."
        ) from None


def read_torch(path: Path) -> Any:
    """Le contenu d'un fichier torch, les poids projetés en mémoire si son format le permet."""
    with reading(path):
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"  # l'ancien format de torch ne se projette pas
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def read_json(path: Path) -> dict[str, Any]:
    """Un objet JSON. UserError s'il manque ou n'en est pas un."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        raise UserError(f"{path} manque ou n'est pas du JSON.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} n'est pas un objet JSON.")
    return values
