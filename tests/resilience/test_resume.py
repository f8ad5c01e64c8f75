"""Une exécution tuée ou arrêtée, puis reprise, finit sur les mêmes bits que celle que rien n'a arrêtée."""

import random
import signal
import time

import pytest

from tests.resilience.runs import Runs, ended, same_run, steps_of, until

STEPS = "trainer.max_steps=20"
MATRIX = {  # dropout, lecteurs, processus, accumulation, optimiseur et horaire
    "simple": (),
    "dropout": ("model.drop_rate=0.2",),
    "lecteurs": ("model.drop_rate=0.2", "data.num_workers=2"),
    "accumulation": ("model.drop_rate=0.2", "trainer.accumulate_grad_batches=4", "data.batch_size=2"),
    "deux processus": ("model.drop_rate=0.2", "trainer.devices=2", "data.batch_size=2"),
    "deux, accumulation": (
        "model.drop_rate=0.2",
        "trainer.devices=2",
        "data.batch_size=2",
        "trainer.accumulate_grad_batches=4",
        "data.num_workers=2",
    ),
    "adamw wsd": ("optim=adamw", "optim.lr=1e-3", "optim.schedule=wsd"),
    "sgd constant": (
        "optim=target",
        "optim._target_=torch.optim.SGD",
        "optim.lr=0.1",
        "optim.schedule=constant",
    ),
    "cosinus": ("optim.schedule=cosine", "callbacks=early_stopping", "callbacks.early_stopping.patience=50"),
}


@pytest.fixture
def short(text_file, tmp_path):
    """Un texte dont une époque fait moins de vingt pas : les reprises la traversent."""
    path = tmp_path / "court.txt"
    path.write_text(text_file.read_text(encoding="utf-8")[:1500], encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("case", MATRIX)
def test_killed_at_random_moments_it_ends_on_the_same_bits(case, cache, short, tmp_path):
    runs = Runs(tmp_path, cache, short, STEPS, *MATRIX[case])
    expected = runs.whole("entier")
    rng, kills = random.Random(case), 0
    process = runs.fresh("tué")
    for attempt in range(12):
        until(process, *(f"pas {step}/" for step in range(steps_of(tmp_path / "tué") + 1, 21)))
        time.sleep(rng.random() * 0.3)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        begun = (tmp_path / "tué" / "checkpoints" / "last.ckpt").exists()
        process = runs.resumed("tué") if begun else runs.fresh("tué", "resume=auto")
        if attempt == 11 or steps_of(tmp_path / "tué") >= 15:
            break
    ended(process)
    assert kills >= 1
    same_run(tmp_path / "tué", expected)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_stopped_by_a_signal_it_ends_on_the_same_bits(devices, cache, short, tmp_path):
    runs = Runs(tmp_path, cache, short, STEPS, "model.drop_rate=0.2", f"trainer.devices={devices}")
    expected = runs.whole("entier")
    process = runs.fresh("arrete")
    until(process, "pas 5/")
    process.send_signal(signal.SIGTERM)
    said = ended(process, 143)
    assert "SIGTERM" in said and "ckpt_path=arrete" in said and 5 <= steps_of(tmp_path / "arrete") < 20
    ended(runs.resumed("arrete"))
    same_run(tmp_path / "arrete", expected)
