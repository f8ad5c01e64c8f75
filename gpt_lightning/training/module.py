"""Le LightningModule : le pas d'entraînement, l'évaluation, ce que le checkpoint emporte."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gpt_lightning.model import GPTModel
from gpt_lightning.model.lora import LoRAConfig
from gpt_lightning.model.tasks import TASKS, BatchLoss
from gpt_lightning.model.trainable import is_added
from gpt_lightning.training import divergence, restart
from gpt_lightning.training.data import DataModule, Order
from gpt_lightning.training.divergence import Diverged, DivergenceGuard
from gpt_lightning.training.hardware import native_bf16
from gpt_lightning.training.optim import OptimConfig, build_optimizer
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.training.running import Running, Seen, seed_everything
from gpt_lightning.typing import State
from gpt_lightning.weights import StartingPoint
from gpt_lightning.weights import format as form
from gpt_lightning.wording import number

LEAST_SCALE = 2.0**-10  # GradScaler part de 2**16, et divise par deux à chaque gradient infini


class Adapted(NamedTuple):
    """Les adaptateurs d'un modèle, l'empreinte et l'origine de leur base, et si elle reste hors des checkpoints."""

    config: LoRAConfig
    base: str
    source: str
    alone: bool = False


class GPTModule(lightning.LightningModule):
    """Entraîne un `GPTModel` sur `data`, un module de données préparé.

    `metrics` garde les dernières mesures ; les callbacks les lisent et les écrivent. `prompts` sont les débuts
    des textes d'exemple ; le checkpoint les garde.
    """

    def __init__(
        self,
        model: GPTModel,
        *,
        data: DataModule,
        optim: OptimConfig,
        plan: Plan,
        prompt: str | None = None,
        guard: DivergenceGuard | None = None,
        adapted: Adapted | None = None,
        hyperparameters: Mapping[str, int | float | str] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.optim, self.plan = model, data.tokenizer, optim, plan
        self.data, self.seed, self.corpus = data, data.seed, data.credit
        self.task = TASKS[data.task]
        self.template, self.labels = data.template, data.labels  # de conversations, d'une classification
        self.prompts = tuple(data.openings()) if prompt is None else (prompt,)
        self.hyperparameters = dict(hyperparameters or {})  # ce que les journaux disent de cet entraînement
        self.adapted, self.guard = adapted, guard or DivergenceGuard()
        self.seen, self.metrics = Seen(), dict[str, float]()
        self.paused_seconds = 0.0  # passées à autre chose qu'entraîner : le débit ne les compte pas
        self.pauses = dict[
            str, tuple[float, int]
        ]()  # les longues : ce que dure chacune, et combien il en reste
        self.long_seconds = 0.0  # ce qu'elles ont pris, en tout
        self.started = False  # vrai dès que tout est chargé
        self._resumed = False
        self._val_losses = Running()
        self._confusion: Tensor | None = None  # (E, E) de l'évaluation en cours
        self.counts: Tensor | None = None  # celle de la dernière évaluation, tous processus compris
        self.compiled, self._forward = False, self.task.forward(model)

    @classmethod
    def of(
        cls, run: RunConfig, start: StartingPoint, data: DataModule, plan: Plan, typed: Sequence[str]
    ) -> "GPTModule":
        """Construit le module que `run` demande, sur le modèle de `start` ; `typed` : ce que la commande donne."""
        adapters = run.adapters
        model = start.build(
            data.tokenizer.vocab_size, n_labels=len(data.labels), lora=adapters, train_on=run.learns
        )
        adapted = None
        if adapters is not None:
            adapted = Adapted(adapters, *start.identity(model), run.lora["save"] == "adapters")
        return cls(
            model,
            data=data,
            optim=run.recipe,
            plan=plan,
            prompt=run.prompt,
            guard=DivergenceGuard(run.nan_policy, run.nan_skips),
            adapted=adapted,
            hyperparameters=run.hyperparameters(typed),
        )

    def compile_forward(self) -> None:
        """Compile ce que chaque lot fait calculer au modèle."""
        self.compiled = True
        self._forward = torch.compile(self._forward, dynamic=self.task.varies or None)

    def loss_of(self, batch: object, *, counted: bool = False) -> BatchLoss:
        """La perte d'un lot ; avec `counted`, l'évaluation en cours compte les étiquettes données dans sa confusion."""
        loss = self.task.batch_loss(self._forward, batch, len(self.labels), counted=counted)
        if loss.counts is not None:
            self._confusion = loss.counts if self._confusion is None else self._confusion + loss.counts
        return loss

    def training_step(self, batch: object, batch_idx: int) -> Tensor:
        loss = self.loss_of(batch)
        self.seen.add(loss.mean, loss.targets)
        return self.task.step_loss(loss, batch)

    def validation_step(self, batch: object, batch_idx: int) -> None:
        loss = self.loss_of(batch, counted=True)
        self._val_losses.add(loss.mean, loss.targets)

    def on_validation_epoch_end(self) -> None:
        self.record_validation(self._val_losses.mean(self.trainer.strategy))
        self.seen.evaluated = True
        self.log("val/loss", self.metrics["val/loss"], logger=False)  # pour les callbacks qui surveillent

    def record_validation(self, loss: float) -> None:
        """Garde et écrit la perte de validation (nats par jeton), et ce qui s'en déduit. Diverged si elle diverge."""
        self.guard.check()
        if not math.isfinite(loss):
            raise Diverged(
                f"L'évaluation du pas {number(self.trainer.global_step)} ne donne pas un nombre fini : "
                "l'entraînement s'arrête, et rien n'en est gardé. Reprenez avec un taux plus bas (optim.lr=), ou "
                "trainer.precision=32-true."
            )
        if self.task.labelled:
            self.counts, self._confusion = self._everyones_confusion(), None
        measured = {"val/loss": loss, **self.task.metrics(loss, self.data.bytes_per_target, self.counts)}
        self.metrics |= measured
        self.write(measured)

    def _everyones_confusion(self) -> Tensor:
        """La confusion (E, E) de l'évaluation qui finit, tous processus compris : l'un d'eux a pu ne rien lire."""
        size, strategy = len(self.labels), self.trainer.strategy
        own = torch.zeros(size, size, dtype=torch.int64) if self._confusion is None else self._confusion
        everyone = strategy.reduce(own.to(strategy.root_device), reduce_op="sum")
        assert isinstance(everyone, Tensor)
        return everyone.cpu()

    def pause(self, name: str, seconds: float, left: int) -> None:
        """Compte une longue pause, dont il reste `left` : la durée annoncée ne la met pas dans chaque pas."""
        self.paused_seconds, self.long_seconds = self.paused_seconds + seconds, self.long_seconds + seconds
        self.pauses[name] = seconds, left

    def write(self, metrics: dict[str, float]) -> None:
        """Envoie `metrics` aux journaux, à l'abscisse du pas d'optimiseur courant."""
        if not self.trainer.sanity_checking:
            for logger in self.trainer.loggers:
                counters: dict[str, float] = {"tokens": self.seen.tokens}
                if self.template is not None:
                    counters["targets"] = self.seen.targets
                logger.log_metrics({**metrics, **counters}, step=self.trainer.global_step)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None  # 16-mixed
        half = "16" in str(self.trainer.precision) and native_bf16(self.device)
        optimizer = build_optimizer(self.model, self.optim, fused=not scaled, half=half)
        self._fresh = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        total, tokens = self.plan.total_steps or 0, self.plan.tokens_per_step
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.optim.schedule.factor(step, total, tokens)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Lightning attendrait la passe avant suivante : un modèle de trop en mémoire
        self.zero_grad(set_to_none=True)
        self.seen.step(self._order)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Coupe les gradients, garde leur norme, juge le pas. Lightning 2.6 refuse de couper pour un AdamW fusionné."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        by_value = gradient_clip_algorithm is not None and str(gradient_clip_algorithm) == "value"
        most = math.inf if by_value or not gradient_clip_val else gradient_clip_val
        self.grad_norm = torch.nn.utils.clip_grad_norm_(parameters, most)
        if by_value and gradient_clip_val:
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        self._judge(optimizer)

    def _judge(self, optimizer: torch.optim.Optimizer) -> None:
        """Annule ce pas si sa perte ou son gradient ne sont pas finis, sur quelque processus que ce soit."""
        code = self.seen.bad()
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None:  # lui cherche son échelle par des infinis
            code = code + 2 * (~torch.isfinite(self.grad_norm)).to(code)
        if self.trainer.world_size > 1:
            code = self.trainer.strategy.reduce(code, reduce_op="max")
        epoch, windows = self._order.place(self.seen.epoch, self.seen.windows)
        where = (
            f"époque {number(epoch + 1)}, fenêtres {number(windows)} à "
            f"{number(min(windows + self._order.per_step, self._order.n_windows) - 1)} de son ordre"
        )
        self.guard.judge(optimizer, code, step=self.trainer.global_step + 1, where=where)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        if self.trainer.global_step % self.log_every == 0:
            self.guard.check()
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            if scaler is not None and scaler.get_scale() < LEAST_SCALE:  # il n'a trouvé que des infinis
                raise Diverged(divergence.stop_sentence(self.trainer.global_step, "16-mixed", 2, 1))

    @cached_property
    def _order(self) -> Order:
        return self.data.order(world_size=self.trainer.world_size, rank=self.trainer.global_rank)

    @property
    def log_every(self) -> int:
        """Les pas d'optimiseur entre deux lignes du journal."""
        return self.trainer.log_every_n_steps  # type: ignore[attr-defined]

    @property
    def n_epochs(self) -> float:
        """Les époques faites, à virgule."""
        order, plan = self._order, self.plan
        if plan.steps_per_epoch * plan.accumulate == len(order):
            return self.seen.epoch + 1 - order.remaining(self.seen.windows) / len(order)
        return self.trainer.global_step / plan.steps_per_epoch  # trainer.limit_train_batches

    def progress(self) -> form.TrainingProgress:
        """Où en est l'entraînement ; tous les processus l'appellent ensemble."""
        return form.TrainingProgress(
            step=self.trainer.global_step,
            corpus=self.data.identity,
            tokens_per_step=self.plan.tokens_per_step,
            world_size=self.trainer.world_size,
            partial=self.data.partial,
            formats=self.data.formats,
            metrics=dict(self.metrics),
            **self.seen.state(self.trainer.strategy),
        )

    def describe(self) -> form.Description:
        """La description du modèle, sans ses adaptateurs."""
        name = self.template.name if self.template is not None else ""
        description = form.Description(
            self.model.config, self.tokenizer, self.prompts, self.corpus, self.task.name, name, self.labels
        )
        return description._replace(max_length=self.data.max_length) if self.task.labelled else description

    def on_save_checkpoint(self, checkpoint: State) -> None:
        self.guard.check()
        description = self.describe()
        if self.adapted is not None:
            config, base, source, alone = self.adapted
            description = description._replace(lora=config, base=base, base_source=source)
            if alone:
                state = checkpoint["state_dict"]
                checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if is_added(name)}
        form.write_progress(checkpoint, description, self.progress())

    def on_load_checkpoint(self, checkpoint: State) -> None:
        progress = form.read_progress(checkpoint, "ckpt_path")
        # la base, si elle est ailleurs
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        self.metrics, self._resumed = dict(progress.metrics), True
        where = restart.restart(checkpoint, progress, self.plan, self._order)
        self.seen.load(progress, where, self.trainer.global_rank, self.trainer.world_size)
        restart.forget_settings(checkpoint, self.trainer.early_stopping_callbacks)

    def on_train_start(self) -> None:
        self.started = True
        if not self._resumed:
            return
        self._resumed = False
        for config in self.trainer.lr_scheduler_configs:
            restart.apply_settings(self.trainer.optimizers[0], config.scheduler, self._fresh)
        total, measured = self.plan.total_steps, "val/loss" in self.metrics
        over = total is not None and self.trainer.global_step >= total
        if not self.seen.evaluated or (over and not measured):  # celle que la fin de l'exécution a coupée
            self.trainer.validating = True
            self.trainer.fit_loop.epoch_loop.val_loop.run()
            self.trainer.training = True

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Sème le hasard d'un lot d'après (graine, pas, lot du pas, processus) seuls : une reprise tire le même."""
        place = (self.trainer.global_step, batch_idx % self.plan.accumulate, self.trainer.global_rank)
        seed_everything(self.seed, *place)
