import pytest

from gpt_lightning.training.plan import accumulation, make_plan


def plan(**values):
    limits = {"max_epochs": None, "max_steps": -1, "max_tokens": None, "timed": False, "eval_every": 5}
    return make_plan(
        **{"batches_per_epoch": 40, "accumulate": 2, "tokens_per_batch": 100, **limits, **values}
    )


@pytest.mark.parametrize(
    "values, steps",
    [
        ({}, 60),
        ({"max_epochs": 3}, 60),
        ({"max_steps": 7}, 7),
        ({"max_steps": 5000}, 5000),
        ({"max_tokens": 401}, 3),
        ({"max_epochs": 3, "max_steps": 7}, 7),
        ({"max_epochs": 1, "max_tokens": 10**9}, 20),
        ({"timed": True}, None),
        ({"timed": True, "max_steps": 9}, 9),
        ({"max_epochs": -1, "timed": True}, None),
    ],
)
def test_the_shortest_limit_wins(values, steps):
    assert plan(**values).total_steps == steps


def test_a_step_counts_its_accumulated_tokens():
    assert (plan().tokens_per_step, plan().steps_per_epoch, plan().epochs) == (200, 20, 3.0)


@pytest.mark.parametrize("values", [{"max_tokens": 0}, {"eval_every": 0}, {"eval_every": "souvent"}])
def test_impossible_values_are_refused_by_name(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        plan(**values)


def test_accumulation_follows_the_global_batch():
    shape = {"batch_size": 4, "max_length": 32, "world_size": 2}
    assert accumulation(None, **shape, given=3) == 3
    assert accumulation(1024, **shape) == 4
    with pytest.raises(ValueError, match="768 ou 1024"):
        accumulation(1000, **shape)
    with pytest.raises(ValueError, match="essayez 256"):
        accumulation(100, **shape)
    with pytest.raises(ValueError, match="se contredisent"):
        accumulation(1024, **shape, given=2)
    with pytest.raises(ValueError, match="entier"):
        accumulation("beaucoup", **shape)
