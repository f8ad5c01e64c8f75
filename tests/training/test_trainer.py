import pytest

from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.errors import UserError
from gpt_lightning.training import hardware, trainer
from gpt_lightning.training.callbacks import LastCheckpoint, Progress
from gpt_lightning.training.plan import Plan

SETTINGS = compose("train", "trainer.accelerator=cpu")
VALUES = SETTINGS["trainer"]
PLAN = Plan(steps_per_epoch=10, tokens_per_step=64, total_steps=30, eval_every=5, accumulate=3)
MACHINE = hardware.resolve(VALUES)


@pytest.mark.parametrize(
    "choice, device, seconds, answer",
    [
        ("auto", "cpu", 1e6, False),
        ("auto", "cuda", None, True),
        ("auto", "cuda", 60.0, False),
        ("auto", "cuda", 3600.0, True),
        (True, "cpu", 1.0, True),
        (False, "cuda", 1e6, False),
    ],
)
def test_compiling(choice, device, seconds, answer):
    assert trainer.compiled(choice, device, seconds) is answer
    with pytest.raises(UserError, match="compile="):
        trainer.compiled("oui", device)


def test_the_trainer_follows_the_plan():
    engine = build("trainer", trainer.arguments(VALUES, MACHINE, PLAN), logger=False, callbacks=[])
    assert engine.max_steps == -1 and engine.max_epochs == -1 and engine.accumulate_grad_batches == 3
    assert engine.val_check_interval == 15 and engine.world_size == MACHINE.world_size == 1
    assert engine.limit_train_batches == 1.0


def test_a_limited_epoch_and_an_interval_of_ones_own():
    values = {**VALUES, "limit_train_batches": 0.5, "val_check_interval": 7}
    given = trainer.arguments(values, MACHINE, PLAN)
    assert given["limit_train_batches"] == 30 and given["val_check_interval"] == 7


def test_what_the_trainer_forbids_is_left_out(tmp_path):
    steps, bar = LastCheckpoint(dirpath=str(tmp_path), every=None), Progress()
    values = {**VALUES, "enable_checkpointing": False, "enable_progress_bar": False}
    kept = trainer.chosen([steps, bar], {**SETTINGS, "trainer": values}, [])
    assert steps not in kept and bar not in kept and len(kept) == 2
