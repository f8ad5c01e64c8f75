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


def test_each_measure_is_on_the_disk_at_once(tmp_path):
    journal = MetricsCSV(str(tmp_path / "metrics.csv"))
    journal.log_metrics({"train/loss": 3.0}, step=1)
    assert read_metrics(tmp_path / "metrics.csv") == {1: {"train/loss": 3.0}}
    journal.log_metrics({"val/loss": 2.0}, step=2)
    assert read_metrics(tmp_path / "metrics.csv") == {1: {"train/loss": 3.0}, 2: {"val/loss": 2.0}}


def test_any_sequence_of_measures_is_read_back_as_it_was_given(tmp_path):
    import random

    draw = random.Random(0)
    journal, expected, step = MetricsCSV(str(tmp_path / "metrics.csv")), {}, 0
    for _ in range(200):
        step += draw.choice((0, 0, 1, 5))
        given = {draw.choice("abcdefgh"): draw.random() for _ in range(draw.randint(1, 3))}
        journal.log_metrics(given, step=step)
        expected[step] = expected.get(step, {}) | given
        assert read_metrics(tmp_path / "metrics.csv") == expected


def test_only_the_end_of_the_file_is_written(tmp_path, monkeypatch):
    from gpt_lightning.training.loggers import metrics_csv

    written = []
    monkeypatch.setattr(
        metrics_csv, "_csv", lambda values, real=metrics_csv._csv: written.append(1) or real(values)
    )
    journal = MetricsCSV(str(tmp_path / "metrics.csv"))
    for step in range(500):
        journal.log_metrics({"train/loss": float(step)}, step=step)
    assert len(written) <= 502  # une ligne par pas, et l'en-tête


def test_an_end_that_the_disk_did_not_keep_is_forgotten(tmp_path):
    path = tmp_path / "metrics.csv"
    journal = MetricsCSV(str(path))
    for step in (1, 2, 3):
        journal.log_metrics({"train/loss": float(step)}, step=step)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        complete = whole[:length].count(b"\r") - 1  # sans l'en-tête
        assert read_metrics(path) == {step: {"train/loss": step} for step in range(1, complete + 1)}
