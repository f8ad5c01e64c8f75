"""Faire passer des tâches à un modèle : les trouver, les mesurer, en tirer un tableau."""

import contextlib
import difflib
import logging
import os
import random
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from gpt_lightning.errors import UserError
from gpt_lightning.harness.adapter import HarnessModel
from gpt_lightning.typing import JsonObject

FOLDER = Path(__file__).with_name("tasks")
LOCAL = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
SEED = 1234  # des exemples tirés : la valeur du harnais


class Result(NamedTuple):
    """Une mesure d'une tâche, son erreur type (None si le harnais n'en donne pas), et ses questions."""

    task: str
    metric: str
    value: float
    error: float | None
    items: int


def find_tasks(names: Sequence[str], text: str = "") -> TaskManager:
    """Le catalogue où ces tâches sont toutes ; `text` est celui de mot_suivant.

    UserError, qui nomme la plus proche, si l'une n'existe pas.
    """
    ours = all(name in LOCAL for name in names)
    with _quiet():
        catalogue = TaskManager(include_path=str(FOLDER), include_defaults=not ours, metadata={"text": text})
    listed = [*LOCAL, *catalogue.all_tasks]
    for name in names:
        if not catalogue.match_tasks([name]):
            close = difflib.get_close_matches(name, listed, n=1)
            hint = f" : vouliez-vous dire {close[0]} ?" if close else "."
            raise UserError(f"La tâche {name} n'existe pas{hint} Celles d'ici sont {', '.join(LOCAL)}.")
    return catalogue


def load_tasks(names: Sequence[str], catalogue: TaskManager, num_fewshot: int = 0) -> JsonObject:
    """Ces tâches et leurs données, telles que le harnais les range. UserError si leurs données ne se trouvent pas."""
    with _quiet(), _seed():
        try:
            loaded = catalogue.load(list(names))
        except UserError:  # notre phrase, sur un corpus d'ici
            raise
        except (OSError, ValueError) as error:  # le hub de Hugging Face, hors ligne ou injoignable
            raise UserError(
                f"Les données de {', '.join(names)} ne se trouvent pas ({type(error).__name__}) : avec un réseau, "
                "HF_HUB_OFFLINE=0 et la même commande les téléchargent dans ~/.cache/huggingface, que l'on peut "
                "copier ; "
                f"{', '.join(LOCAL)} ne demandent rien."
            ) from None
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            raise UserError(
                f"La tâche {name} exécute du code, ou lit des images : ce modèle n'a que du texte."
            )
        if task.get_config("num_fewshot") != 0:  # zéro, dans une tâche, est voulu
            task.set_config(key="num_fewshot", value=num_fewshot)
        task.set_fewshot_seed(seed=SEED)
    return dict(loaded)


def measure(
    model: HarnessModel, tasks: JsonObject, *, limit: int | None = None, resamples: int = 1000
) -> JsonObject:
    """Les mesures de ces tâches, telles que le harnais les range ; une erreur type, s'il le faut, vient de `resamples`
    rééchantillonnages, 0 : aucune."""
    with _quiet(), _seed():
        results = evaluate(model, tasks, limit=limit, bootstrap_iters=resamples, log_samples=False)
    assert results is not None
    for settings in results["configs"].values():
        for key in ("text", "config_source"):  # le corpus, et un chemin de cette machine
            settings.get("metadata", {}).pop(key, None)
    return {**results, "lm_eval_version": version("lm_eval"), "date": time.time()}


def rows(results: JsonObject) -> Iterator[Result]:
    """Les mesures d'une évaluation, tâche par tâche."""
    for task, values in results["results"].items():
        for key, value in values.items():
            name, comma, rest = key.partition(",")
            if comma and isinstance(value, int | float) and not name.endswith("_stderr"):
                error = values.get(f"{name}_stderr,{rest}")
                items = results["n-samples"].get(task, {}).get("effective", 0)
                yield Result(task, name, float(value), error if isinstance(error, float) else None, items)


def as_table(measures: Sequence[Result]) -> Iterator[str]:
    """Le tableau de ces mesures : la valeur, et l'intervalle de confiance à 95 %."""
    width = max(len(result.task) for result in measures)
    for task, metric, value, error, items in measures:
        spread = f" ± {1.96 * error:.4f}" if error is not None else ""
        yield f"{task:{width}}  {metric:12}{value:10.4f}{spread}  ({items})".replace(".", ",")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ce que le harnais a à dire en anglais ne sort pas, ses barres d'avancement non plus."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "transformers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _seed() -> Iterator[None]:
    """Sème le hasard de Python comme le harnais le fait, et le rend tel qu'il était."""
    before = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(before)
