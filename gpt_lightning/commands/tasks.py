"""Les tâches du harnais (lm-eval) : `python -m gpt_lightning evaluate tasks=[glose_mot,h_aspire]`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning import durable, layout
from gpt_lightning.cli import console
from gpt_lightning.harness import request
from gpt_lightning.typing import JsonObject, Settings
from gpt_lightning.wording import duration, number

if TYPE_CHECKING:
    from gpt_lightning.commands.corpus import DataModule
    from gpt_lightning.harness.measure import Result
    from gpt_lightning.weights.inference import Inference

EVALUATIONS = "evaluations"


def check(settings: Settings) -> list[str]:
    """Les noms des tâches demandées. UserError si un réglage n'a pas de sens, ou si lm-eval n'est pas là."""
    return request.read(settings["tasks"], settings["limit"], settings["num_fewshot"])


def measure_tasks(
    settings: Settings, names: list[str], loaded: "Inference", data: "DataModule | None"
) -> float:
    """Mesure ces tâches, écrit le tableau et le fichier ; renvoie la première mesure. `data` : un texte à deviner."""
    from gpt_lightning.harness import measure
    from gpt_lightning.harness.adapter import HarnessModel

    text = request.text_of(names, data, settings["split"])
    tasks = measure.load_tasks(names, measure.find_tasks(names, text), settings["num_fewshot"])
    model = HarnessModel(loaded.model, loaded.tokenizer, progress=console.ProgressLine(_progress_line))
    began = time.monotonic()
    results = measure.measure(model, tasks, limit=settings["limit"])
    seconds, measures = time.monotonic() - began, list(measure.rows(results))
    if model.cut:
        console.log.info(
            f"{number(model.cut)} demandes dépassent le contexte de {model.max_length} jetons : leur début est coupé."
        )
    results = {**results, "model": loaded.source, "seconds": seconds}
    checkpoint = Path(loaded.source)
    in_run = checkpoint.suffix == ".ckpt" and checkpoint.parent.name == layout.CHECKPOINTS
    path = _write(layout.run_of(checkpoint) if in_run else layout.OUTPUTS, results)
    print(f"Modèle           {loaded.source}\n" + "\n".join(measure.as_table(measures)))
    print(f"{duration(seconds)} ; les mesures sont dans {path}")
    if in_run:
        _show(checkpoint, measures)
    return measures[0].value


def _write(folder: Path, results: JsonObject) -> Path:
    """Écrit les mesures dans le dossier de l'exécution, ou sous outputs/ si le modèle vient d'ailleurs."""
    path = folder / EVALUATIONS / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    with durable.refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, json.dumps(results, ensure_ascii=False, indent=1, default=str) + "\n")
    return path


def _show(checkpoint: Path, results: Sequence["Result"]) -> None:
    """Ajoute les mesures au TensorBoard de l'exécution, au pas de ce checkpoint."""
    from torch.utils.tensorboard import SummaryWriter

    from gpt_lightning.weights.format import step_of

    step = step_of(checkpoint)
    with SummaryWriter(str(layout.run_of(checkpoint)), filename_suffix=f".{EVALUATIONS}") as writer:
        for task, metric, value, *_ in results:
            writer.add_scalar(f"{EVALUATIONS}/{task}/{metric}", value, step)


def _progress_line(done: int, total: int, seconds: float) -> str:
    """La phrase qui dit où en est une évaluation."""
    left = duration(seconds / done * (total - done))
    return (
        f"{number(done)} demandes sur {number(total)}, {number(done / seconds, 1)} par seconde, reste {left}"
    )
