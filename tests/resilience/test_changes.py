"""Ce qu'une reprise peut changer prend effet dès le pas suivant ; le reste est refusé, et rien n'est abîmé."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from gpt_lightning.cli.composition import compose_resolved
from gpt_lightning.cli.resume import DECIDED, resume_overrides
from gpt_lightning.commands.train import train
from gpt_lightning.errors import UserError
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from gpt_lightning.training.run_config import followed_keys, follows
from tests.resilience.runs import Runs, ended, read, steps_of
from tests.test_conf import composed

DONE = 6  # pas de l'exécution reprise, sur dix prévus


@pytest.fixture(scope="module")
def stopped(cache, text_file, tmp_path_factory) -> Path:
    """Une exécution vraie, arrêtée à son sixième pas sur dix."""
    cwd = tmp_path_factory.mktemp("reprises")
    more = (
        "optim=adamw",
        "optim.lr=1e-3",
        "optim.schedule=linear",
        "trainer.log_every_n_steps=1",
        "keep_last=null",
    )
    run = Runs(cwd, cache, text_file, *more, "trainer.max_steps=10").whole("course")
    for path in (run / "checkpoints").iterdir():
        if path.name not in ("step_0000006.ckpt", "step_0000003.ckpt", "best.ckpt"):
            path.unlink()
    (run / "checkpoints" / "step_0000006.ckpt").rename(run / "checkpoints" / "last.ckpt")
    return run


@pytest.fixture
def resumed(stopped, tmp_path, monkeypatch):
    """Reprend une copie de l'exécution : resumed("clé=valeur" ...) -> son dossier."""
    run = tmp_path / "ailleurs" / "copie"
    shutil.copytree(stopped, run)
    monkeypatch.chdir(tmp_path)

    def resume(*typed: str) -> Path:
        settings, _ = compose_resolved("train", *resume_overrides([f"ckpt_path='{run}'", *typed], "train"))
        train(settings)
        return run

    resume.run = run
    return resume


def final(run: Path) -> dict:
    return read(run / "checkpoints" / "last.ckpt")


def group(run: Path) -> dict:
    return final(run)["optimizer_states"][0]["param_groups"][0]


def rate(run: Path, step: int) -> float:
    return read_metrics(run / "metrics.csv")[step]["lr"]


CHANGES = {
    "": lambda run: rate(run, 7) == pytest.approx(1e-3 * 0.4, rel=0.2),
    "optim.lr=1e-5": lambda run: rate(run, 7) == pytest.approx(1e-5 * 0.4, rel=0.2),
    "optim.weight_decay=0.3": lambda run: group(run)["weight_decay"] == 0.3,
    "optim.betas=[0.5,0.6]": lambda run: tuple(group(run)["betas"]) == (0.5, 0.6),
    "optim.schedule=constant": lambda run: rate(run, 7) == 1e-3,
    "trainer.max_steps=20": lambda run: rate(run, 7) == pytest.approx(1e-3 * 14 / 18),
    "trainer.gradient_clip_val=1e-9": lambda run: final(run)["global_step"] == 10,
    "data.batch_size=8": lambda run: final(run)["gpt_lightning"]["progress"]["tokens"] == 6 * 64 + 4 * 128,
    "trainer.accumulate_grad_batches=3": lambda run: (
        final(run)["gpt_lightning"]["progress"]["tokens"] == 6 * 64 + 4 * 192
    ),
    "max_tokens=512": lambda run: final(run)["global_step"] == 8,
    "model.drop_rate=0.4": lambda run: final(run)["gpt_lightning"]["model"]["drop_rate"] == 0.4,
    "eval_every=4": lambda run: (
        {s for s, row in read_metrics(run / "metrics.csv").items() if "val/loss" in row} == {5, 8, 10}
    ),
    "save_every=4": lambda run: (run / "checkpoints" / "step_0000008.ckpt").exists(),
    "keep_last=1": lambda run: len(list(run.glob("checkpoints/step_*.ckpt"))) == 1,
    "callbacks.sample=null": lambda run: not (run / "samples" / "step_0000010.txt").exists(),
    "prompt=Il": lambda run: (run / "samples" / "step_0000010.txt").read_text("utf-8").startswith("Il"),
    "global_batch_tokens=128": lambda run: (
        final(run)["gpt_lightning"]["progress"]["tokens"] == 6 * 64 + 4 * 128
    ),
}
REFUSED = {
    "seed=9": "refusée : seed valait 123, il vaut 9",
    "model.n_layers=3": "model.n_layers valait 2, il vaut 3",
    "tokenizer=bytes": "tokenizer",
    "data.max_length=8": "data.max_length valait 16, il vaut 8",
    "data.stride=8": "data.stride valait null, il vaut 8",
    "data.train_split=0.5": "data.train_split valait 0.9, il vaut 0.5",
    "optim=muon": "optim._target_",
    "init_from=best": "init_from valait null, il vaut best",
    "data=pydoc": "data",
    "model=mini": "model.",
    "experiment=original": "Reprise refusée",
    "output_dir=autre": "output_dir=autre",
}


