"""Écrire report.html, la page de l'exécution : à chaque évaluation, et à la fin."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback

from gpt_lightning.durable import surviving
from gpt_lightning.errors import UserError
from gpt_lightning.training.evaluating import evaluating
from gpt_lightning.training.page import run
from gpt_lightning.wording import number

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

SHOWN = 24  # jetons de la phrase dont l'attention se montre


class ReportPage(Callback):
    """Écrit `folder`/report.html, remplacée d'un coup ; `told` est ce que la commande lui dit de plus."""

    def __init__(self, *, folder: str) -> None:
        self.folder, self.told = Path(folder), run.Told()
        self.path: Path | None = None  # celle qui est écrite
        self._ids: list[int] | None = None  # la phrase dont l'attention se montre

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        # trainer.fast_dev_run n'écrit rien
        if trainer.sanity_checking or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.told.results = _so_far(pl_module.metrics, trainer.global_step, pl_module.seen.tokens)
        with trainer.precision_plugin.forward_context():
            self._look(pl_module)
        self._write()

    def finish(self, results: Sequence[tuple[str, str]], following: Sequence[str]) -> None:
        """Écrit la page de la fin : ses résultats, et quoi taper ensuite. Rien si aucune évaluation ne l'a écrite."""
        if self.path is not None:
            self.told.results, self.told.following, self.told.finished = results, following, True
            self._write()

    def _write(self) -> None:
        with surviving(self.folder):
            self.path = run.write(self.folder, self.told)

    @torch.no_grad()
    def _look(self, module: "GPTModule") -> None:
        """Garde l'attention de la dernière couche sur le premier texte de départ, tel que le modèle le lit."""
        if self._ids is None:
            self._ids = _sentence(module)
        ids = self._ids
        if len(ids) < 2:
            return
        model, layer = module.model, module.model.config.n_layers - 1
        with evaluating(model):
            weights = model.attention(torch.tensor([ids], device=module.device), layer)[0]
        self.told.heads, self.told.layer = weights.float().cpu().tolist(), layer
        self.told.words = [_readable(module.tokenizer, token) for token in ids]


def _sentence(module: "GPTModule") -> list[int]:
    """Les premiers jetons du premier texte d'exemple, ou de la validation quand il est trop court."""
    texts = [prompt for prompt in module.prompts if prompt.strip()]
    try:
        ids = list(module.tokenizer.encode(texts[0])) if texts else []
    except UserError:  # un mot que ce tokenizer n'a pas
        ids = []
    if len(ids) < 6:  # un début ne montre rien : la validation, elle, a des phrases
        ids = _first_of(next(iter(module.data.val_dataloader()), None)) or ids
    return ids[: min(SHOWN, module.model.config.context_length)]


def _first_of(batch: Any) -> list[int]:
    """La première ligne d'un lot, qu'il soit (x, y) ou un objet qui a `ids`."""
    x = getattr(batch, "ids", None)
    x = batch[0] if x is None and isinstance(batch, list | tuple) else x
    return [int(token) for token in x[0].tolist()] if isinstance(x, torch.Tensor) and x.ndim == 2 else []


def _readable(tokenizer: Any, token: int) -> str:
    try:
        text: str = tokenizer.token_bytes(token).decode("utf-8", errors="backslashreplace")
    except KeyError:  # une ligne de remplissage du vocabulaire
        return "∅"
    return text.replace("\n", "↵").replace(" ", "·") or "∅"


def _so_far(metrics: dict[str, float], step: int, tokens: int) -> list[tuple[str, str]]:
    """Où en est l'entraînement, en nombres."""
    rows = [("pas", number(step)), ("jetons", number(tokens))]
    names = {"train/loss": "perte d'entraînement", "val/loss": "perte de validation"}
    rows += [(name, number(metrics[key], 4)) for key, name in names.items() if key in metrics]
    if "val/loss" in metrics:
        rows.append(("perplexité", number(math.exp(min(metrics["val/loss"], 700)), 1)))
    return rows
