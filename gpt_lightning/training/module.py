"""Le LightningModule : le pas d'entraînement, l'évaluation, ce que le checkpoint emporte."""

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gpt_lightning.model import GPTModel
from gpt_lightning.training.loggers.metrics_csv import MetricsCSV
from gpt_lightning.training.optim import OptimConfig, build_optimizer
from gpt_lightning.training.plan import Plan
from gpt_lightning.weights import format as form


class GPTModule(lightning.LightningModule):
    """Entraîne un `GPTModel` sur `data`, un module de données préparé.

    `metrics` garde les dernières valeurs connues ; les callbacks les lisent et les écrivent. `prompts` sont les débuts
    des textes d'exemple ; le checkpoint les garde.
    """

    def __init__(
        self,
        model: GPTModel,
        *,
        data: Any,
        optim: OptimConfig,
        plan: Plan,
        compiled: bool = False,
        prompt: str | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.optim, self.plan = model, data.tokenizer, optim, plan
        self.compiled, self.corpus, stats = compiled, data.credit, data.statistics
        self.prompts = tuple(data.openings()) if prompt is None else (prompt,)
        self.bytes_per_token = stats.val_bytes / stats.val_tokens  # de la validation
        self.tokens_seen = 0  # jetons d'entraînement, tous processus compris
        self.metrics: dict[str, float] = {}
        self.train_sum = Running()  # pertes depuis la dernière ligne du journal
        self._val_sum = Running()
        self._loss = torch.compile(model.loss) if compiled else model.loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch  # (B, T), (B, T), entiers de la base
        loss = self._loss(x.long(), y.long())
        self.train_sum.add(loss, y.numel())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self._val_sum.add(self._loss(x.long(), y.long()), y.numel())

    def on_validation_epoch_end(self) -> None:
        self.record_validation(self._val_sum.mean(self.trainer.strategy))
        self.log("val/loss", self.metrics["val/loss"], logger=False)  # pour les callbacks qui surveillent

    def record_validation(self, loss: float) -> None:
        """Garde et écrit la perte de validation (nats par jeton), et ce qui s'en déduit."""
        found = {"val/loss": loss, "val/perplexity": math.exp(min(loss, 700.0))}
        found["val/bits_per_byte"] = loss / math.log(2) / self.bytes_per_token
        self.metrics |= found
        self.write(found)

    def write(self, metrics: dict[str, float]) -> None:
        """Envoie `metrics` aux journaux, à l'abscisse du pas d'optimiseur courant."""
        if not self.trainer.sanity_checking:
            for logger in self.trainer.loggers:
                logger.log_metrics({**metrics, "tokens": self.tokens_seen}, step=self.trainer.global_step)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None  # 16-mixed
        optimizer = build_optimizer(self.model, self.optim, fused=not scaled)
        total, tokens = self.plan.total_steps or 0, self.plan.tokens_per_step
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.optim.schedule.factor(step, total, tokens)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Lightning attendrait la passe avant suivante : un modèle de trop en mémoire
        self.zero_grad(set_to_none=True)
        self.tokens_seen += self.plan.tokens_per_step

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Coupe les gradients et garde leur norme. Lightning 2.6 refuse de le faire avec un AdamW fusionné."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        if (
            gradient_clip_algorithm is not None
            and str(gradient_clip_algorithm) == "value"
            and gradient_clip_val
        ):
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
            gradient_clip_val = None
        self.grad_norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val or math.inf)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rng_state"] = torch.get_rng_state()
        if self.device.type == "cuda":
            checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state(self.device)
        description = form.Description(self.model.config, self.tokenizer, self.prompts, self.corpus)
        form.write_progress(checkpoint, description, tokens=self.tokens_seen, metrics=self.metrics)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.tokens_seen, self.metrics = form.read_progress(checkpoint)
        torch.set_rng_state(checkpoint["rng_state"].cpu())
        if self.device.type == "cuda" and "cuda_rng_state" in checkpoint:
            torch.cuda.set_rng_state(checkpoint["cuda_rng_state"].cpu(), self.device)
        for logger in self.trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.resume(checkpoint["global_step"])

    def on_train_start(self) -> None:
        if self.trainer.global_rank:  # sans quoi tous les processus tireraient le même dropout
            torch.manual_seed(
                torch.initial_seed() + self.trainer.global_rank + 1000 * self.trainer.global_step
            )


class Running:
    """Une moyenne pondérée tenue sur l'accélérateur : rien n'est lu avant `mean`."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._weight = 0

    def add(self, value: Tensor, weight: int) -> None:
        weighted = value.detach().float() * weight
        self._sum = weighted if self._sum is None else self._sum + weighted
        self._weight += weight

    def mean(self, strategy: Any) -> float:
        """La moyenne sur tous les processus ; repart de zéro. NaN si rien n'a été ajouté."""
        dtype = torch.float32 if strategy.root_device.type == "mps" else torch.float64
        total = torch.zeros(2, device=strategy.root_device, dtype=dtype)
        if self._sum is not None:
            total[0], total[1] = self._sum, self._weight
        total = strategy.reduce(total, reduce_op="sum")
        self._sum, self._weight = None, 0
        return (total[0] / total[1]).item()
