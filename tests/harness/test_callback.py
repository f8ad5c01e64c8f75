"""callbacks=tasks : des courbes de plus, et pas un bit de différent."""

import pytest
import torch

pytest.importorskip("lm_eval", reason="make test-evals : lm-eval a son environnement")

from gpt_lightning.training.loggers.metrics_csv import read_metrics
from tests.conftest import sentences

COMMON = (
    "model=tiny",
    "model.drop_rate=0.1",
    "data=text",
    "tokenizer=bytes",
    "data.max_length=32",
    "data.stride=32",
    "data.batch_size=4",
    "trainer.log_every_n_steps=3",
    "trainer.max_steps=10",
    "eval_every=5",
    "callbacks.sample=null",
    "output_dir=execution",
)
TASKS = (
    "callbacks=tasks",
    "callbacks.tasks.every=4",
    "callbacks.tasks.limit=4",
    "callbacks.tasks.num_fewshot=1",
)
MEASURES = {"tasks/glose_mot/acc", "tasks/glose_mot/acc_norm", "tasks/h_aspire/acc"}


@pytest.fixture
def train(command, text_file, tmp_path):
    def run(name: str, *typed: str):
        cwd = tmp_path / name
        cwd.mkdir(exist_ok=True)
        done = command("train.py", *COMMON, f"data.path={text_file}", *typed, cwd=cwd)
        return done, cwd / "execution"

    return run


def state(run) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def scored(run) -> dict[int, dict[str, float]]:
    rows = read_metrics(run / "metrics.csv")
    return {step: {key: row[key] for key in MEASURES} for step, row in rows.items() if row.keys() >= MEASURES}


def assert_equal(one, other) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_is_the_same_to_the_bit_with_and_without(train, precision):
    """Les poids, et toutes les mesures que l'on avait déjà ; les notes sont à leurs pas, dans les journaux."""
    without, plain = train("sans", f"trainer.precision={precision}")
    with_tasks, run = train("avec", f"trainer.precision={precision}", *TASKS)
    assert without.returncode == with_tasks.returncode == 0, with_tasks.stderr
    assert_equal(state(plain), state(run))
    assert scored(run).keys() == {0, 4, 8, 10}
    for step, row in read_metrics(plain / "metrics.csv").items():
        measured = read_metrics(run / "metrics.csv")[step]
        assert {key: measured[key] for key in row if "second" not in key and "memory" not in key} == {
            key: value for key, value in row.items() if "second" not in key and "memory" not in key
        }
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run)).Reload()
    for tag in (f"voir aussi/{name}" for name in MEASURES):
        assert [event.step for event in board.Scalars(tag)] == [0, 4, 8, 10]
    assert "tasks/h_aspire/acc" in with_tasks.stderr + with_tasks.stdout


def test_a_resumed_run_has_the_same_scores_and_the_same_weights(train):
    constant = (*TASKS, "optim.schedule=constant")  # dont le taux ne dépend pas du nombre de pas
    _, whole = train("entiere", *constant)
    train("reprise", *constant, "trainer.max_steps=5")  # une évaluation, comme l'entière
    done, resumed = train("reprise", *constant, "ckpt_path=execution")
    assert done.returncode == 0, done.stderr
    assert_equal(state(whole), state(resumed))
    assert {step: scored(resumed)[step] for step in scored(whole)} == scored(whole)


def test_two_processes_score_once_and_wait_for_each_other(train):
    done, run = train("deux", *TASKS, "trainer.devices=2", "trainer.accelerator=cpu")
    assert done.returncode == 0, done.stderr
    _, plain = train("deux sans", "trainer.devices=2", "trainer.accelerator=cpu")
    assert scored(run).keys() == {0, 4, 8, 10}
    assert_equal(state(plain), state(run))


REFUSED = [
    (("callbacks.tasks.tasks=[inconnue]",), "inconnue"),
    (("callbacks.tasks.every=0",), "callbacks.tasks.every=0"),
    (("tokenizer=characters",), "n'est pas dans le vocabulaire"),
    (
        ("tokenizer=characters", "trainer.devices=2", "trainer.accelerator=cpu"),
        "n'est pas dans le vocabulaire",
    ),
]


@pytest.mark.parametrize("typed, named", REFUSED)
def test_a_task_that_cannot_be_scored_is_refused_before_the_first_step(train, typed, named):
    done, run = train("refus", *TASKS, *typed)
    said = [line for line in sentences(done.stderr) if named in line]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert len(said) == 1, done.stderr
    assert not (run / "checkpoints").exists()


def test_a_classification_is_refused(command, tmp_path):
    typed = ("experiment=classify", "callbacks=tasks", "model=tiny", "trainer.max_steps=2")
    done = command("train.py", *typed, cwd=tmp_path)
    assert done.returncode == 1 and "callbacks=tasks" in done.stderr.splitlines()[-1], done.stderr
