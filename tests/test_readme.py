"""Les commandes des README : les mêmes dans les deux langues, et toutes acceptées."""

import re
import shlex
from pathlib import Path

import pytest

from gpt_lightning.cli import effects, habits
from gpt_lightning.cli.arguments import take_free_text
from gpt_lightning.cli.composition import compose_resolved
from gpt_lightning.cli.targets import build, resolve
from gpt_lightning.commands import COMMANDS, ineffective
from gpt_lightning.training.run_config import RunConfig

ROOT = Path(__file__).resolve().parents[1]


def commands(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


FRENCH = commands("README.md")
SCRIPTS = [line for line in FRENCH if re.search(r"python (train\.py|generate\.py|-m gpt_lightning)", line)]


def parsed(line: str) -> tuple[str, list[str]]:
    """(nom dans conf/, arguments) d'une commande telle qu'on la tape."""
    words = shlex.split(line.partition("|")[2] or line)
    start = next(
        i for i, word in enumerate(words) if re.match(r"(train|generate)\.py$|gpt_lightning\b", word)
    )
    script, typed = words[start], words[start + 1 :]
    if script.endswith(".py"):
        return script.removesuffix(".py"), typed
    if script.startswith("gpt_lightning.demos."):
        return f"demos/{script.rpartition('.')[2]}", typed
    return (typed[0], typed[1:]) if typed else ("", [])


def composes(line: str) -> bool:
    """La commande se compose, avec la première valeur de chaque clé d'un balayage, et passe ses contrôles.

    Ce sont ceux de la commande elle-même : les habitudes, les clés sans effet, les réglages, la stratégie. UserError.
    """
    name, typed = parsed(line)
    if not name:
        return line.split()[-1] == "gpt_lightning"  # la liste des commandes
    overrides, texts = take_free_text(habits.check_arguments(typed, name))
    values = [o for o in overrides if not o.startswith("-")]
    sweep = "-m" in overrides
    singles = [re.sub(r"=([^'\[{,]*),.*", r"=\1", value) if sweep else value for value in values]
    singles = effects.with_own_text(singles, name)
    folder = ["output_dir=dossier"] if name in ("train", "prepare") else []
    cfg, _ = compose_resolved(name, *singles, *folder)
    settings = {**cfg, **texts}
    effects.refuse_ineffective([*singles, *texts], settings, name, ineffective.TABLE)
    if name == "train":
        RunConfig.read(settings, resolve("optim", settings["optim"]["_target_"]))
    if "decoding" in settings:
        build("decoding", settings["decoding"])
    return all(key in cfg for key in texts)


def test_both_languages_have_the_same_commands():
    assert commands("README.en.md") == FRENCH
    assert {"make train", "make test", "tensorboard --logdir outputs"} <= set(FRENCH)


@pytest.mark.parametrize("line", SCRIPTS)
def test_each_command_composes(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert composes(line)


@pytest.mark.parametrize("line", [line for line in FRENCH if line.startswith("make ")])
def test_each_target_exists(line):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{line.removeprefix('make ')}:", makefile, flags=re.M)


@pytest.mark.parametrize(
    "path", re.findall(r"`(gpt_lightning/[\w/.]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
)
def test_each_file_named_exists(path):
    assert (ROOT / path).exists()


def test_without_a_command_they_are_listed_and_a_mistake_is_answered(command, tmp_path):
    done = command("gpt_lightning", cwd=tmp_path)
    assert done.returncode == 0 and all(f"  {name} " in done.stdout for name in COMMANDS)
    wrong = command("gpt_lightning", "evaluer", cwd=tmp_path)
    assert wrong.returncode == 1 and "evaluate" in wrong.stderr and wrong.stderr.count("\n") == 1
