"""Les poids : `load` est le seul chemin d'un fichier à un modèle, `export` celui d'un modèle à d'autres outils."""

from gpt_lightning.weights.loading import load, resumable_step
from gpt_lightning.weights.placing import place, ready
from gpt_lightning.weights.sources import find_checkpoint

__all__ = ["find_checkpoint", "load", "place", "ready", "resumable_step"]
