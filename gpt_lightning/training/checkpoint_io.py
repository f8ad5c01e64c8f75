"""Écrire et lire un checkpoint : pour de bon, et sans le tenir deux fois en mémoire."""

from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gpt_lightning import durable
from gpt_lightning.typing import State
from gpt_lightning.weights.untrusted import check_names, read_torch


class DurableCheckpointIO(TorchCheckpointIO):
    """torch.save dans un fichier voisin, qui va sur le disque et prend sa place d'un coup ; une lecture vérifie tout.

    Lightning 2.6 écrit d'abord tout en mémoire, puis le copie : quatre gigaoctets de trop pour 163 M de paramètres. Il
    n'attend pas le disque, tait un accès refusé, et ne vérifie pas ce qu'il relit. Un chemin qui n'est pas local reste
    à sa charge.
    """

    def save_checkpoint(self, checkpoint: State, path: str | Path, storage_options: object = None) -> None:
        """Écrit `checkpoint`. WriteError si le disque refuse ; le fichier d'avant est alors intact."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        with durable.refusals(path):
            # pas ses parents : un dossier d'exécution effacé n'est pas recréé
            path.parent.mkdir(exist_ok=True)
        with durable.replacing(path) as beside:
            with open(beside, "wb") as file:
                torch.save(checkpoint, file)
            check_names(beside)  # ce qui ne se relirait pas ne remplace rien

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., object] | None = None,
        weights_only: bool | None = True,
    ) -> State:
        """Lit `path`, vérifié en entier. UserError s'il est abîmé."""
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        return read_torch(Path(path), mmap=False)
