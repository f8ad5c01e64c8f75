"""Reprendre une exécution : ce que la ligne de commande en reprend."""

import warnings

import yaml

from gpt_lightning.cli import composition, resume
from gpt_lightning.cli.composition import CONF


def test_a_resume_knows_every_group_of_train():
    """Un groupe oublié reviendrait à son choix par défaut."""
    defaults = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    groups = {name for one in defaults if isinstance(one, dict) for name in one}
    assert groups == set(resume.GROUPS)


def test_the_corpus_of_a_run_is_inherited_without_a_word_from_hydra(tmp_path, monkeypatch):
    """Comme le ferait evaluate après un entraînement, pour chaque choix de corpus."""
    monkeypatch.chdir(tmp_path)
    for choice in composition.choices("data"):
        run = tmp_path / "outputs" / choice
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.ckpt").write_bytes(b"")
        (run / ".hydra").mkdir()
        saved = {"data": {**composition.compose("command", f"+data={choice}")["data"], "batch_size": 3}}
        (run / "config.yaml").write_text(yaml.safe_dump(saved), encoding="utf-8")
        record = {"hydra": {"runtime": {"choices": {"data": choice}}}}
        (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
        with warnings.catch_warnings(action="error"):
            overrides = resume.inherited_overrides([f"ckpt_path={run}"], "data")
        assert overrides == [f"data={choice}", "data.batch_size=3", f"ckpt_path={run}"]