@pytest.mark.slow
@pytest.mark.parametrize("typed", CHANGES)
def test_what_follows_the_command_does_so_from_the_next_step(resumed, typed):
    shutil.rmtree(resumed.run / "samples")
    run = resumed(*[typed] if typed else [])
    assert CHANGES[typed](run)
    steps = [step for step, row in read_metrics(run / "metrics.csv").items() if "train/loss" in row]
    assert steps == list(range(1, max(steps) + 1))  # une seule courbe


@pytest.mark.parametrize("typed", REFUSED)
def test_what_makes_another_run_is_refused_and_nothing_changes(resumed, typed):
    before = {path: path.read_bytes() for path in resumed.run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=REFUSED[typed]):
        resumed(typed)
    assert {path: path.read_bytes() for path in resumed.run.rglob("*") if path.is_file()} == before


def test_another_text_under_the_same_path_is_refused(resumed, text_file, tmp_path):
    other = tmp_path / "autre.txt"
    other.write_text(text_file.read_text(encoding="utf-8").replace("e", "a", 1), encoding="utf-8")
    with pytest.raises(UserError, match="le corpus n'est plus le même"):
        resumed(f"data.path={other}")


def test_the_same_text_elsewhere_is_not(resumed, text_file, tmp_path):
    moved = tmp_path / "déplacé.txt"
    shutil.copy(text_file, moved)
    assert final(resumed(f"data.path='{moved}'"))["global_step"] == 10


def test_every_setting_is_in_the_table_or_refused():
    settings = composed("train")
    assert {key.partition(".")[0] for key in followed_keys()} <= set(settings)
    kept = (
        "seed",
        "init_from",
        "model.n_layers",
        "tokenizer.size",
        "data.max_length",
        "data.stride",
        "optim._target_",
    )
    assert not any(map(follows, kept))
    assert all(
        map(
            follows, ("optim.lr", "trainer.max_steps", "callbacks.early_stopping.patience", "data.batch_size")
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed",
    [
        "init_from=source",
        "init_from=source/checkpoints/best.ckpt",
        "init_from=best",
        "init_from=auto",
        "init_from=source lora=default",
        "optim.lr=auto",
        "optim=target optim._target_=torch.optim.SGD",
        "optim=adamw trainer.max_time=00:00:10:00",
        "threads=auto",
        "compile=auto trainer.precision=auto",
    ],
)
def test_the_same_command_typed_again_continues(typed, cache, text_file, tmp_path):
    """Ce que config.yaml garde (un fichier, un nombre) n'est plus ce que l'on a tapé (un dossier, un mot)."""
    runs = Runs(tmp_path, cache, text_file, "resume=auto", *typed.split())
    if "init_from" in typed:
        Runs(tmp_path, cache, text_file, "trainer.max_steps=2").whole("source")
        os.renames(tmp_path / "source", tmp_path / "outputs" / "source")
        own = [text for text in runs.typed if not text.startswith(("model=", "tokenizer="))]
        runs.typed = [text.replace("=source", "=outputs/source") for text in own]
    before = runs.whole("course", "trainer.max_steps=2")
    start = yaml.safe_load((before / "config.yaml").read_text(encoding="utf-8"))["init_from"]
    said = ended(runs.fresh("course", "trainer.max_steps=4"))
    assert steps_of(before) == 4 and "Reprise" in said, said
    assert yaml.safe_load((before / "config.yaml").read_text(encoding="utf-8"))["init_from"] == start
    if start is not None:
        other = [text for text in runs.typed if not text.startswith("init_from=")]
        runs.typed = [*other, "init_from=ailleurs"]
        assert "init_from valait" in ended(runs.fresh("course", "trainer.max_steps=6"), 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1500, 50_000])
