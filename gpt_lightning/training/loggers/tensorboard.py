"""TensorBoard : les pertes d'abord, sur une même courbe ; le reste derrière elles."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
from torch.utils.tensorboard import summary

from gpt_lightning.durable import surviving

FIRST = ("train/", "val/")
SHOWN = 5  # colonnes que l'onglet HParams montre sans qu'on les coche : celles qui portent `differs`, puis l'alphabet
OTHERS = "voir aussi"  # vient après « train » et « val » dans l'ordre des groupes


class TensorBoard(TensorBoardLogger):
    """Le journal de Lightning. Les mesures qui ne sont ni d'entraînement ni de validation vont dans un groupe à part,
    l'onglet Custom Scalars montre les deux pertes ensemble, et HParams les premiers réglages donnés."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._has_layout = False
        _silence_the_writer()

    def resume(self, step: int) -> None:
        """Cache ce qui a été écrit après le pas `step`, que l'entraînement va refaire."""
        self._kwargs["purge_step"] = step + 1

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Écrit les mesures sous leur nom, ou dans le groupe OTHERS."""
        scalars = {
            key if key.startswith(FIRST) else f"{OTHERS}/{key}": value for key, value in metrics.items()
        }
        with self._surviving():
            if not self._has_layout:
                self._has_layout = True
                losses = ["Multiline", ["train/loss$", "val/loss$", "train/loss_eval"]]
                layout = {"Pertes (nats par jeton)": {"entraînement et validation": losses}}
                self.experiment.add_custom_scalars(layout)
            super().log_metrics(scalars, step)

    @rank_zero_only
    def log_hyperparams(
        self, params: Any, metrics: Mapping[str, float] | None = None, step: int | None = None
    ) -> None:
        """Garde les réglages et, quand `metrics` nomme des mesures déjà écrites, la ligne de HParams qui les montre."""
        with self._surviving():
            super().log_hyperparams(params)
            if metrics:
                self._write_row(params, metrics)

    def log_text(self, tag: str, text: str, step: int) -> None:
        """Écrit un texte, tel quel."""
        quoted = "\n".join("    " + line for line in text.splitlines())  # Markdown
        with self._surviving():
            self.experiment.add_text(tag, quoted, step)

    @rank_zero_only
    def save(self) -> None:
        with self._surviving():
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        with self._surviving():
            super().finalize(status)

    def _surviving(self) -> AbstractContextManager[None]:
        return surviving(Path(self.log_dir))

    def _write_row(self, params: Any, metrics: Mapping[str, float]) -> None:
        # Lightning écrirait un point de plus, au pas 0, dans la courbe de chaque mesure
        experiment, start, end = summary.hparams(dict(params), dict(metrics))
        plugin = experiment.value[0].metadata.plugin_data
        content = HParamsPluginData.FromString(plugin.content)
        for column in content.experiment.hparam_infos[:SHOWN]:
            column.differs = True
        plugin.content = content.SerializeToString()
        writer = self.experiment._get_file_writer()
        for record in (experiment, start, end):
            writer.add_summary(record)


def _silence_the_writer() -> None:
    """Cache l'erreur du fil qui écrit : elle revient à l'écriture suivante, qui la dit ; Python la montrerait aussi."""
    show = threading.excepthook
    if getattr(show, "silent", False):
        return

    def hook(failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            show(failed)

    hook.silent = True  # type: ignore[attr-defined]
    threading.excepthook = hook
