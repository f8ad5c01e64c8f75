"""Faire passer des tâches à un modèle : les trouver, les mesurer, en tirer un tableau."""

import contextlib
import difflib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from gpt_lightning.errors import UserError
from gpt_lightning.harness.adapter import HarnessModel
from gpt_lightning.typing import JsonObject

FOLDER = Path(__file__).with_name("tasks")
LOCAL = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
TEXT = "mot_suivant"  # la tâche qui lit le texte de `data`
SEED = 1234  # des exemples tirés, et du rééchantillonnage : les valeurs du harnais


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


def measure(
    model: HarnessModel,
    names: Sequence[str],
    catalogue: TaskManager,
    *,
    limit: int | None = None,
    num_fewshot: int = 0,
) -> JsonObject:
    """Les mesures de ces tâches, telles que le harnais les range. UserError si leurs données ne se trouvent pas."""
    with _quiet():
        try:
            catalogue.load(list(names))
        except (OSError, ValueError) as error:  # le hub de Hugging Face, hors ligne ou injoignable
            raise UserError(
                f"Les données de {', '.join(names)} ne se trouvent pas ({type(error).__name__}) : avec un réseau, "
                "HF_HUB_OFFLINE=0 et la même commande les téléchargent dans ~/.cache/huggingface, que l'on peut "
                "copier ; "
                f"{', '.join(LOCAL)} ne demandent rien."
            ) from None
        results = simple_evaluate(
            model=model,
            tasks=list(names),
            num_fewshot=num_fewshot,
            limit=limit,
            task_manager=catalogue,
            bootstrap_iters=1000,
            log_samples=False,
            random_seed=0,
            numpy_random_seed=SEED,
            torch_random_seed=SEED,
            fewshot_random_seed=SEED,
        )
    assert results is not None
    for settings in results["configs"].values():
        settings.get("metadata", {}).pop("text", None)
    return dict(results)


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
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def public(results: Mapping[str, object]) -> JsonObject:
    """Ce qui se garde dans un fichier : tout, sauf la machine et son environnement."""
    hidden = ("pretty_env_info", "git_hash", "samples", "config")
    return {key: value for key, value in results.items() if key not in hidden}
