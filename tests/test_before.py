"""La refonte n'a rien changé : les commandes de tests/golden/before donnent les pertes et les textes d'avant elle.

Au dernier chiffre sur la machine qui les a écrits ; ailleurs, où torch arrondit autrement, à l'arrondi près.
"""

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT

BEFORE = ROOT / "tests" / "golden" / "before"
EXPECTED = json.loads((BEFORE / "expected.json").read_text(encoding="utf-8"))


def _writer():
    spec = importlib.util.spec_from_file_location("write", BEFORE / "write.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write = _writer()
SAME = write.machine() == EXPECTED["machine"]


@pytest.fixture
def cwd(tmp_path) -> Path:
    """Un dossier de travail : les corpus, et l'exécution de texte dont les autres partent."""
    write.corpora(tmp_path)
    shutil.copytree(BEFORE / "text", tmp_path / "text")
    return tmp_path


def agree(found: dict, expected: dict) -> None:
    if SAME:
        assert found == expected
    for key, values in expected.items():
        assert [float(one) for one in found[key]] == pytest.approx([float(one) for one in values], rel=2e-2)


def train(command, cwd: Path, name: str, output: str, *more: str) -> Path:
    start = () if name == "text" else ("init_from=text",)
    done = command("train.py", *write.arguments(name, output, *start, *more), cwd=cwd, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return cwd / output


@pytest.mark.parametrize("name", write.TASKS)
def test_fifty_steps_lose_the_same(name, command, cwd):
    run = train(command, cwd, name, "nouvelle", "trainer.max_steps=50")
    agree(write.losses(run), EXPECTED["losses"][f"{name} 50"])


@pytest.mark.parametrize("name", write.TASKS)
def test_ten_steps_with_dropout_lose_the_same(name, command, cwd):
    run = train(
        command, cwd, name, "nouvelle", "trainer.max_steps=10", "model.drop_rate=0.1", "trainer.devices=1"
    )
    agree(write.losses(run), EXPECTED["losses"][f"{name} 10 dropout 0.1 processus 1"])


@pytest.mark.slow
@pytest.mark.parametrize("drop", ["0", "0.1"])
@pytest.mark.parametrize("name", write.TASKS)
def test_two_processes_lose_the_same(name, drop, command, cwd):
    dropout = () if drop == "0" else (f"model.drop_rate={drop}",)
    run = train(command, cwd, name, "nouvelle", "trainer.max_steps=10", *dropout, "trainer.devices=2")
    agree(write.losses(run), EXPECTED["losses"][f"{name} 10 dropout {drop} processus 2"])


@pytest.mark.parametrize("name", write.TASKS)
def test_a_run_of_before_writes_the_same_text(name, command, cwd):
    if name != "text":
        shutil.copytree(BEFORE / name, cwd / name)
    program, prompt = write.PROMPTS[name]
    for dtype in ("fp32", "bf16", "int8") if SAME else ("fp32",):
        how = () if program == "classify" else ("decoding=greedy", "max_new_tokens=40")
        typed = (f"ckpt_path={name}", prompt, "device=cpu", *how, f"dtype={dtype}")
        done = command(*write.entry(program), *typed, cwd=cwd, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        before = EXPECTED["greedy"][name] if dtype == "fp32" else EXPECTED["quantised"][name][dtype]
        if program == "classify" and dtype != "fp32":  # un produit d'un autre noyau arrondit autrement
            figures, text = zip(*(split_figures(said) for said in (done.stdout, before)), strict=True)
            assert text[0] == text[1] and figures[0] == pytest.approx(figures[1], abs=0.3)
        else:
            assert done.stdout == before


def split_figures(text: str) -> tuple[list[float], str]:
    """Les pourcentages d'une sortie, et la sortie sans eux."""
    figures = re.findall(r"\d+,\d", text)
    return [float(figure.replace(",", ".")) for figure in figures], re.sub(r"\d+,\d", "", text)


@pytest.mark.parametrize("name", write.TASKS)
def test_a_run_of_before_is_continued(name, command, cwd):
    if name != "text":
        shutil.copytree(BEFORE / name, cwd / name)
    done = command("train.py", f"ckpt_path={name}", "trainer.max_steps=52", cwd=cwd, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    with (cwd / name / "metrics.csv").open(encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert sorted(set(steps))[-2:] == [51, 52] and "pas 50" in done.stdout
