"""Noter des tâches de lm-eval pendant l'entraînement : voir ce que le modèle apprend à faire."""

import logging
import math
import time
from typing import TYPE_CHECKING

from lightning import Callback
from lightning.pytorch.utilities.seed import isolate_rng

from gpt_lightning.errors import UserError, whole
from gpt_lightning.harness import request
from gpt_lightning.training.evaluating import evaluating
from gpt_lightning.typing import JsonObject
from gpt_lightning.wording import number

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

log = logging.getLogger("gpt_lightning")


class TaskScores(Callback):
    """Note les tâches de `tasks` avant le premier pas, tous les `every` pas d'optimiseur, et au dernier.

    Ce sont toujours les mêmes questions : les `limit` premières de chaque tâche (null : toutes). Les mesures vont dans
    les journaux, `tasks/<tâche>/<mesure>`. Le premier processus les note, les autres l'attendent. L'entraînement n'en
    sait rien : il fait les mêmes pas, au bit près.
    """

    def __init__(
        self, *, tasks: list[str] | str, every: int, limit: int | None = 100, num_fewshot: int = 0
    ) -> None:
        self.names = request.read(tasks, limit, num_fewshot, "callbacks.tasks.")
        self.every = whole("callbacks.tasks.every", every)
        self.limit, self.num_fewshot = limit, num_fewshot
        self._step = 0
        self._loaded: JsonObject | None = None  # les tâches, et leurs questions
        from gpt_lightning.harness.measure import find_tasks

        find_tasks(self.names)

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if not pl_module.task.writes:
            raise UserError(
                "callbacks=tasks note un modèle qui écrit, celui-ci classe : retirez callbacks=tasks."
            )
        self._step = trainer.global_step
        if self._step == 0:
            self._score(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "GPTModule", outputs: object, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return  # lot d'accumulation : pas encore de pas d'optimiseur
        self._step = trainer.global_step
        if self._step % self.every == 0 or self._step == pl_module.plan.total_steps:
            self._score(trainer, pl_module)

    def _score(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        """Note, et écrit dans les journaux. UserError, sur tous les processus, si une tâche ne peut pas être notée."""
        began, refusal = time.perf_counter(), ""
        if trainer.is_global_zero:
            try:
                with isolate_rng(), evaluating(pl_module.model), trainer.precision_plugin.forward_context():
                    scores = self._measure(pl_module)
            except UserError as error:
                refusal = str(error)
            else:
                pl_module.write(scores)
                log.info("    " + ", ".join(f"{name} {number(value, 3)}" for name, value in scores.items()))
        refusal = trainer.strategy.broadcast(refusal)
        if refusal:  # le premier processus seul le dit
            raise UserError(refusal) if trainer.is_global_zero else SystemExit(1)
        due = math.ceil((pl_module.plan.total_steps or 0) / self.every) - self._step // self.every
        pl_module.pause("tasks", time.perf_counter() - began, max(0, due))

    def _measure(self, pl_module: "GPTModule") -> dict[str, float]:
        from gpt_lightning.harness import measure
        from gpt_lightning.harness.adapter import HarnessModel

        if self._loaded is None:
            catalogue = measure.find_tasks(self.names, request.text_of(self.names, pl_module.data))
            self._loaded = measure.load_tasks(self.names, catalogue, self.num_fewshot)
        model = HarnessModel(pl_module.model, pl_module.tokenizer)
        results = measure.measure(model, self._loaded, limit=self.limit, resamples=0)
        return {f"tasks/{row.task}/{row.metric}": row.value for row in measure.rows(results)}
