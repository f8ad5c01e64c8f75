"""Les questions de chaque tâche de ce dossier, telles que le harnais les lit : son YAML nomme ces fonctions.

`lm_eval --include_path` sur ce dossier les lit aussi. Le harnais donne à chacune les valeurs de `metadata`.
"""

from functools import partial
from pathlib import Path

from datasets import Dataset

from gpt_lightning.data.quiz import Question, next_words, questions
from gpt_lightning.errors import UserError


def _quiz(name: str, **metadata: object) -> dict[str, Dataset]:
    items, shots = questions(name)
    return {"test": _table(items), "shots": _table(shots)}


def _table(made: list[Question]) -> Dataset:
    return Dataset.from_list([question._asdict() for question in made])


glose_mot, mot_glose, h_aspire = (partial(_quiz, name) for name in ("glose_mot", "mot_glose", "h_aspire"))


def mot_suivant(path: str | None = None, text: str | None = None, **metadata: object) -> dict[str, Dataset]:
    """Les mots à deviner d'un texte, donné, ou lu en UTF-8. UserError s'il n'y en a pas."""
    if not text:
        if path is None:
            raise UserError('mot_suivant lit un texte : --metadata \'{"path": "texte.txt"}\'.')
        text = Path(path).read_text(encoding="utf-8")
    pairs = next_words(text)
    return {"test": Dataset.from_list([{"before": before, "word": word} for before, word in pairs])}
