import csv

from gpt_lightning.training.loggers import MetricsCSV
from gpt_lightning.training.loggers.metrics_csv import read_metrics


def test_one_row_per_step_one_column_per_metric(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsCSV(str(path))
    log.log_metrics({"train/loss": 3.0, "lr": 0.1}, step=2)
    log.log_metrics({"val/loss": 4.0}, step=2)
    log.log_metrics({"train/loss": 2.5}, step=4)
    log.save()
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert list(rows[0]) == ["step", "train/loss", "lr", "val/loss"] and len(rows) == 2
    assert read_metrics(path) == {2: {"train/loss": 3.0, "lr": 0.1, "val/loss": 4.0}, 4: {"train/loss": 2.5}}


def test_resuming_keeps_the_past_and_forgets_the_undone(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsCSV(str(path))
    for step in (1, 2, 3):
        first.log_metrics({"train/loss": float(step)}, step=step)
    first.finalize("success")
    second = MetricsCSV(str(path))
    second.resume(2)
    second.log_metrics({"train/loss": 30.0}, step=3)
    second.save()
    assert [row["train/loss"] for row in read_metrics(path).values()] == [1.0, 2.0, 30.0]


def test_each_evaluation_is_on_the_disk_at_once(tmp_path):
    journal = MetricsCSV(str(tmp_path / "metrics.csv"))
    journal.log_metrics({"train/loss": 3.0}, step=1)
    assert not (tmp_path / "metrics.csv").exists()
    journal.log_metrics({"val/loss": 2.0}, step=2)
    assert read_metrics(tmp_path / "metrics.csv") == {1: {"train/loss": 3.0}, 2: {"val/loss": 2.0}}
