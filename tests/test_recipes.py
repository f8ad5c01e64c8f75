"""Les recettes de docs/contribuer.md, faites pour de vrai : chacune s'applique à une copie du projet, et marche."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "contribuer.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"^(?:Créez|À la fin de|Dans) `(?P<path>[^`]+)`(?:, (?P<where>avant|après|à la place de) la ligne\s"
    r"`(?P<line>[^`]+)`)? :\n\n```\w+\n(?P<code>.*?)^```$",
    flags=re.M | re.S,
)
EXPECTED = {  # ce que la dernière commande dit, ou ce que le dossier de l'exécution garde
    "Un corpus (data=)": "source: docstrings",
    "Un filtre de décodage": None,  # les deux commandes écrivent le même texte
    "Un optimiseur (optim=)": "_target_: gpt_lightning.training.lion.Lion",
    "Une option du modèle (model.)": "activation: relu2",
    "Une tâche": "the end.",
}


class Step(NamedTuple):
    """Un bloc de code, le fichier où il va, et à quelle ligne."""

    path: str
    where: str | None
    line: str | None
    code: str


def recipes() -> dict[str, tuple[list[Step], list[str]]]:
    """{titre: (étapes, commandes)} de la page."""
    found = {}
    for part in PAGE.partition("\n## Comment ajouter\n")[2].split("\n### ")[1:]:
        blocks = part.count("\n```") // 2
        steps = [Step(*match) for match in STEP.findall(part)]
        commands = re.findall(r"```bash\n(.*?)```", part, flags=re.S)
        assert blocks == len(steps) + len(commands), part  # aucun bloc n'est laissé de côté
        found[part.partition("\n")[0]] = (steps, "".join(commands).splitlines())
    return found


RECIPES = recipes()


def apply(step: Step, project: Path) -> None:
    path = project / step.path
    if not step.where:
        before = path.read_text(encoding="utf-8") + "\n\n" if path.exists() else ""
        path.write_text(before + step.code, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    (at,) = [rank for rank, line in enumerate(lines) if line.strip() == step.line]
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    new = textwrap.indent(step.code, indent).splitlines()
    apart = ["", ""] if step.code.startswith(("def ", "class ")) else []
    lines[at : at + 1] = {
        "avant": [*new, *apart, lines[at]],
        "après": [lines[at], *new],
        "à la place de": new,
    }[step.where]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def project(tmp_path) -> Path:
    """Une copie du projet, où une exécution du modèle de texte est déjà faite."""
    for name in ("gpt_lightning", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "generate.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run(line: str, project: Path) -> str:
    """Ce que dit une commande de la page, tapée dans `project`."""
    environment = {**os.environ, "PYTHONPATH": str(project), "XDG_CACHE_HOME": str(project / "cache")}
    typed = [sys.executable, *shlex.split(line)[1:]]
    done = subprocess.run(
        typed, cwd=project, env=environment, capture_output=True, encoding="utf-8", timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_the_five_recipes():
    assert set(RECIPES) == set(EXPECTED)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_applies_and_compiles(title, project):
    steps, _ = RECIPES[title]
    for step in steps:
        apply(step, project)
    for path in {project / step.path for step in steps if step.path.endswith(".py")}:
        compile(path.read_text(encoding="utf-8"), path, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_works(title, project):
    shutil.copytree(ROOT / "tests" / "golden" / "before" / "text", project / "outputs" / "déjà" / "là")
    steps, commands = RECIPES[title]
    for step in steps:
        apply(step, project)
    said = [run(line, project) for line in commands]
    if EXPECTED[title] is None:
        assert len(said) == 2 and said[0] == said[1] != ""
        return
    kept = [path.read_text(encoding="utf-8") for path in project.glob("outputs/*/*-*-*/config.yaml")]
    assert any(EXPECTED[title] in one for one in (said[-1], *kept))
