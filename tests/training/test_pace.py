"""La durée annoncée d'après de vrais pas : une horloge injectée, jamais celle de la machine."""

import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from gpt_lightning.training.callbacks import Lines
from gpt_lightning.training.callbacks.progress import ESTIMATED
from gpt_lightning.wording import duration


class Simulated:
    """Un entraînement dont chaque durée est donnée : ce que Lightning appelle, et l'horloge qu'il fait avancer."""

    def __init__(
        self, *, total, eval_every, batches, some=None, step=1.0, batch=0.2, after=0.5, accumulate=1, first=0
    ):
        self.now, self.first, self.eval_every = 1000.0, first, eval_every
        self.total, self.some, self.batches = total, some, batches
        self.step, self.batch, self.after = step, batch, after
        plan = SimpleNamespace(total_steps=total, tokens_per_step=100, accumulate=accumulate)
        self.trainer = SimpleNamespace(
            global_step=first,
            num_val_batches=[batches],
            val_check_batch=eval_every * accumulate,
            check_val_every_n_epoch=None,
            world_size=1,
            is_global_zero=True,
            sanity_checking=False,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )
        self.module = SimpleNamespace(
            plan=plan,
            seen=SimpleNamespace(tokens=0),
            paused_seconds=0.0,
            long_seconds=0.0,
            pauses={},
            data=SimpleNamespace(eval_batches=some),
            metrics={"val/loss": 1.0, "val/perplexity": 2.0},
        )
        self.lines = Lines(clock=lambda: self.now)

    def run(self, preparation: float = 0.0) -> float:
        """Tout, du premier pas au dernier ; renvoie la durée, depuis que la commande a commencé."""
        began, (trainer, module, lines) = self.now, (self.trainer, self.module, self.lines)
        self.now += preparation
        lines.on_train_start(trainer, module)
        for step in range(self.first + 1, self.total + 1):
            for lot in range(module.plan.accumulate):
                lines.on_train_batch_start(trainer, module, None, lot)
                self.now += self.step / module.plan.accumulate
                if lot == module.plan.accumulate - 1:
                    trainer.global_step = step
                    module.seen.tokens += 100
                lines.on_train_batch_end(trainer, module, None, None, lot)
            if step % self.eval_every == 0 or step == self.total:
                self._evaluate(self.batches if step == self.total else self.some or self.batches)
        return self.now - began

    def _evaluate(self, batches: int) -> None:
        self.lines.on_validation_start(self.trainer, self.module)
        for lot in range(batches):
            self.now += self.batch
            self.lines.on_validation_batch_end(self.trainer, self.module, None, None, lot)
        self.lines.on_validation_end(self.trainer, self.module)
        self.now += self.after


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("Durée")]


@pytest.fixture(autouse=True)
def listened(caplog):
    caplog.set_level("INFO", "gpt_lightning")


def test_the_duration_is_said_after_ten_thirty_and_a_hundred_steps(caplog):
    Simulated(total=150, eval_every=50, batches=4).run()
    assert [line.rpartition("d'après ")[2] for line in said(caplog)] == [f"{n} pas)" for n in ESTIMATED]


def test_it_counts_what_came_before_the_first_step(caplog):
    whole = Simulated(total=40, eval_every=5, batches=2).run(preparation=25.0)
    assert f"environ {duration(whole)} en tout" in said(caplog)[1]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize(
    "total, eval_every, batches, some", [(60, 10, 40, 5), (200, 20, 9, None), (130, 25, 3, 1)]
)
def test_once_all_was_measured_it_is_exact(caplog, total, eval_every, batches, some, first, accumulate):
    run = Simulated(
        total=total, eval_every=eval_every, batches=batches, some=some, first=first, accumulate=accumulate
    )
    whole = run.run(preparation=3.0)
    last = said(caplog)[-1]
    assert f"environ {duration(whole)} en tout" in last


def test_before_any_evaluation_a_batch_costs_a_third_of_a_learned_one(caplog):
    """Un pas d'une seconde, des évaluations dont un lot prend un tiers de seconde : juste avant la première."""
    whole = Simulated(total=120, eval_every=60, batches=30, step=1.0, batch=1 / 3, after=0.0).run()
    assert f"environ {duration(whole)} en tout" in said(caplog)[1]


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_long_pause_is_counted_as_often_as_it_comes(caplog, left):
    """Des tâches notées avant le premier pas, en une minute : ce n'est pas le prix d'un pas."""
    run = Simulated(total=1000, eval_every=1000, batches=1, after=0.0, batch=1 / 3)
    run.module.paused_seconds = run.module.long_seconds = 60.0
    run.module.pauses = {"tasks": (60.0, left)}
    whole = run.run(preparation=60.0)
    assert f"environ {duration(whole + 60 * left)} en tout" in said(caplog)[1]


