"""La part copiée de ce que le modèle écrit, à chaque évaluation : voir s'il se met à réciter son corpus."""

import logging
from typing import TYPE_CHECKING

from lightning import Callback

from gpt_lightning.errors import UserError
from gpt_lightning.training import copied
from gpt_lightning.training.data import Traced
from gpt_lightning.training.evaluating import evaluating
from gpt_lightning.wording import percent

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

log = logging.getLogger("gpt_lightning")


class CopiedShare(Callback):
    """Écrit `sample/copied`, la part copiée de quelques textes, toujours de la même graine.

    L'index du corpus se construit à la première évaluation ; si ce n'est pas possible, le journal le dit une fois.
    """

    def __init__(self) -> None:
        self._traced: Traced | None = None
        self._off = False

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        # trainer.fast_dev_run n'écrit rien
        if trainer.sanity_checking or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self._off or pl_module.labels:  # une classification n'écrit pas
            return
        if self._traced is None:
            self._open(pl_module)
        if self._traced is None:
            return
        with evaluating(pl_module.model), trainer.precision_plugin.forward_context():
            texts = copied.sample_texts(pl_module.model, pl_module.data)
        share = self._traced.share(texts)
        pl_module.metrics |= {"sample/copied": share, "sample/copied_least": self._traced.least}
        pl_module.write({"sample/copied": share})

    def _open(self, pl_module: "GPTModule") -> None:
        try:
            self._traced = copied.open_index(pl_module.data)
        except UserError as error:
            self._off = True
            log.info(f"Copie      : la part copiée n'est pas mesurée, {error}")
            return
        log.info(
            f"Copie      : la part copiée compte les passages d'au moins {self._traced.least} mots ; la validation en "
            f"a {percent(self._traced.reference)}"
        )
