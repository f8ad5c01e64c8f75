import pytest

from gpt_lightning.demos import schedule
from gpt_lightning.training.optim import OptimConfig
from gpt_lightning.training.schedule import SCHEDULES, Schedule


def test_each_schedule_is_drawn(tmp_path):
    rates = schedule.compute(
        OptimConfig(lr=2.0, schedule=Schedule(warmup="1ktok", decay=0.5)),
        total_steps=100,
        tokens_per_step=100,
    )
    assert tuple(rates) == SCHEDULES and all(len(values) == 100 for values in rates.values())
    assert rates["wsd"][10:50] == pytest.approx([2.0] * 40) and rates["constant"][-1] == 2.0
    assert [max(values) for values in rates.values()] == pytest.approx([2.0] * 4)
    paths = schedule.render(rates, "wsd", tmp_path)
    assert [path.name for path in paths] == ["schedule.pdf", "schedule.png"]
