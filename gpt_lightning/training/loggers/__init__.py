"""Les journaux : où vont les mesures. Un service n'importe sa bibliothèque que s'il est demandé."""

from gpt_lightning.training.loggers.metrics_csv import MetricsCSV, read_metrics
from gpt_lightning.training.loggers.mlflow import MLflow
from gpt_lightning.training.loggers.prometheus import Prometheus
from gpt_lightning.training.loggers.tensorboard import TensorBoard
from gpt_lightning.training.loggers.trackio import Trackio
from gpt_lightning.training.loggers.wandb import WandB

__all__ = ["MLflow", "MetricsCSV", "Prometheus", "TensorBoard", "Trackio", "WandB", "read_metrics"]
