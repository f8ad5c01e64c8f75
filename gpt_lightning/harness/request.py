"""Ce que l'on demande au harnais, jugé avant que rien ne soit lu : ce fichier n'importe pas lm-eval."""

import importlib.util
from collections.abc import Sequence

from gpt_lightning.errors import UserError, whole

TEXT = "mot_suivant"  # la tâche qui lit le texte de `data`


def read(tasks: object, limit: object, num_fewshot: object, prefix: str = "") -> list[str]:
    """Les noms des tâches demandées. UserError si un réglage n'a pas de sens, ou si lm-eval n'est pas là.

    `prefix` : ce que la phrase met devant le nom d'un réglage.
    """
    names = [part.strip() for part in tasks.split(",")] if isinstance(tasks, str) else tasks
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"{prefix}tasks={tasks} : il faut une liste de noms, {prefix}tasks=[glose_mot,h_aspire]."
        )
    if limit is not None:
        whole(f"{prefix}limit", limit, 1)
    whole(f"{prefix}num_fewshot", num_fewshot, 0)
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            f'{prefix}tasks= demande lm-eval : pip install "gpt_lightning[evals]", ou make .venv-evals/.pret puis '
            ".venv-evals/bin/python à la place de python."
        )
    return list(dict.fromkeys(names))


def text_of(names: Sequence[str], data: object, split: str = "val") -> str:
    """Le texte de `data` où mot_suivant prend ses mots ; vide si elle n'est pas demandée. UserError sans texte."""
    if TEXT not in names:
        return ""
    from gpt_lightning.data.windowed import WindowModule

    if not isinstance(data, WindowModule):
        raise UserError("mot_suivant lit un texte : ajoutez data=text data.path=texte.txt split=all.")
    splits = ("train", "val") if split == "all" else (split,)
    return data.tokenizer.decode([int(index) for index in data.tokens(*splits)[:]])
