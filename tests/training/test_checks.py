import pytest

from gpt_lightning.cli.composition import compose
from gpt_lightning.errors import UserError
from gpt_lightning.training import checks
from gpt_lightning.training.muon import MuonAdamW
from gpt_lightning.training.run_config import RunConfig

SETTINGS = compose("train", "output_dir=dossier")


def trainer(**values) -> dict:
    return {**SETTINGS["trainer"], **values}


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
    ],
    ids=str,
)
def test_what_the_trainer_cannot_take_is_refused_by_name(values):
    with pytest.raises(UserError, match=f"trainer.{next(iter(values))}"):
        checks.trainer("trainer", trainer(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"seed": "x"},
        {"seed": None},
        {"compile": "oui"},
        {"compile": 1},
        {"threads": 0},
        {"threads": "tous"},
        {"threads": True},
        {"threads": None},
        {"threads": 1025},
        {"eval_every": 0},
        {"eval_every": None},
        {"max_tokens": 0},
        {"save_every": "souvent"},
        {"global_batch_tokens": -5},
        {"global_batch_size": True},
    ],
    ids=str,
)
def test_an_impossible_setting_is_refused_by_name(values):
    with pytest.raises(UserError, match=f"^{next(iter(values))}="):
        RunConfig.read({**SETTINGS, **values}, MuonAdamW)


def test_the_default_settings_pass():
    RunConfig.read(SETTINGS, MuonAdamW)


def test_a_window_longer_than_the_context_is_refused_with_one_that_fits():
    with pytest.raises(UserError, match="essayez data.max_length=128"):
        checks.check_window(256, 128)


def test_every_process_needs_a_validation_window():
    checks.check_validation(2, 2)
    with pytest.raises(UserError, match="2 fenêtres pour 3 processus"):
        checks.check_validation(2, 3)
