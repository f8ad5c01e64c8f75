"""Un arrêt propre à chaque pas, au milieu d'une époque et d'une accumulation : la suite est la même au bit près."""

import signal
from pathlib import Path

import pytest
import yaml

from gpt_lightning.cli import signals
from gpt_lightning.cli.composition import compose_resolved
from gpt_lightning.cli.resume import resume_overrides
from gpt_lightning.commands.train import train
from gpt_lightning.training.callbacks import StopOnSignal
from tests.resilience.runs import TINY, same_run

CASES = {
    "accumulation": ("trainer.accumulate_grad_batches=3", "data.batch_size=2", "model.drop_rate=0.3"),
    "époques courtes": ("trainer.limit_train_batches=7", "eval_every=3", "model.drop_rate=0.3"),
}
FAST = (5, 20)  # une évaluation due, le dernier pas


@pytest.fixture(scope="module")
def typed(text_file, cache, tmp_path_factory) -> list[str]:
    path = tmp_path_factory.mktemp("texte") / "court.txt"
    path.write_text(text_file.read_text(encoding="utf-8")[:1500], encoding="utf-8")
    return [*TINY, f"data.path={path}", f"data.cache_dir={cache}", "trainer.max_steps=20"]


CHOICES = {"model": "tiny", "data": "text", "tokenizer": "characters"}


def run(folder: Path, *overrides: str, choices: dict[str, str] = CHOICES) -> None:
    """Ce que la commande ferait de ces surcharges, dans ce processus ; `choices` sont celles de leurs groupes."""
    asked = (
        [f"output_dir={folder}", *overrides]
        if not (folder / "config.yaml").exists()
        else [f"ckpt_path={folder}"]
    )
    settings, _ = compose_resolved("train", *resume_overrides(asked, "train"))
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "hydra.yaml").write_text(
        yaml.safe_dump({"hydra": {"runtime": {"choices": choices}}})
    )
    train(settings)


@pytest.fixture(
    scope="module", params=["accumulation", pytest.param("époques courtes", marks=pytest.mark.slow)]
)
def entire(request, typed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("entier") / "course"
    run(folder, *typed, *CASES[request.param])
    return folder, CASES[request.param]


@pytest.mark.parametrize(
    "step", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in range(1, 21)]
)
def test_a_stop_at_this_step_changes_nothing(entire, typed, step, tmp_path, monkeypatch):
    expected, case = entire
    monkeypatch.setattr(signals._State, "received", 0)
    agreed = StopOnSignal._agree

    def stop(self, trainer, **options):
        signals._State.received = signal.SIGTERM if trainer.global_step == step else 0
        return agreed(self, trainer, **options)

    monkeypatch.setattr(StopOnSignal, "_agree", stop)
    folder = tmp_path / "course"
    with pytest.raises(signals.Interrupted):
        run(folder, *typed, *case)
    monkeypatch.setattr(StopOnSignal, "_agree", lambda self, trainer, **options: 0)
    run(folder)
    same_run(folder, expected)
