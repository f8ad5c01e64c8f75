"""Une roue faite de l'arbre et installée ailleurs a conf/, ses commandes et ses données."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Le dossier où la roue est installée, sans les sources."""
    built, site = tmp_path_factory.mktemp("roue"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "-w", str(built), str(ROOT)], check=True)
    (wheel,) = built.glob("*.whl")
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site


@pytest.mark.slow
def test_a_wheel_has_everything(installed, cache, text_file, tmp_path):
    def run(*typed: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(cache)}
        done = subprocess.run(
            [sys.executable, *typed], cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(installed) in run("-c", "import gpt_lightning; print(gpt_lightning.__file__)")
    assert (installed / "gpt_lightning" / "conf" / "train.yaml").exists()
    assert {".html", ".css", ".js"} <= {
        p.suffix for p in (installed / "gpt_lightning" / "serving" / "page").iterdir()
    }
    (docs,) = (p for p in (installed / "gpt_lightning" / "serving" / "page").iterdir() if p.suffix == ".md")
    assert docs.read_bytes() == (ROOT / "docs" / "decodage.md").read_bytes()
    page = "from gpt_lightning.serving import playground as p; print([name for name, *_ in p.page_files()])"
    assert "decodage.md" in run("-c", page)
    listed = run("-m", "gpt_lightning")
    assert all(name in listed for name in ("train", "generate", "evaluate", "prepare", "export"))
    assert "perplexité" in run("-m", "gpt_lightning", "evaluate", "--help")
    small = ("model=tiny", "data=text", f"data.path={text_file}", "tokenizer=gpt2", "trainer.devices=2")
    said = run(
        "-m", "gpt_lightning", "train", *small, "trainer.max_steps=2", "data.max_length=16", "data.stride=16"
    )
    assert "report.html" in said
    assert run("-m", "gpt_lightning", "generate", "prompt=Le chat", "max_new_tokens=3").startswith("Le chat")
    code = "from gpt_lightning import Strategy, generate, load; model, tokenizer = load('best')\n"
    code += "print(generate(model, [[1]], strategy=Strategy(temperature=0), max_new_tokens=2))"
    assert run("-c", code).startswith("[[1, ")
