"""Les poids : `load` est le seul chemin d'un fichier à un modèle, `export` celui d'un modèle à d'autres outils."""

from gpt_lightning.layout import find_checkpoint
from gpt_lightning.weights.inference import load_for_inference, to_device
from gpt_lightning.weights.loading import load, resumable
from gpt_lightning.weights.starting_point import StartingPoint, starting_point

__all__ = [
    "StartingPoint",
    "find_checkpoint",
    "load",
    "load_for_inference",
    "resumable",
    "starting_point",
    "to_device",
]