def test_a_long_pause_is_not_in_its_step(caplog):
    run = Simulated(total=100, eval_every=1000, batches=1, after=0.0, batch=1 / 3)
    start = run.lines.on_train_batch_start

    def pause(trainer, module, batch, lot):
        start(trainer, module, batch, lot)
        if trainer.global_step == 5:
            run.now += 60.0
            module.paused_seconds += 60.0
            module.long_seconds += 60.0
            module.pauses = {"film": (60.0, 0)}

    run.lines.on_train_batch_start = pause
    whole = run.run()
    assert f"environ {duration(whole)} en tout" in said(caplog)[0]


def test_a_few_slow_steps_do_not_count(caplog):
    run = Simulated(total=100, eval_every=1000, batches=1, after=0.0, batch=1 / 3)
    durations = random.Random(1)
    slow = {1, 4, 9}
    original = run.lines.on_train_batch_start

    def start(trainer, module, batch, lot):
        original(trainer, module, batch, lot)
        run.now += 30.0 if trainer.global_step in slow else durations.uniform(0, 1e-3)

    run.lines.on_train_batch_start = start
    whole = run.run()
    assert f"environ {duration(whole)} en tout" in said(caplog)[1]


def test_the_time_left_goes_down_to_nothing(caplog):
    Simulated(total=100, eval_every=10, batches=3).run()
    left = [
        record.getMessage().rpartition("reste ")[2]
        for record in caplog.records
        if "reste" in record.getMessage() and record.getMessage().startswith("pas ")
    ]
    seconds = [
        int(text.split(" min")[0]) * 60 + int(text.split()[-2]) if "min" in text else int(text[:-2])
        for text in left
    ]
    assert len(seconds) == 9 and all(a > b for a, b in pairwise(seconds))


def test_without_a_number_of_steps_nothing_is_announced(caplog):
    run = Simulated(total=40, eval_every=10, batches=1)
    run.module.plan.total_steps = None
    run.run()
    assert said(caplog) == []


def slow_steps(caplog, durations, monkeypatch, *, threads=2, device="cpu", evaluates=1000) -> list[str]:
    """Ce qui est dit d'un entraînement dont chaque pas dure ce que `durations` donne."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    run = Simulated(total=len(durations), eval_every=evaluates, batches=1, step=0.0, batch=50.0, after=50.0)
    run.trainer.strategy.root_device = torch.device(device)
    original = run.lines.on_train_batch_start

    def start(trainer, module, batch, lot):
        original(trainer, module, batch, lot)
        run.now += durations[trainer.global_step]

    run.lines.on_train_batch_start = start
    run.run()
    return [record.getMessage() for record in caplog.records if "plus lents" in record.getMessage()]


@pytest.mark.parametrize(
    "durations, told",
    [
        ([1.0] * 30 + [2.1] * 30, 1),  # une minute, et une seule fois
        ([1.0] * 30 + [2.1] * 300 + [1.0] * 30 + [2.1] * 60, 1),
        ([1.0] * 10 + [20.0] * 10, 1),  # dès la première allure
        ([0.1] * 50 + [0.25] * 230, 0),  # moins d'une minute
        ([1.0] * 30 + [1.9] * 200, 0),  # moins de deux fois
        (([1.0] * 10 + [2.1] * 20) * 9, 0),  # jamais une minute de suite
        ([1.0] * 30 + [1.0, 1.0, 1.0, 90.0, 1.0] * 20, 0),  # quelques pas
        ([9.0] * 3 + [1.0] * 200, 0),  # les premiers, que l'on compile ou que l'on échauffe
    ],
)
def test_steps_that_stay_slow_are_said_once(caplog, durations, told, monkeypatch):
    assert len(slow_steps(caplog, durations, monkeypatch)) == told


def test_evaluations_are_not_slow_steps(caplog, monkeypatch):
    assert slow_steps(caplog, [1.0] * 100, monkeypatch, evaluates=5) == []


@pytest.mark.parametrize(
    "threads, device, advice", [(2, "cpu", "threads=1"), (1, "cpu", "top"), (2, "cuda", "nvidia-smi")]
)
def test_what_to_type_is_what_helps_there(caplog, threads, device, advice, monkeypatch):
    (line,) = slow_steps(caplog, [1.0] * 20 + [9.0] * 20, monkeypatch, threads=threads, device=device)
    assert advice in line and ("threads=1" in line) == (advice == "threads=1")
