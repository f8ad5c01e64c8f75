"""Un checkpoint abîmé est vu, nommé, et remplacé par le plus récent qui ne l'est pas."""

import random
import shutil

import pytest
import torch

from gpt_lightning import weights
from gpt_lightning.cli.resume import resume_overrides
from gpt_lightning.errors import UserError
from gpt_lightning.weights.untrusted import Damaged, read_torch
from tests.conftest import ROOT

RUN = ROOT / "tests" / "golden" / "releases" / "0.1.0"


def same(left, right) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def damages(content: bytes, count: int, rng: random.Random):
    """Des fichiers coupés ou dont un bit a changé."""
    for index in range(count):
        if index % 4 == 0:
            yield content[
                : rng.choice([0, 1, 3, len(content) // 2, len(content) - 1, rng.randrange(len(content))])
            ]
        else:
            changed = bytearray(content)
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            yield bytes(changed)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_cuts_and_flips_are_seen_or_change_nothing(name, tmp_path):
    original = RUN / "checkpoints" / name
    expected, path, seen = torch.load(original, weights_only=True), tmp_path / name, 0
    for content in damages(original.read_bytes(), 100, random.Random(0)):
        path.write_bytes(content)
        try:
            assert same(read_torch(path), expected)
        except UserError as error:
            assert str(path) in str(error)
            seen += 1
    assert seen > 90  # les autres sont tombés dans ce que l'archive n'emploie pas


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUN, tmp_path / "course")
    folder = tmp_path / "course" / "checkpoints"
    shutil.copyfile(folder / "last.ckpt", folder / "step_0000020.ckpt")
    return tmp_path / "course"


def spoil(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_resume_takes_the_newest_that_is_whole_and_says_so(run, caplog):
    spoil(run / "checkpoints" / "last.ckpt")
    found = resume_overrides(["ckpt_path=course"], "train")
    assert "ckpt_path='course/checkpoints/step_0000020.ckpt'" in found
    assert "last.ckpt est abîmé" in caplog.text and "step_0000020.ckpt est pris à sa place" in caplog.text


@pytest.mark.parametrize("typed", ["ckpt_path=course", "ckpt_path=course/checkpoints/last.ckpt"])
def test_strict_resume_refuses_it(typed, run):
    spoil(run / "checkpoints" / "last.ckpt")
    with pytest.raises(Damaged, match="last.ckpt est abîmé"):
        resume_overrides([typed, "strict_resume=true"], "train")


def test_nothing_whole_is_left(run):
    for path in (run / "checkpoints").iterdir():
        spoil(path)
    with pytest.raises(Damaged, match="est abîmé"):
        resume_overrides(["ckpt_path=course"], "train")
    with pytest.raises(Damaged, match="est abîmé"):
        weights.load("course")


def test_the_weights_of_a_run_too(run, caplog):
    spoil(run / "checkpoints" / "best.ckpt")
    model, _ = weights.load("course")
    assert model is not None and "last.ckpt est pris à sa place" in caplog.text
    with pytest.raises(Damaged, match="best.ckpt est abîmé"):
        weights.load("course/checkpoints/best.ckpt")


def test_a_disk_that_does_not_answer_is_not_a_damaged_file(run, monkeypatch):
    """Le fichier est peut-être intact : on ne passe pas à un plus ancien."""

    def fails(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(UserError, match="last.ckpt ne se lit pas") as error:
        resume_overrides(["ckpt_path=course"], "train")
    assert not isinstance(error.value, Damaged)


def test_auto_does_not_resume_weights_alone(run):
    for path in (run / "checkpoints").iterdir():
        if path.name != "best.ckpt":
            path.unlink()
    typed = ["resume=auto", "output_dir=course"]
    assert resume_overrides(typed, "train") == typed
