"""Les journaux : où vont les mesures, en plus de TensorBoard."""

from gpt_lightning.training.loggers.metrics_csv import MetricsCSV, read_metrics

__all__ = ["MetricsCSV", "read_metrics"]
