import shutil

import pytest
import torch

from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.errors import UserError
from gpt_lightning.training import engine, hardware
from gpt_lightning.training.callbacks import LastCheckpoint, Progress
from gpt_lightning.training.muon import MuonAdamW
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.run_config import RunConfig

SETTINGS = compose("train", "trainer.accelerator=cpu", "output_dir=dossier")
VALUES = SETTINGS["trainer"]
PLAN = Plan(steps_per_epoch=10, tokens_per_step=64, total_steps=30, eval_every=5, accumulate=3)
MACHINE = hardware.resolve(VALUES)


@pytest.mark.parametrize(
    "choice, device, seconds, answer",
    [
        ("auto", "cpu", 1e6, True),
        ("auto", "cpu", 100.0, False),
        ("auto", "cpu", None, False),
        ("auto", "mps", 1e6, False),
        ("auto", "cuda", None, True),
        ("auto", "cuda", 60.0, False),
        ("auto", "cuda", 3600.0, True),
        (True, "cpu", 1.0, True),
        (False, "cuda", 1e6, False),
    ],
)
def test_compiling(choice, device, seconds, answer, monkeypatch):
    monkeypatch.setattr(engine, "can_compile", lambda: True)
    assert engine.should_compile(choice, device, seconds) is answer
    with pytest.raises(UserError, match="compile="):
        engine.should_compile("oui", device)


@pytest.mark.slow
def test_a_cpu_without_a_compiler_compiles_nothing(monkeypatch):
    assert engine.can_compile() is bool(shutil.which("g++"))
    torch._dynamo.reset()
    with monkeypatch.context() as patch:
        patch.setattr(torch._inductor.config, "force_disable_caches", True)
        patch.setattr(torch._inductor.config.cpp, "cxx", ("/absent",))
        assert not engine.should_compile("auto", "cpu", 1e6)
        assert engine.should_compile(True, "cpu", 1e6)
    torch._dynamo.reset()


def run(**trainer) -> RunConfig:
    return RunConfig.read({**SETTINGS, "eval_every": 5, "trainer": {**VALUES, **trainer}}, MuonAdamW)


def test_the_trainer_follows_the_plan():
    trainer = build("trainer", engine.arguments(run(), MACHINE, 3), logger=False, callbacks=[])
    engine.follow(trainer, PLAN, run())
    assert trainer.max_steps == -1 and trainer.max_epochs == -1 and trainer.accumulate_grad_batches == 3
    assert trainer.val_check_interval == 15 and trainer.world_size == MACHINE.world_size == 1
    assert trainer.limit_train_batches == 1.0


def test_a_limited_epoch_and_an_interval_of_ones_own():
    asked = run(limit_train_batches=0.5, val_check_interval=7)
    trainer = build("trainer", engine.arguments(asked, MACHINE, 3), logger=False, callbacks=[])
    engine.follow(trainer, PLAN, asked)
    assert trainer.limit_train_batches == 30 and trainer.val_check_interval == 7
    asked = run(limit_train_batches=0.5, fast_dev_run=2)
    trainer = build("trainer", engine.arguments(asked, MACHINE, 3), logger=False, callbacks=[])
    engine.follow(trainer, PLAN, asked)
    assert trainer.limit_train_batches == 2


def test_what_the_trainer_forbids_is_left_out(tmp_path):
    steps, bar = LastCheckpoint(dirpath=str(tmp_path), every=None), Progress()
    values = {**VALUES, "enable_checkpointing": False, "enable_progress_bar": False}
    kept = engine.choose_callbacks([steps, bar], values)
    assert steps not in kept and bar not in kept
    assert [type(callback).__name__ for callback in kept] == ["FirstStep", "StopOnSignal", "Finish"]
