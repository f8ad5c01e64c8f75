"""Garder le film d'un entraînement : les poids du modèle à des pas de plus en plus espacés, que play rejoue."""

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Callback
from torch import Tensor

from gpt_lightning import durable
from gpt_lightning.errors import number, whole
from gpt_lightning.layout import film_image, film_images
from gpt_lightning.model import GPTModel, cost
from gpt_lightning.weights.film import write_image
from gpt_lightning.weights.format import model_state
from gpt_lightning.wording import magnitude
from gpt_lightning.wording import number as shown

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

log = logging.getLogger("gpt_lightning")
RESERVED = (
    40  # octets par paramètre que le film laisse libres : last.ckpt et best.ckpt, et ceux qui les remplacent
)


class Film(Callback):
    """Garde dans `folder` au plus `images` images du modèle, en float16, et `max_mb` mégaoctets en tout.

    La première est celle du tirage, la dernière celle de la fin, et les autres s'espacent comme une puissance. Une
    reprise oublie celles d'après le pas repris. Un disque qui refuse arrête le film, jamais l'entraînement.
    """

    def __init__(self, *, folder: str, images: int = 20, max_mb: float = 40) -> None:
        self.folder = Path(folder)
        self.images = whole("callbacks.film.images", images, 2)
        self.max_mb = number("callbacks.film.max_mb", max_mb, above=0)
        self._count, self._due, self._saved = 0, set[int](), -1

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        writes = not pl_module.labels and not trainer.fast_dev_run  # type: ignore[attr-defined]
        self._count = image_count(self.images, self.max_mb, pl_module.model) if writes else 0
        self._due, self._saved = spaced_steps(pl_module.plan.total_steps, self._count), -1
        if trainer.is_global_zero:
            # reprise d'un pas plus ancien : ce futur n'est plus le sien
            with durable.surviving(self.folder):
                for step, path in film_images(self.folder).items():
                    if step > trainer.global_step:
                        path.unlink(missing_ok=True)

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "GPTModule", batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step in self._due and batch_idx % trainer.accumulate_grad_batches == 0:
            self._shoot(trainer, pl_module)

    def on_train_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if self._count:
            self._shoot(trainer, pl_module)

    def _shoot(self, trainer: "Trainer", module: "GPTModule") -> None:
        """Ajoute l'image de ce pas ; au-delà du compte, retire celle qui apprend le moins."""
        step, began = trainer.global_step, time.perf_counter()
        if step == self._saved:
            return
        self._saved = step
        # tous les processus l'appellent ensemble : chacun peut n'avoir qu'une part des poids
        state = model_state({"state_dict": trainer.strategy.lightning_module_state_dict()})
        refused = False
        if trainer.is_global_zero:
            try:
                self._write(step, state, module)
            except durable.WriteError as error:
                log.warning(f"Film       : abandonné au pas {shown(step)}, l'entraînement continue. {error}")
                refused = True
        if trainer.strategy.broadcast(refused):
            self._count, self._due = 0, set()
        module.pause("film", time.perf_counter() - began, sum(due > step for due in self._due))

    def _write(self, step: int, state: Mapping[str, Tensor], module: "GPTModule") -> None:
        """Écrit l'image de ce pas. WriteError si le disque refuse, ou si les checkpoints ont besoin de sa place."""
        path = film_image(self.folder, step)
        with durable.refusals(path):
            self.folder.mkdir(exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        if free < RESERVED * cost.n_parameters(module.model.config) + image_bytes(module.model):
            sentence = f"{path} ne s'écrit pas : les {magnitude(free, 'o')} libres sont pour les checkpoints."
            raise durable.WriteError(path, sentence)
        write_image(path, state, module.describe(), None if module.adapted is None else module.adapted.config)
        images = film_images(self.folder)
        with durable.refusals(path):
            while len(images) > self._count:
                images.pop(superfluous(list(images))).unlink(missing_ok=True)


def image_count(images: int, max_mb: float, model: GPTModel) -> int:
    """Combien d'images de ce modèle tiennent dans `max_mb` ; 0 s'il n'en tient pas deux."""
    count = min(images, int(max_mb * 1_000_000 / image_bytes(model)))
    return count if count >= 2 else 0


def image_bytes(model: GPTModel) -> int:
    """Les octets d'une image, son en-tête compris."""
    return 2 * cost.n_parameters(model.config) + 20_000


def describe(asked: Mapping[str, object] | None, model: GPTModel, labelled: bool) -> str | None:
    """La ligne du plan qui dit ce que le film coûtera ; None sans film."""
    if asked is None or labelled:
        return None
    images, most = int(str(asked["images"])), float(str(asked["max_mb"]))
    size, count = image_bytes(model), image_count(images, most, model)
    if not count:
        return (
            f"Film       : aucun, une image prendrait {magnitude(size, 'o')} ; callbacks.film.max_mb="
            f"{math.ceil(images * size / 1e6)} en garde {images}"
        )
    return f"Film       : {count} images du modèle, {magnitude(count * size, 'o')} au plus, que play rejoue"


def spaced_steps(total: int | None, count: int) -> set[int]:
    """Les pas de `count` images sur `total` pas, de 0 à la fin ; sans fin connue, les puissances de 2."""
    if count == 0:
        return set()
    if total is None:
        return {0, *(2**power for power in range(40))}
    ratio = max(total, 1) ** (1 / max(1, count - 2))
    return {0, total, *(round(ratio**rank) for rank in range(count - 2))}


def superfluous(steps: Sequence[int]) -> int:
    """Le pas, ni premier ni dernier, sans lequel le plus grand saut reste le plus petit."""
    places = [math.log1p(step) for step in sorted(steps)]
    rank = min(range(1, len(places) - 1), key=lambda rank: places[rank + 1] - places[rank - 1], default=0)
    return sorted(steps)[rank]
