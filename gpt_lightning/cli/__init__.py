"""La colle avec Hydra : composer, prendre le texte libre, ouvrir le dossier, répondre en français.

`run(task, config_name)` est tout ce qu'une commande appelle. La tâche reçoit un dictionnaire de valeurs simples :
au-delà de ce dossier, Hydra n'existe plus.
"""

from gpt_lightning.cli.run import run

__all__ = ["run"]
