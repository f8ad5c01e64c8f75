"""Les journaux : où vont les mesures, en plus de TensorBoard."""

from gpt_lightning.training.loggers.metrics_csv import MetricsCSV, read_metrics
from gpt_lightning.training.loggers.tensorboard import TensorBoard

__all__ = ["MetricsCSV", "TensorBoard", "read_metrics"]
