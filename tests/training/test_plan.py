import pytest

from gpt_lightning.cli.composition import compose
from gpt_lightning.errors import UserError
from gpt_lightning.training.muon import MuonAdamW
from gpt_lightning.training.plan import accumulation, make_plan, prolong
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.training.schedule import Schedule
from gpt_lightning.weights.format import TrainingProgress

TRAINER = {
    "max_epochs": None,
    "max_steps": -1,
    "max_time": None,
    "fast_dev_run": False,
    "limit_train_batches": None,
    "min_steps": None,
    "min_epochs": None,
    "accumulate_grad_batches": 2,
}
SETTINGS = compose("train", "output_dir=dossier")
CONSTANT = Schedule(schedule="constant", warmup=0)


def settings(**values) -> RunConfig:
    """Les réglages de train.py, de quoi compter à la main : 40 lots de 4 fenêtres de 25 jetons."""
    own = {"eval_every": 5, **{key: value for key, value in values.items() if key in SETTINGS}}
    data = {"batch_size": 4, "max_length": 25, "passes": values.get("passes", 3)}
    trainer = {**TRAINER, **{key: value for key, value in values.items() if key in TRAINER}}
    groups = {
        "data": {**SETTINGS["data"], **data},
        "trainer": {**SETTINGS["trainer"], **trainer},
    }
    return RunConfig.read({**SETTINGS, **own, **groups}, MuonAdamW)


def plan(schedule=CONSTANT, **values):
    return make_plan(settings(**values), 1, 40, schedule)


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
        ({"max_time": "00:01"}, None),
        ({"max_time": "00:01", "max_steps": 9}, 9),
        ({"max_epochs": -1, "max_time": "00:01"}, None),
    ],
)
def test_the_shortest_limit_wins(values, steps):
    assert plan(**values).total_steps == steps


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"max_steps": 7},
        {"max_tokens": 1400},
        {"max_epochs": 3},
        {"max_epochs": 1, "max_tokens": 4000},
        {"max_epochs": 1, "max_steps": 20, "max_tokens": 10**9},
        {"max_time": "00:01", "max_steps": 9},
    ],
)
def test_what_is_said_to_prolong_a_plan_prolongs_it(values):
    """Les surcharges données doublent ce qui est fait, quelle que soit la limite qui l'arrêtait."""
    first = plan(**values)
    steps = first.total_steps
    done = TrainingProgress(
        step=steps,
        tokens=first.total_tokens,
        epoch=steps // 20,
        windows=0,
        corpus="",
        tokens_per_step=200,
        world_size=1,
    )
    remaining = 40 - 2 * (steps % 20)

    def again(**more):
        return make_plan(settings(**values | more), 1, 40, CONSTANT, done=done, remaining=remaining)

    assert again().total_steps == steps
    advised = dict(word.removeprefix("trainer.").split("=") for word in prolong(again(), done).split())
    longer = again(**{key: int(value) for key, value in advised.items()}).total_steps
    assert 2 * steps - 1 <= longer <= 2 * steps + 20


def test_a_step_counts_its_accumulated_tokens():
    assert (plan().tokens_per_step, plan().steps_per_epoch, plan().epochs) == (200, 20, 3.0)


def test_accumulation_follows_the_global_batch():
    assert accumulation(settings(accumulate_grad_batches=3), 2) == 3
    one = {"accumulate_grad_batches": 1}
    assert accumulation(settings(global_batch_tokens=800, **one), 2) == 4
    assert accumulation(settings(global_batch_size=16, **one), 2) == 2
    with pytest.raises(UserError, match="600 ou 800"):
        accumulation(settings(global_batch_tokens=700, **one), 2)
    with pytest.raises(UserError, match="essayez 200"):
        accumulation(settings(global_batch_tokens=100, **one), 2)
    with pytest.raises(UserError, match="se contredisent"):
        accumulation(settings(global_batch_tokens=800), 2)
    with pytest.raises(UserError, match="se contredisent"):
        accumulation(settings(global_batch_tokens=800, global_batch_size=16, **one), 2)


def test_fast_dev_run_is_a_few_steps():
    assert plan(fast_dev_run=True, max_tokens=10**9).total_steps == 1
    assert plan(fast_dev_run=3).total_steps == 3


@pytest.mark.parametrize("limit, steps", [(None, 20), (10, 5), (9, 4), (100, 20), (0.5, 10), (0.49, 9)])
def test_a_limited_epoch_is_made_of_whole_steps(limit, steps):
    assert plan(limit_train_batches=limit).steps_per_epoch == steps
    with pytest.raises(UserError, match="limit_train_batches=1"):
        plan(limit_train_batches=1)


def test_a_schedule_longer_than_the_plan_is_refused():
    plan(Schedule(warmup=20), max_steps=20)
    plan(Schedule(schedule="wsd", warmup="1ktok", decay=10), max_steps=20)
    for schedule in (Schedule(warmup=21), Schedule(schedule="wsd", warmup=5, decay="4ktok")):
        with pytest.raises(UserError, match="dépassent les 20 pas"):
            plan(schedule, max_steps=20)


def test_a_limit_of_time_alone_needs_a_constant_rate():
    timed = {"max_time": "00:00:01:00"}
    with pytest.raises(UserError, match="trainer.max_steps"):
        plan(Schedule(schedule="linear"), **timed)
    assert plan(CONSTANT, **timed).total_steps is None


def test_the_passes_of_the_corpus_count_when_nothing_else_does():
    assert plan(passes=1).total_steps == 20 and plan(passes=1, max_steps=30).total_steps == 30
    assert plan(passes=1, max_epochs=2).total_steps == 40


@pytest.mark.parametrize(
    "values, said",
    [
        ({"max_steps": 2, "min_steps": 5}, "au moins 5 pas, et le plan en a 2"),
        ({"max_steps": 2, "min_epochs": 1}, "au moins 20 pas, et le plan en a 2"),
        ({"max_epochs": 0.01}, "aucun pas"),
    ],
)
def test_a_plan_that_lightning_would_not_follow_is_refused(values, said):
    with pytest.raises(UserError, match=said):
        plan(**values)


def test_a_minimum_under_the_plan_is_kept():
    assert plan(max_steps=30, min_steps=30, min_epochs=1).total_steps == 30