def test_a_short_text_typed_again_keeps_what_was_chosen_for_it(size, cache, text_file, tmp_path):
    """Son lot, sa fenêtre, son vocabulaire viennent du texte ; data=text redonné ne les remet pas aux défauts."""
    text = text_file.read_text(encoding="utf-8")
    (tmp_path / "court.txt").write_text((text * (1 + size // len(text)))[:size], encoding="utf-8")
    runs = Runs(tmp_path, cache, text_file)
    runs.typed = ["data=text", "data.path=court.txt", "resume=auto", "callbacks.sample.max_new_tokens=2"]
    before = runs.whole("course", "trainer.max_steps=2")
    first = yaml.safe_load((before / "config.yaml").read_text(encoding="utf-8"))
    ended(runs.fresh("course", "trainer.max_steps=4"))
    again = yaml.safe_load((before / "config.yaml").read_text(encoding="utf-8"))
    assert steps_of(before) == 4
    assert all(again[group] == first[group] for group in ("data", "model", "tokenizer", "optim"))


@pytest.mark.slow
def test_what_early_stopping_ended_is_over_until_its_patience_grows(cache, text_file, tmp_path):
    early = (
        "callbacks=early_stopping",
        "callbacks.early_stopping.min_delta=50",
        "eval_every=2",
        "resume=auto",
    )
    runs = Runs(tmp_path, cache, text_file, *early, "trainer.max_steps=100")
    run = runs.whole("course", "callbacks.early_stopping.patience=1")
    stopped = steps_of(run)
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    assert stopped < 10
    for more in (
        (),
        ("trainer.max_steps=200",),
    ):  # plus de pas n'y changent rien, et la phrase n'en donne pas
        said = ended(runs.fresh("course", "callbacks.early_stopping.patience=1", *more))
        assert "Rien à faire" in said and (run / "checkpoints" / "last.ckpt").read_bytes() == before
        assert f"au pas {stopped}" in said and "max_steps" not in said.partition("Rien à faire")[2]
    advised = re.search(r"callbacks\.early_stopping\.patience=\d+", said)
    ended(runs.fresh("course", advised[0]))
    assert stopped < steps_of(run) < 20


@pytest.mark.slow
def test_without_any_evaluation_a_finished_run_is_evaluated(cache, text_file, tmp_path):
    runs = Runs(tmp_path, cache, text_file, "eval_every=1000", "save_every=1", "keep_last=null")
    run = runs.whole("course", "trainer.max_steps=3")
    said = ended(runs.start(f"ckpt_path={run}/checkpoints/step_0000002.ckpt", "trainer.max_steps=2"))
    assert "Traceback" not in said and steps_of(run) == 2


@pytest.mark.parametrize("key", DECIDED)
def test_auto_typed_again_keeps_what_it_became(key, resumed, caplog):
    """Le nombre d'une exécution est celui de son départ, même si la règle d'aujourd'hui en donnerait un autre."""
    source, again = f"ckpt_path='{resumed.run}'", f"{key}=auto"
    for spelled in ([again], [f"++{again}"], [f"{key}='auto'"], [f"{key}=0.02", again]):
        caplog.clear()
        with caplog.at_level("INFO", "gpt_lightning"):
            assert resume_overrides([source, *spelled], "train") == resume_overrides([source], "train")
        assert f"{again} : cette exécution garde" in caplog.text
    if (
        key == "optim.lr"
    ):  # un autre optimiseur a sa propre règle ; le même, donné de nouveau, garde le nombre
        chosen = yaml.safe_load((resumed.run / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))
        same = chosen["hydra"]["runtime"]["choices"]["optim"]
        other = "muon" if same != "muon" else "adamw"
        assert again not in resume_overrides([source, f"optim={same}", again], "train")
        assert again in resume_overrides([source, f"optim={other}", again], "train")


def test_a_newer_run_without_a_checkpoint_is_named(resumed, tmp_path, caplog):
    shutil.copytree(resumed.run, tmp_path / "outputs" / "ancienne")
    newer = tmp_path / "outputs" / "interrompue"
    (newer / ".hydra").mkdir(parents=True)
    with caplog.at_level("INFO", "gpt_lightning"):
        found = resume_overrides(["ckpt_path=last"], "train")
    assert "interrompue s'est arrêtée avant" in caplog.text and "ckpt_path='outputs/ancienne" in " ".join(
        found
    )


def test_without_last_the_newest_numbered_checkpoint_is_resumed(resumed):
    (resumed.run / "checkpoints" / "last.ckpt").unlink()
    assert rate(resumed(), 4) > 0 and final(resumed.run)["global_step"] == 10


def test_what_came_by_hand_is_not_taken_from_the_folder_and_is_said(resumed, caplog):
    path = resumed.run / "config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["callbacks"]["mien"] = {"_target_": "lightning.pytorch.callbacks.DeviceStatsMonitor"}
    settings["callbacks"]["plot"]["_target_"] = "os.system"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with caplog.at_level("INFO", "gpt_lightning"):
        overrides = resume_overrides([f"ckpt_path='{resumed.run}'"], "train")
    assert "os.system" not in str(overrides) and "DeviceStats" not in str(overrides)
    assert "callbacks.mien n'est pas repris" in caplog.text and "callbacks.plot._target_" in caplog.text
