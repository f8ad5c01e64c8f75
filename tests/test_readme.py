"""Les commandes des README : les mêmes dans les deux langues, et toutes acceptées."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from gpt_lightning import cli

ROOT = Path(__file__).resolve().parents[1]


def commands(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


FRENCH = commands("README.md")
SCRIPTS = [line for line in FRENCH if re.search(r"python (train\.py|generate\.py|-m gpt_lightning)", line)]
CONFIGS = {
    "train.py": "train",
    "generate.py": "generate",
    "gpt_lightning.weights": "export",
    "gpt_lightning.data": "prepare",
    "gpt_lightning.evaluate": "evaluate",
    **{
        f"gpt_lightning.demos.{path.stem}": f"demos/{path.stem}"
        for path in (cli.CONF / "demos").glob("*.yaml")
    },
}


def test_both_languages_have_the_same_commands():
    assert commands("README.en.md") == FRENCH
    assert {"make train", "make test", "tensorboard --logdir outputs"} <= set(FRENCH)


@pytest.mark.parametrize("line", SCRIPTS)
def test_each_command_composes(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script, *typed = [word for word in shlex.split(line)[1:] if word not in ("export", "prepare")]
    if script == "-m":
        script, *typed = typed
    overrides, texts = cli.take_free_text(typed)
    values = [o for o in overrides if not o.startswith("-")]
    singles = [value.split(",")[0] if "-m" in overrides else value for value in values]
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose(CONFIGS[script], singles)
    assert all(key in cfg for key in texts)


@pytest.mark.parametrize("line", [line for line in FRENCH if line.startswith("make ")])
def test_each_target_exists(line):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{line.removeprefix('make ')}:", makefile, flags=re.M)


@pytest.mark.parametrize(
    "path", re.findall(r"`(gpt_lightning/[\w/.]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
)
def test_each_file_named_exists(path):
    assert (ROOT / path).exists()
