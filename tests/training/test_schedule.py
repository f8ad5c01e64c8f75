import pytest

from gpt_lightning.errors import UserError
from gpt_lightning.training.schedule import Schedule, steps_of


def factors(total=100, **values) -> list[float]:
    config = Schedule(**values)
    return [config.factor(step, total) for step in range(total)]


def test_warmup_rises_to_the_top():
    rising = factors(schedule="constant", warmup=10)
    assert rising[:10] == pytest.approx([0.1 * i for i in range(1, 11)]) and set(rising[10:]) == {1.0}
    assert factors(warmup=0.1) == factors(warmup=10)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_falling_schedules_go_from_one_to_the_floor(schedule):
    values = factors(schedule=schedule, warmup=0, min_lr_ratio=0.1)
    assert values[0] == 1.0 and values == sorted(values, reverse=True)
    assert Schedule(schedule=schedule, warmup=0, min_lr_ratio=0.1).factor(100, 100) == pytest.approx(0.1)
    assert values[50] == pytest.approx(0.55)


def test_wsd_stays_then_falls_in_a_line():
    values = factors(schedule="wsd", warmup=10, decay=0.2)
    assert set(values[10:80]) == {1.0}
    assert values[80:] == pytest.approx([1 - i / 20 for i in range(20)])


def test_a_length_is_steps_a_fraction_or_tokens():
    assert [steps_of(amount, 1000, 512) for amount in (200, 0.1, "51200tok", "51.2ktok", "1Mtokens", 0)] == [
        200,
        100,
        100,
        100,
        1954,
        0,
    ]
    rising = Schedule(schedule="constant", warmup="5120tok")
    assert rising.factor(4, 100, 512) == pytest.approx(0.5) and rising.factor(9, 100, 512) == 1.0


@pytest.mark.parametrize("amount", ["vite", "10", "-3tok", "2Ttok", None, True, -1, float("nan")])
def test_a_length_that_means_nothing_is_refused(amount):
    with pytest.raises(UserError, match="optim.warmup"):
        Schedule(warmup=amount)


@pytest.mark.parametrize(
    "values", [{"schedule": "x"}, {"min_lr_ratio": 2}, {"warmup": -1}, {"decay": "vite"}]
)
def test_impossible_values_are_refused_by_name(values):
    with pytest.raises(UserError, match=f"optim.{next(iter(values))}"):
        Schedule(**values)
