"""Ce qu'un modèle apprend à faire : continuer un texte, répondre, classer.

Une tâche est une classe d'ici, un module de données (`data/`), et une commande. Elle dit tout ce en quoi elle diffère
des autres : la perte d'un lot, ce qu'un pas en fait, ses mesures, et comment un modèle s'évalue sur un corpus.
Légende des formes : B lot, T jetons, C emb_dim, N positions ou textes à prédire, E étiquettes.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_lightning.errors import UserError
from gpt_lightning.model.classifier import GPTClassifier, labels_loss
from gpt_lightning.model.confusion import ClassReport, confusion
from gpt_lightning.model.fast.cross_entropy import linear_cross_entropy
from gpt_lightning.model.gpt import GPTModel

ROWS = 256  # lignes de logits d'une tête quantifiée, calculées à la fois
Progress = Callable[[int, int], None]  # (jetons ou textes faits, leur total)
# chaque tâche connaît les siens : des fenêtres, des conversations ou des textes étiquetés, et leur module de données
Batch: TypeAlias = Any
Data: TypeAlias = Any


class BatchLoss(NamedTuple):
    """La perte moyenne d'un lot, (), en nats ; combien de jetons ou de textes il prédit ; leur confusion, (E, E)."""

    mean: Tensor
    targets: int
    counts: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """`loss` en nats par jeton prédit, `tokens` prédits, `bytes` de texte UTF-8."""

    loss: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        return self.loss * self.tokens / math.log(2) / self.bytes


def score(
    model: GPTModel,
    ids: Sequence[int],
    n_bytes: int,
    *,
    max_length: int,
    stride: int,
    batch_size: int = 8,
    progress: Progress = lambda done, total: None,
) -> Score:
    """La perte de `model` sur un texte de (N,) jetons et `n_bytes` octets, en fenêtres qui avancent de `stride`.

    Chaque jeton sauf le premier est prédit une fois, avec max_length - stride jetons devant lui, sauf au début.
    `progress` reçoit les jetons prédits et leur total. UserError si la fenêtre ne va pas au modèle ou au texte.
    """
    if max_length > model.config.context_length:
        context = model.config.context_length
        raise UserError(f"data.max_length={max_length} dépasse le contexte du modèle : essayez {context}.")
    if not 1 <= stride <= max_length:
        raise UserError(
            f"data.stride={stride} sauterait des jetons : il faut de 1 à data.max_length={max_length}."
        )
    if len(ids) < 2:
        raise UserError("Le texte a moins de deux jetons : il n'y a rien à prédire.")
    device, total, scored = next(model.parameters()).device, 0.0, 0
    with torch.inference_mode():
        for group in _batches(_windows(len(ids), max_length, stride), batch_size):
            length = group[0][1] - group[0][0]
            rows = torch.stack([torch.as_tensor(ids[start : end + 1]).long() for start, end, _ in group])
            x, y = rows[:, :-1].to(device), rows[:, 1:].to(device)  # (B, T), (B, T)
            new = torch.tensor([length - count for _, _, count in group], device=device)
            fresh = torch.arange(length, device=device) >= new[:, None]  # (B, T) pas encore prédits
            hidden, targets = model.hidden(x)[fresh], y[fresh]
            mean = _mean_loss(model, hidden, targets)
            total, scored = total + float(mean) * len(targets), scored + len(targets)
            progress(scored, len(ids) - 1)
    return Score(total / scored, scored, n_bytes)


def score_answers(
    model: GPTModel,
    batches: Sequence[Batch],
    n_bytes: int,
    *,
    progress: Progress = lambda done, total: None,
) -> Score:
    """La perte de `model` sur les réponses de conversations, et `n_bytes` octets de réponses.

    `batches` sont des lots de conversations (`ids`, `where`, `targets`, `segments`). UserError si une ligne est plus
    longue que le contexte.
    """
    device, total, scored = next(model.parameters()).device, 0.0, 0
    everything = sum(len(batch.targets) for batch in batches)
    with torch.inference_mode():
        for batch in batches:
            segments = None if batch.segments is None else batch.segments.to(device)
            hidden = model.hidden(batch.ids.to(device), segments=segments).flatten(0, 1)
            mean = _mean_loss(model, hidden[batch.where.to(device)], batch.targets.to(device))
            total += float(mean) * len(batch.targets)
            scored += len(batch.targets)
            progress(scored, everything)
    return Score(total / scored, scored, n_bytes)


@dataclass(frozen=True)
class LabelScore:
    """`loss` en nats par texte ; `counts`, (E, E), la matrice de confusion."""

    loss: float
    counts: Tensor


def score_labels(
    model: GPTClassifier, batches: Sequence[Batch], *, progress: Progress = lambda done, total: None
) -> LabelScore:
    """La perte moyenne de `model` sur des textes étiquetés, et leur matrice de confusion : chaque texte compte autant.

    `batches` sont des lots de textes étiquetés (`ids`, `where`, `targets`).
    """
    device, total, size = next(model.parameters()).device, 0.0, model.class_head.out_features
    everything = sum(len(batch.targets) for batch in batches)
    counts = torch.zeros(size, size, dtype=torch.int64)
    with torch.inference_mode():
        for batch in batches:
            scores = model.classify(batch.ids.to(device), batch.where.to(device)).float().cpu()
            total += float(labels_loss(scores, batch.targets)) * len(batch.targets)
            counts += confusion(batch.targets, scores.argmax(-1), size)
            progress(int(counts.sum()), everything)
    return LabelScore(total / everything, counts)


def _windows(n_tokens: int, max_length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Donne (début, fin, jetons nouveaux) : la fenêtre lit [début, fin) et prédit [début + 1, fin + 1)."""
    seen, start = 0, 0
    while seen < n_tokens - 1:
        end = min(start + max_length, n_tokens - 1)
        yield start, end, end - seen
        seen, start = end, start + stride


def _batches(windows: Iterable[tuple[int, int, int]], size: int) -> Iterator[list[tuple[int, int, int]]]:
    """Range les fenêtres par lots de même longueur."""
    batch: list[tuple[int, int, int]] = []
    for window in windows:
        if batch and (len(batch) == size or window[1] - window[0] != batch[0][1] - batch[0][0]):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _mean_loss(model: GPTModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """La perte moyenne, par morceaux de lignes : (N, C), (N,) -> (). La tête peut être quantifiée."""
    head, size = model.out_head, model.config.vocab_size
    if isinstance(head, nn.Linear):
        return linear_cross_entropy(hidden, head.weight, targets, size)
    parts = zip(hidden.split(ROWS), targets.split(ROWS), strict=True)
    sums = [F.cross_entropy(head(x)[:, :size].float(), y, reduction="sum") for x, y in parts]
    return torch.stack(sums).sum() / len(hidden)


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
            sum(data.store.meta["splits"][split]["bytes"] for split in splits),
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
