import pytest
import yaml

from gpt_lightning import cli
from gpt_lightning.training import setup
from gpt_lightning.training.optim import OptimConfig
from gpt_lightning.training.plan import make_plan


def trainer(**values) -> dict:
    defaults = yaml.safe_load((cli.CONF / "trainer" / "default.yaml").read_text(encoding="utf-8"))
    return {**defaults, **values}


@pytest.mark.parametrize(
    "values",
    [
        {"accelerator": "tpu9"},
        {"precision": "bf17"},
        {"devices": 0},
        {"devices": "deux"},
        {"devices": True},
        {"max_steps": "cent"},
        {"max_steps": -2},
        {"log_every_n_steps": 0},
        {"max_epochs": "x"},
        {"gradient_clip_val": "x"},
        {"gradient_clip_val": -1},
        {"max_steps": 0},
        {"max_epochs": 0},
        {"limit_val_batches": 0},
        {"limit_train_batches": 0.0},
        {"overfit_batches": 2},
        {"use_distributed_sampler": True},
        {"reload_dataloaders_every_n_epochs": 1},
        {"barebones": True},
    ],
    ids=str,
)
def test_what_the_trainer_cannot_take_is_refused_by_name(values):
    with pytest.raises(ValueError, match=f"trainer.{next(iter(values))}"):
        setup.trainer_settings(trainer(**values))


@pytest.mark.parametrize("devices", [1, 2, -1, "auto", "2", "0,1", [0, 1]])
def test_devices_may_be_said_as_lightning_takes_them(devices):
    assert setup.trainer_settings(trainer(devices=devices))["devices"] == devices


def test_precision_is_resolved():
    assert setup.trainer_settings(trainer())["precision"] in ("32-true", "bf16-mixed")
    assert setup.trainer_settings(trainer(precision="bf16-true"))["precision"] == "bf16-true"


@pytest.mark.parametrize("seed", [-1, 2**32, "x", None, 1.5])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed="):
        setup.seed(seed)


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused():
    values = {"vocab_size": 10, "emb_dim": 8, "n_heads": 2}
    with pytest.raises(ValueError, match="11 identifiants"):
        setup.with_vocabulary(values, 11)
    assert setup.with_vocabulary(values, 9).vocab_size == 10
    assert setup.with_vocabulary({**values, "vocab_size": None}, 9).vocab_size == 9


def test_a_window_longer_than_the_context_is_refused_with_one_that_fits():
    with pytest.raises(ValueError, match="data.max_length=128 data.stride=128"):
        setup.check_window(256, 128)


@pytest.mark.parametrize("limit, batches", [(None, 40), (10, 10), (100, 40), (0.5, 20)])
def test_limited_epochs(limit, batches):
    assert setup.limited(40, limit) == batches


@pytest.mark.parametrize(
    "choice, device, answer", [("auto", "cpu", False), ("auto", "cuda", True), (True, "cpu", True)]
)
def test_compiling(choice, device, answer):
    assert setup.compiled(choice, device) is answer
    with pytest.raises(ValueError, match="compile="):
        setup.compiled("oui", device)


def test_fast_dev_run_is_a_few_steps():
    settings = {"trainer": trainer(fast_dev_run=True), "max_tokens": 10**9, "eval_every": 5}
    limits = setup.limits(settings)
    assert make_plan(batches_per_epoch=9, accumulate=1, tokens_per_batch=8, **limits).total_steps == 1


def test_a_race_against_time_needs_a_constant_rate():
    shape = {
        "batches_per_epoch": 9,
        "accumulate": 1,
        "tokens_per_batch": 8,
        "max_epochs": None,
        "max_steps": -1,
    }
    timed = make_plan(**shape, max_tokens=None, timed=True, eval_every=5)
    with pytest.raises(ValueError, match="trainer.max_steps"):
        setup.check_schedule(OptimConfig(schedule="linear"), timed)
    setup.check_schedule(OptimConfig(schedule="constant", warmup=0), timed)


def test_the_launcher_says_how_many_processes_there_are():
    from gpt_lightning.processes import Place

    place = Place("torchrun", 0, 4, 2, 2)
    for values in ({}, {"devices": 2}, {"devices": "auto", "num_nodes": 2}):
        found = setup.trainer_settings(trainer(**values), place)
        assert (found["devices"], found["num_nodes"]) == (2, 2)
    with pytest.raises(ValueError, match="trainer.devices=3, mais torchrun"):
        setup.trainer_settings(trainer(devices=3), place)


def test_a_schedule_longer_than_the_run_is_refused():
    limits = {"max_epochs": None, "max_tokens": None, "timed": False, "eval_every": 5}
    plan = make_plan(batches_per_epoch=50, accumulate=1, tokens_per_batch=100, max_steps=20, **limits)
    setup.check_schedule(OptimConfig(warmup=20), plan)
    setup.check_schedule(OptimConfig(schedule="wsd", warmup="1ktok", decay=10), plan)
    for config in (OptimConfig(warmup=21), OptimConfig(schedule="wsd", warmup=5, decay="2ktok")):
        with pytest.raises(ValueError, match="dépassent la course"):
            setup.check_schedule(config, plan)


def test_a_limited_epoch_is_made_of_whole_steps():
    assert setup.limited(50, None, 4) == 50
    assert setup.limited(50, 10, 4) == 8 and setup.limited(50, 0.5, 4) == 24
    with pytest.raises(ValueError, match="limit_train_batches=3"):
        setup.limited(50, 3, 4)


def test_every_process_needs_a_validation_window():
    setup.check_validation(2, 2)
    with pytest.raises(ValueError, match="2 fenêtres pour 3 processus"):
        setup.check_validation(2, 3)
