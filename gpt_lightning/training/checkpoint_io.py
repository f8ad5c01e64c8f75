"""Écrire un checkpoint sans le tenir deux fois en mémoire."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class DirectCheckpointIO(TorchCheckpointIO):
    """torch.save dans un fichier voisin, renommé quand il est entier.

    Lightning 2.6 écrit d'abord tout en mémoire, puis le copie : quatre gigaoctets de trop pour 163 M de paramètres. Un
    chemin qui n'est pas local lui reste confié.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        try:
            with open(beside, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
