"""Un checkpoint publié se charge pour toujours, ou dit quoi faire ; celui d'une version future est refusé."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from gpt_lightning import weights
from gpt_lightning.weights import format as form
from tests.conftest import ROOT, sentences

RELEASES = sorted((ROOT / "tests" / "golden" / "releases").iterdir())


@pytest.mark.parametrize("folder", RELEASES, ids=lambda path: path.name)
def test_the_weights_of_a_release_load_for_ever(folder):
    expected = json.loads((folder / "expected.json").read_text())
    for name in ("best", "last"):
        model, tokenizer = weights.load(str(folder / "checkpoints" / f"{name}.ckpt"))
        assert tokenizer.encode(tokenizer.decode(expected["ids"])) == expected["ids"]
        logits = model(torch.tensor([expected["ids"]]))[0, -1]
        torch.testing.assert_close(logits, torch.tensor(expected["logits"]), atol=1e-4, rtol=1e-4)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1e6


@pytest.mark.parametrize("folder", RELEASES, ids=lambda path: path.name)
def test_a_run_of_a_release_is_resumed(folder, command, tmp_path):
    shutil.copytree(folder, tmp_path / "course")
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # son corpus est tests/data/the-verdict.txt
    done = command("train.py", "ckpt_path=course", "trainer.max_steps=22", cwd=tmp_path)
    assert done.returncode == 0 and "pas 22/22" in done.stdout, done.stderr


def newer(folder: Path, run: Path) -> Path:
    """La même exécution, écrite par une version future."""
    shutil.copytree(folder, run)
    for path in (run / "checkpoints").iterdir():
        content = torch.load(path, weights_only=True)
        content[form.KEY] |= {
            "format_version": form.VERSION + 1,
            "training_version": form.TRAINING_VERSION + 1,
        }
        torch.save(content, path)
    return run


@pytest.mark.parametrize(
    "typed",
    [
        ("train.py", "ckpt_path=course"),
        ("train.py", "init_from=course", "data=pydoc", "max_tokens=1000"),
        ("generate.py", "ckpt_path=course"),
        ("gpt_lightning", "evaluate", "ckpt_path=course", "data=pydoc"),
        ("gpt_lightning", "export", "ckpt_path=course", "to=sortie"),
        ("gpt_lightning.demos.top_k", "ckpt_path=course"),
    ],
    ids=lambda typed: " ".join(typed[:2]),
)
@pytest.mark.slow
def test_a_newer_version_is_refused_by_every_command_alike(typed, command, tmp_path):
    newer(RELEASES[-1], tmp_path / "course")
    done = command(*typed, cwd=tmp_path)
    assert done.returncode == 1 and len(sentences(done.stderr)) == 1, done.stderr
    assert "plus récent" in done.stderr and "mettez-le à jour" in done.stderr
    assert not (tmp_path / "sortie").exists()


def test_a_newer_version_is_refused(tmp_path):
    run = newer(RELEASES[-1], tmp_path / "course")
    with pytest.raises(ValueError, match="plus récent que ce programme"):
        weights.load(str(run))
    with pytest.raises(ValueError, match="version plus récente"):
        weights.resumable(str(run / "checkpoints" / "last.ckpt"))
