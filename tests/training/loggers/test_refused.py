"""Une écriture refusée ne coûte à metrics.csv que ce qu'elle devait écrire."""

import errno

import pytest

from gpt_lightning import durable
from gpt_lightning.training.loggers import MetricsCSV, read_metrics


@pytest.mark.parametrize("refused", range(4))
def test_what_follows_a_refused_write_is_kept(refused, tmp_path, monkeypatch):
    path, whole, calls = tmp_path / "metrics.csv", durable.sync, []

    def sync(where):
        calls.append(where)
        if len(calls) - 1 == refused:
            raise OSError(errno.ENOSPC, "plein")
        whole(where)

    monkeypatch.setattr(durable, "sync", sync)
    logger = MetricsCSV(str(path))
    rows = {
        1: {"a": 1.0},
        2: {"a": 2.0, "b": 0.5},
        3: {"a": 3.0},
        4: {"a": 4.0, "b": 1.5, "c": 9.0},
        5: {"c": 8.0},
    }
    for step, row in rows.items():
        logger.log_metrics(row, step)
    found = read_metrics(path)
    assert found[5] == rows[5] and len(found) >= 4
    assert all(found[step] == rows[step] for step in found)
