"""Les tâches du harnais (lm-eval) : `python -m gpt_lightning evaluate tasks=[glose_mot,h_aspire]`."""

import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning import durable, layout
from gpt_lightning.cli import console
from gpt_lightning.errors import UserError, whole
from gpt_lightning.typing import JsonObject, Settings
from gpt_lightning.wording import duration, number

if TYPE_CHECKING:
    from gpt_lightning.commands.corpus import DataModule
    from gpt_lightning.harness.measure import Result
    from gpt_lightning.weights.inference import Inference

EVALUATIONS = "evaluations"


def check(settings: Settings) -> list[str]:
    """Les noms des tâches demandées. UserError si un réglage n'a pas de sens, ou si lm-eval n'est pas là."""
    asked = settings["tasks"]
    names = [part.strip() for part in asked.split(",")] if isinstance(asked, str) else asked
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"tasks={asked} : il faut une liste de noms, tasks=[glose_mot,h_aspire].")
    if settings["limit"] is not None:
        whole("limit", settings["limit"], 1)
    whole("num_fewshot", settings["num_fewshot"], 0)
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            'tasks= demande lm-eval : pip install "gpt_lightning[evals]", ou make .venv-evals/.pret puis '
            ".venv-evals/bin/python à la place de python."
        )
    return list(dict.fromkeys(names))


def measure_tasks(
    settings: Settings, names: list[str], loaded: "Inference", data: "DataModule | None"
) -> float:
    """Mesure ces tâches, écrit le tableau et le fichier ; renvoie la première mesure. `data` : un texte à deviner."""
    from gpt_lightning.data.text import SlidingWindowDataModule
    from gpt_lightning.harness import measure
    from gpt_lightning.harness.adapter import HarnessModel

    text = ""
    if measure.TEXT in names:
        if not isinstance(data, SlidingWindowDataModule):
            raise UserError("mot_suivant lit un texte : ajoutez data=text data.path=texte.txt split=all.")
        splits = ("train", "val") if settings["split"] == "all" else (settings["split"],)
        text = data.tokenizer.decode([int(index) for index in data.tokens(*splits)[:]])
    catalogue = measure.find_tasks(names, text)
    model = HarnessModel(loaded.model, loaded.tokenizer, progress=console.ProgressLine(_progress_line))
    began = time.monotonic()
    options = {key: settings[key] for key in ("limit", "num_fewshot")}
    results = measure.measure(model, names, catalogue, **options)
    seconds, measures = time.monotonic() - began, list(measure.rows(results))
    if model.cut:
        console.log.info(
            f"{number(model.cut)} demandes dépassent le contexte de {model.max_length} jetons : leur début est coupé."
        )
    path = _write(loaded.source, {**measure.public(results), "model": loaded.source, "seconds": seconds})
    print(f"Modèle           {loaded.source}\n" + "\n".join(measure.as_table(measures)))
    print(f"{duration(seconds)} ; les mesures sont dans {path}")
    _show(path.parent.parent, measures)
    return measures[0].value


def _write(source: str, results: JsonObject) -> Path:
    """Écrit les mesures dans le dossier de l'exécution, ou sous outputs/ si le modèle vient d'ailleurs."""
    checkpoint = Path(source)
    is_run = checkpoint.suffix == ".ckpt" and checkpoint.parent.name == layout.CHECKPOINTS
    folder = (layout.run_of(checkpoint) if is_run else layout.OUTPUTS) / EVALUATIONS
    path = folder / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    with durable.refusals(path):
        folder.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, json.dumps(results, ensure_ascii=False, indent=1, default=str) + "\n")
    return path


def _show(run: Path, results: Sequence["Result"]) -> None:
    """Ajoute les mesures au TensorBoard de l'exécution."""
    if not layout.has_checkpoint(run):
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run), filename_suffix=f".{EVALUATIONS}") as writer:
        for task, metric, value, *_ in results:
            writer.add_scalar(f"{EVALUATIONS}/{task}/{metric}", value)


def _progress_line(done: int, total: int, seconds: float) -> str:
    """La phrase qui dit où en est une évaluation."""
    left = duration(seconds / done * (total - done))
    return (
        f"{number(done)} demandes sur {number(total)}, {number(done / seconds, 1)} par seconde, reste {left}"
    )
