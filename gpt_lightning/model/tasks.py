"""Ce qu'un modèle apprend à faire : continuer un texte, répondre, classer.

Une tâche est une classe d'ici, un module de données (`data/`), et une commande. Elle dit tout ce en quoi elle diffère
des autres : la perte d'un lot, ce qu'un pas en fait, ses mesures, et comment un modèle s'évalue sur un corpus.
Légende des formes : B lot, T jetons, C emb_dim, N positions ou textes à prédire, E étiquettes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from gpt_lightning.model.classifier import GPTClassifier, labels_loss
from gpt_lightning.model.confusion import ClassReport, confusion
from gpt_lightning.model.gpt import GPTModel
from gpt_lightning.model.score import Batch, LabelScore, Progress, Score, score, score_answers, score_labels

Data: TypeAlias = (
    Any  # chaque tâche connaît le sien : des fenêtres, des conversations ou des textes étiquetés
)


class BatchLoss(NamedTuple):
    """La perte moyenne d'un lot, (), en nats ; combien de jetons ou de textes il prédit ; leur confusion, (E, E)."""

    mean: Tensor
    targets: int
    counts: Tensor | None = None


class Text:
    """Continuer un texte : chaque jeton d'une fenêtre se prédit. C'est aussi ce que les autres tâches y ajoutent."""

    name = "text"
    # ce que sait son modèle, et la commande qui s'en sert
    does, command = "continuer un texte", "python generate.py"
    training = "python train.py"  # ce qui en entraîne un
    following: tuple[str, ...] = ("generate", "decoding=nucleus")  # ce que l'on tape ensuite
    writes = True  # son modèle écrit du texte
    labelled = False  # son modèle donne une étiquette : il en garde la liste, et ce qu'il lit d'un texte
    varies = False  # ses lots n'ont pas tous la même forme

    def forward(self, model: GPTModel) -> Callable[..., Tensor]:
        """Ce que chaque lot fait calculer à `model` : la seule fonction que l'entraînement compile."""
        return model.loss

    def batch_loss(
        self, forward: Callable[..., Tensor], batch: Batch, n_labels: int = 0, *, counted: bool = False
    ) -> BatchLoss:
        """La perte d'un lot ; avec `counted`, une classification y joint sa confusion (E, E)."""
        x, y = batch  # (B, T), (B, T), entiers de la base
        return BatchLoss(forward(x.long(), y.long()), y.numel())

    def step_loss(self, loss: BatchLoss, batch: Batch) -> Tensor:
        """Ce dont un pas prend le gradient, ()."""
        return loss.mean

    def metrics(self, loss: float, bytes_per_target: float, counts: Tensor | None) -> dict[str, float]:
        """Les mesures d'une évaluation, d'après sa perte (nats) et, pour une classification, sa confusion (E, E)."""
        return {
            "val/perplexity": math.exp(min(loss, 700.0)),
            "val/bits_per_byte": loss / math.log(2) / bytes_per_target,
        }

    def evaluate(
        self, model: GPTModel, data: Data, splits: Sequence[str], progress: Progress
    ) -> Score | LabelScore:
        """Ce que `model` vaut sur ces moitiés de `data`, un module de données prêt : un Score, ou un LabelScore."""
        return score(
            model,
            data.tokens(*splits),
            sum(data.store.n_bytes(split) for split in splits),
            max_length=data.max_length,
            stride=data.stride,
            batch_size=data.batch_size,
            progress=progress,
        )


class Rows(Text):
    """Prédire des lignes : leurs lots n'ont pas tous la même forme, ni autant à prédire."""

    varies = True

    def step_loss(self, loss: BatchLoss, batch: Batch) -> Tensor:
        """Un pas est la moyenne de ce qu'il prédit, où que ce soit : un lot qui en a plus y compte plus."""
        return loss.mean * (loss.targets * batch.share)


class Answers(Rows):
    """Répondre : d'une conversation, seules les réponses se prédisent."""

    name = "instruct"
    does, command = "répondre à des questions", "python -m gpt_lightning chat"
    training = "python train.py experiment=instruct"
    following = ("chat",)

    def batch_loss(
        self, forward: Callable[..., Tensor], batch: Batch, n_labels: int = 0, *, counted: bool = False
    ) -> BatchLoss:
        return BatchLoss(forward(batch.ids, batch.targets, batch.where, batch.segments), batch.n_targets)

    def evaluate(self, model: GPTModel, data: Data, splits: Sequence[str], progress: Progress) -> Score:
        return score_answers(model, data.batches(*splits), data.answer_bytes(*splits), progress=progress)


class Labels(Rows):
    """Classer : le dernier jeton d'un texte donne une note à chaque étiquette."""

    name = "classify"
    does, command = "classer un texte", "python -m gpt_lightning classify"
    training = "python train.py experiment=classify"
    following = ("classify", 'prompt="..."')
    writes, labelled = False, True

    def forward(self, model: GPTModel) -> Callable[..., Tensor]:
        assert isinstance(model, GPTClassifier)
        return model.classify

    def batch_loss(
        self, forward: Callable[..., Tensor], batch: Batch, n_labels: int = 0, *, counted: bool = False
    ) -> BatchLoss:
        scores = forward(batch.ids, batch.where)  # (N, E)
        counts = confusion(batch.targets, scores.argmax(-1), n_labels) if counted else None
        return BatchLoss(labels_loss(scores, batch.targets, batch.weights), batch.n_targets, counts)

    def metrics(self, loss: float, bytes_per_target: float, counts: Tensor | None) -> dict[str, float]:
        assert counts is not None
        report = ClassReport(counts)
        return {"val/accuracy": report.accuracy, "val/f1": report.macro_f1}

    def evaluate(self, model: GPTModel, data: Data, splits: Sequence[str], progress: Progress) -> LabelScore:
        assert isinstance(model, GPTClassifier)
        return score_labels(model, data.batches(*splits), progress=progress)


TEXT, ANSWERS, LABELS = Text(), Answers(), Labels()
TASKS: dict[str, Text] = {task.name: task for task in (TEXT, ANSWERS, LABELS)}
WRITERS = tuple(name for name, task in TASKS.items() if task.writes)


def starting_tasks(task: str) -> tuple[str, ...]:
    """Les tâches des modèles d'où celle-ci peut partir : classer part de tout modèle, écrire de ceux qui écrivent."""
    return WRITERS if TASKS[task].writes else tuple(TASKS)


def compatible_tasks(task: str) -> tuple[str, ...]:
    """Les tâches des modèles qui s'évaluent sur les données de celle-ci : tout ce qui écrit prédit un texte."""
    return WRITERS if TASKS[task].writes else (task,)


def of_labels(labels: Sequence[str]) -> str:
    """La tâche d'un modèle qui vient d'ailleurs, d'après les étiquettes qu'il annonce."""
    return LABELS.name if labels else TEXT.name
