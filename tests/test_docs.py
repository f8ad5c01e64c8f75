"""La documentation dit ce que le projet contient : clés, fichiers, commandes, docstrings."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_readme import composes

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCS}
COMMANDS = [
    (name, line)
    for name, text in TEXTS.items()
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    for line in block.splitlines()
    if re.search(r"(python|torchrun.*) (train\.py|generate\.py|-m gpt_lightning)", line)
    and name != "contribuer.md"  # tests/test_recipes.py les exécute
]


def test_the_page_of_the_configuration_is_fresh(command):
    """docs/configuration.md est ce que « make docs » écrirait : chaque clé de conf/, et rien d'autre."""
    done = command("docs/configuration.py", "--check", cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name, line", COMMANDS, ids=str)
def test_each_command_of_the_docs_composes(name, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert composes(line)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_and_files_exist(path):
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert link.startswith("http") or (path.parent / link).exists(), link
    for name in re.findall(r"(?<!Créez )`((?:gpt_lightning|tests|benchmarks)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_index_names_every_page():
    assert {path.name for path in DOCS} - {"index.md"} == set(
        re.findall(r"\[([\w-]+\.md)\]", TEXTS["index.md"])
    )


def definitions(text: str, tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """Le nom et le texte de chaque définition : celles du fichier, et celles de ses classes (« Classe.méthode »)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
            yield inside + node.name, textwrap.dedent("\n".join(lines))
        if isinstance(node, ast.ClassDef):
            yield from definitions(text, node, f"{node.name}.")


QUOTES = [
    (page, name, quote)
    for page, text in TEXTS.items()
    if page != "contribuer.md"  # du code à ajouter : tests/test_recipes.py l'ajoute
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.S)
    for name, quote in definitions(block, ast.parse(block))
]


@pytest.fixture(scope="module")
def sources() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in (ROOT / "gpt_lightning").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name, source in definitions(text, ast.parse(text)):
            for known in {name, name.rpartition(".")[2]}:  # une page cite aussi une méthode seule
                found.setdefault(known, set()).add(source)
    return found


@pytest.mark.parametrize("page, name, quote", QUOTES, ids=lambda value: value.partition("\n")[0])
def test_the_code_that_a_page_quotes_is_the_code(page, name, quote, sources):
    assert name not in sources or quote in sources[name]


def test_each_line_of_the_six_steps_is_a_line_of_the_code():
    model = (ROOT / "gpt_lightning" / "model").glob("*.py")
    lines = {line.strip() for path in model for line in path.read_text(encoding="utf-8").splitlines()}
    text = TEXTS["modeles-d-aujourd-hui.md"]
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        assert {line.strip() for line in block.splitlines()} <= lines
    assert len(re.findall(r"^## \d\. .*?```python", text, flags=re.S | re.M)) == 6


def public_definitions():
    for path in sorted((ROOT / "gpt_lightning").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield str(path.relative_to(ROOT)), tree
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def test_every_public_class_and_function_has_its_docstring():
    assert [name for name, node in public_definitions() if not ast.get_docstring(node)] == []


def test_the_page_on_resuming_has_the_table_of_the_code():
    from gpt_lightning.training.run_config import followed_keys

    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", TEXTS["fiabilite.md"], flags=re.M)
    assert dict(rows) == followed_keys()
