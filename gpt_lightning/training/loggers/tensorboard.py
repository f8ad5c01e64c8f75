"""TensorBoard : les pertes d'abord, sur une même courbe ; le reste derrière elles."""

from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import TensorBoardLogger

FIRST = ("train/", "val/", "hp/")
OTHERS = "voir aussi"  # vient après « train » et « val » dans l'ordre des groupes


class TensorBoard(TensorBoardLogger):
    """Le journal de Lightning. Les mesures qui ne sont ni d'entraînement ni de validation vont dans un groupe à part,
    et l'onglet Custom Scalars montre les deux pertes ensemble."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._has_layout = False

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Écrit les mesures sous leur nom, ou dans le groupe OTHERS."""
        if not self._has_layout:
            self._has_layout = True
            losses = ["Multiline", ["train/loss$", "val/loss$", "train/loss_eval"]]
            self.experiment.add_custom_scalars(
                {"Pertes (nats par jeton)": {"entraînement et validation": losses}}
            )
        named = {
            key if key.startswith(FIRST) else f"{OTHERS}/{key}": value for key, value in dict(metrics).items()
        }
        super().log_metrics(named, step)
