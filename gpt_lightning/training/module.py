"""Le LightningModule : le pas d'entraînement, l'évaluation, ce que le checkpoint emporte."""

import hashlib
import math
import random
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gpt_lightning import wording
from gpt_lightning.model import GPTModel
from gpt_lightning.model.classes import ClassReport, confusion
from gpt_lightning.model.classifier import GPTClassifier, labels_loss
from gpt_lightning.model.learned import is_added
from gpt_lightning.model.lora import LoRAConfig
from gpt_lightning.training import divergence, resume
from gpt_lightning.training.divergence import Diverged, DivergenceGuard
from gpt_lightning.training.hardware import native_bf16
from gpt_lightning.training.optim import OptimConfig, build_optimizer
from gpt_lightning.training.plan import Plan
from gpt_lightning.weights import format as form

LEAST_SCALE = 2.0**-10  # GradScaler part de 2**16, et divise par deux à chaque gradient infini


class Adapted(NamedTuple):
    """Les adaptateurs d'un modèle, l'empreinte et l'origine de leur base, et si elle reste hors des checkpoints."""

    config: LoRAConfig
    base: str
    source: str
    alone: bool = False


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
        guard: DivergenceGuard | None = None,
        adapted: Adapted | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.optim, self.plan = model, data.tokenizer, optim, plan
        self.compiled, self.corpus = compiled, data.credit
        self.prompts = tuple(data.openings()) if prompt is None else (prompt,)
        self.bytes_per_token = data.bytes_per_target  # de la validation
        self.tokens_seen = 0  # jetons d'entraînement, tous processus compris
        self.targets_seen = 0  # ceux d'entre eux que le modèle apprend à prédire
        self.template = getattr(data, "template", None)  # celui des conversations
        self.labels: tuple[str, ...] = getattr(data, "labels", ())  # celles d'un classement
        self.adapted = adapted
        self.epoch, self.windows = 0, 0  # passages sur le corpus, fenêtres lues dans celui en cours
        self.idle = 0.0  # secondes passées à autre chose qu'entraîner : le débit ne les compte pas
        self.evaluated = True  # faux si l'évaluation due au pas courant a été interrompue
        self.data, self.seed = data, data.seed
        self._resumed = False
        self.started = False  # vrai dès que tout est chargé
        self.guard = guard or DivergenceGuard()
        self._bad_loss: Tensor | None = None  # 1 si une perte du pas en cours n'est pas finie
        self.metrics: dict[str, float] = {}
        self.train_sum = Running()  # pertes depuis la dernière ligne du journal
        self._val_sum = Running()
        self._confusion: Tensor | None = None  # (E, E) de l'évaluation en cours
        self.counts: Tensor | None = None  # celle de la dernière évaluation, tous processus compris
        run: Callable[..., Tensor] = model.loss
        if isinstance(model, GPTClassifier):
            run = model.classify
        self._run = torch.compile(run, dynamic=data.task != "text" or None) if compiled else run

    def loss_of(self, batch: Any, *, counted: bool = False) -> tuple[Tensor, int]:
        """La perte moyenne d'un lot, en nats par jeton prédit (ou par texte classé), et leur nombre.

        `counted` : un classement va dans la matrice de confusion de l'évaluation en cours.
        """
        if self.data.task == "instruct":
            return self._run(batch.ids, batch.wanted, batch.where, batch.segments), len(batch.wanted)
        if self.data.task == "classify":
            scores = self._run(batch.ids, batch.where)  # (N, E)
            if counted:
                part = confusion(batch.wanted, scores.argmax(-1), len(self.labels))
                self._confusion = part if self._confusion is None else self._confusion + part
            return labels_loss(scores, batch.wanted, batch.weights), len(batch.wanted)
        x, y = batch  # (B, T), (B, T), entiers de la base
        return self._run(x.long(), y.long()), y.numel()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, targets = self.loss_of(batch)
        self.train_sum.add(loss, targets, only_finite=True)
        bad = (~torch.isfinite(loss.detach())).float()
        self._bad_loss = bad if self._bad_loss is None else torch.maximum(self._bad_loss, bad)
        # un pas est la moyenne de ses jetons appris, où qu'ils soient : un lot qui en a plus y compte plus
        return loss * (targets * batch.share) if self.data.task == "instruct" else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._val_sum.add(*self.loss_of(batch, counted=True))

    def on_validation_epoch_end(self) -> None:
        self.record_validation(self._val_sum.mean(self.trainer.strategy))
        self.evaluated = True
        self.log("val/loss", self.metrics["val/loss"], logger=False)  # pour les callbacks qui surveillent

    def record_validation(self, loss: float) -> None:
        """Garde et écrit la perte de validation (nats par jeton), et ce qui s'en déduit. Diverged sinon."""
        self.guard.check()
        if not math.isfinite(loss):
            raise Diverged(
                f"L'évaluation du pas {wording.number(self.trainer.global_step)} ne donne pas un nombre "
                "fini : l'entraînement s'arrête, et rien n'en est "
                f"gardé. Reprenez avec un taux plus bas (optim.lr=), ou trainer.precision=32-true."
            )
        found = {"val/loss": loss}
        if self.data.task == "classify":
            found |= self._classes()
        else:
            found["val/perplexity"] = math.exp(min(loss, 700.0))
            found["val/bits_per_byte"] = loss / math.log(2) / self.bytes_per_token
        self.metrics |= found
        self.write(found)

    def _classes(self) -> dict[str, float]:
        """Les mesures du classement que l'évaluation vient de compter, tous processus compris."""
        size, device = len(self.labels), self.trainer.strategy.root_device
        own = torch.zeros(size, size, dtype=torch.int64) if self._confusion is None else self._confusion
        everyone = self.trainer.strategy.reduce(own.to(device), reduce_op="sum")
        assert isinstance(everyone, Tensor)
        self.counts, self._confusion = everyone.cpu(), None
        report = ClassReport(self.counts)
        return {"val/accuracy": report.accuracy, "val/f1": report.macro_f1}

    def write(self, metrics: dict[str, float]) -> None:
        """Envoie `metrics` aux journaux, à l'abscisse du pas d'optimiseur courant."""
        if not self.trainer.sanity_checking:
            for logger in self.trainer.loggers:
                seen: dict[str, float] = {"tokens": self.tokens_seen}
                if self.template is not None:
                    seen["targets"] = self.targets_seen
                logger.log_metrics({**metrics, **seen}, step=self.trainer.global_step)

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
        tokens, targets = self._order.step_tokens(self.epoch, self.windows)
        self.tokens_seen, self.targets_seen = self.tokens_seen + tokens, self.targets_seen + targets
        self.epoch, self.windows = self._order.place(self.epoch, self.windows + self._order.per_step)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
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

    def _judge(self, optimizer: Any) -> None:
        """Annule ce pas si sa perte ou son gradient ne sont pas finis, sur quelque processus que ce soit."""
        assert self._bad_loss is not None  # un lot vient d'être lu
        code, self._bad_loss = self._bad_loss, None
        if (
            getattr(self.trainer.precision_plugin, "scaler", None) is None
        ):  # lui cherche son échelle par des infinis
            code = code + 2 * (~torch.isfinite(self.grad_norm)).to(code)
        if self.trainer.world_size > 1:
            code = self.trainer.strategy.reduce(code, reduce_op="max")
        epoch, windows = self._order.place(self.epoch, self.windows)
        where = (
            f"époque {wording.number(epoch + 1)}, fenêtres {wording.number(windows)} à "
            f"{wording.number(windows + self._order.per_step - 1)} de son ordre"
        )
        self.guard.judge(optimizer, code, step=self.trainer.global_step + 1, where=where)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.trainer.global_step % every == 0:
            self.guard.check()
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            if scaler is not None and scaler.get_scale() < LEAST_SCALE:  # il n'a trouvé que des infinis
                raise Diverged(divergence.diverged(self.trainer.global_step, "16-mixed", 2, 1))

    @cached_property
    def _order(self) -> Any:
        return self.data.order(world_size=self.trainer.world_size, rank=self.trainer.global_rank)

    @property
    def epochs_seen(self) -> float:
        """Les époques faites, à virgule."""
        order, plan = self._order, self.plan
        if plan.steps_per_epoch * plan.accumulate == len(order):
            return self.epoch + 1 - order.remaining(self.windows) / len(order)
        return self.trainer.global_step / plan.steps_per_epoch  # trainer.limit_train_batches

    def progress(self) -> form.Progress:
        """Où en est l'entraînement ; tous les processus l'appellent ensemble."""
        return form.Progress(
            step=self.trainer.global_step,
            tokens=self.tokens_seen,
            epoch=self.epoch,
            windows=self.windows,
            corpus=self.data.identity,
            tokens_per_step=self.plan.tokens_per_step,
            world_size=self.trainer.world_size,
            evaluated=self.evaluated,
            loss_sums=self.train_sum.state(self.trainer.strategy),
            metrics=dict(self.metrics),
            targets=self.targets_seen,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.guard.check()
        name = self.template.name if self.template is not None else ""
        description = form.Description(
            self.model.config, self.tokenizer, self.prompts, self.corpus, self.data.task, name, self.labels
        )
        if self.data.task == "classify":
            description = description._replace(max_length=self.data.max_length)
        if self.adapted is not None:
            config, base, source, alone = self.adapted
            description = description._replace(lora=config, base=base, base_source=source)
            if alone:
                state = checkpoint["state_dict"]
                kept = [name for name in state if is_added(name)]
                checkpoint["state_dict"] = {name: state[name] for name in kept}
        form.write_progress(checkpoint, description, self.progress())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        found = form.read_progress(checkpoint, "ckpt_path")
        checkpoint["state_dict"] = {
            **self.state_dict(),
            **checkpoint["state_dict"],
        }  # la base, si elle est ailleurs
        self.tokens_seen, self.metrics, self.evaluated = found.tokens, dict(found.metrics), found.evaluated
        self.targets_seen = found.tokens if found.targets is None else found.targets
        self._resumed = True
        self.epoch, self.windows = resume.restart(checkpoint, found, self.plan, self._order)
        resume.forget_settings(checkpoint, self.trainer.callbacks)  # type: ignore[attr-defined]
        self.train_sum.load(found.loss_sums, self.trainer.global_rank, self.trainer.world_size)

    def on_train_start(self) -> None:
        self.started = True
        if not self._resumed:
            return
        self._resumed = False
        for config in self.trainer.lr_scheduler_configs:
            resume.apply_settings(self.trainer.optimizers[0], config.scheduler, self._fresh)
        if not self.evaluated:  # celle que la fin de l'exécution a coupée
            self.trainer.validating = True
            self.trainer.fit_loop.epoch_loop.val_loop.run()
            self.trainer.training = True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Le hasard d'un lot ne dépend que de (graine, pas, lot du pas, processus) : une reprise tire le même."""
        place = (self.trainer.global_step, batch_idx % self.plan.accumulate, self.trainer.global_rank)
        seed_everything(self.seed, *place)


def seed_everything(*numbers: int) -> None:
    """Sème torch (tous les appareils), Python, et numpy s'il sert, d'après tous ces entiers."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # la même chose, sans noter une pile d'appels par genre d'appareil : une milliseconde à chaque lot
        torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


class Running:
    """Une moyenne pondérée tenue sur l'accélérateur : rien n'est lu avant `mean`."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None  # (2,) : la somme pondérée, les poids

    def add(self, value: Tensor, weight: int, *, only_finite: bool = False) -> None:
        """Ajoute `value`, (), de ce poids ; avec `only_finite`, seulement si c'est un nombre fini."""
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        part = torch.stack([value.detach().to(wide) * weight, value.new_full((), weight, dtype=wide)])
        if only_finite:
            part = torch.where(torch.isfinite(part[0]), part, torch.zeros_like(part))
        self._sums = part if self._sums is None else self._sums.to(part) + part

    def mean(self, strategy: Any) -> float:
        """La moyenne sur tous les processus ; repart de zéro. NaN si rien n'a été ajouté."""
        total = strategy.reduce(self._own(strategy), reduce_op="sum")
        self._sums = None
        return (total[0] / total[1]).item()

    def state(self, strategy: Any) -> tuple[tuple[float, int], ...]:
        """(somme, poids) de chaque processus ; tous l'appellent ensemble."""
        everyone = strategy.all_gather(self._own(strategy)).reshape(-1, 2).tolist()
        return tuple((total, int(weight)) for total, weight in everyone)

    def load(self, sums: Sequence[tuple[float, int]], rank: int, world_size: int) -> None:
        """Reprend la somme de ce processus ; si leur nombre a changé, le premier les prend toutes."""
        own = [sums[rank]] if len(sums) == world_size else sums if rank == 0 else ()
        total, weight = (sum(column) for column in zip(*own, strict=True)) if own else (0.0, 0)
        self._sums = torch.tensor([total, weight], dtype=torch.float64) if weight else None

    def _own(self, strategy: Any) -> Tensor:
        own = torch.zeros(2, device=strategy.root_device, dtype=_widest(strategy))
        return own if self._sums is None else self._sums.to(own)


def _widest(strategy: Any) -> torch.dtype:
    return torch.float32 if strategy.root_device.type == "mps" else torch.float64
