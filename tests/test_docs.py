"""La documentation dit ce que le projet contient : clés, fichiers, commandes, docstrings."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from gpt_lightning import cli
from tests.test_readme import CONFIGS

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCS}
COMMANDS = [
    (name, line)
    for name, text in TEXTS.items()
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    for line in block.splitlines()
    if re.search(r"(python|torchrun.*) (train\.py|generate\.py|-m gpt_lightning)", line)
]


def keys_of(path: Path, prefix: str) -> set[str]:
    found: set[str] = set()

    def walk(node: dict, before: str) -> None:
        for key, value in node.items():
            if key in ("hydra", "defaults") or (key == "_target_" and prefix != "optim."):
                continue
            if isinstance(value, dict) and value:
                walk(value, f"{before}{key}.")
            else:
                found.add(f"{before}{key}")

    walk(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, prefix)
    return found


def sections(text: str) -> dict[str, set[str]]:
    parts = re.split(r"^## ", text, flags=re.M)[1:]
    return {part.split("\n")[0]: set(re.findall(r"^\| `([\w.]+)` \|", part, flags=re.M)) for part in parts}


def expected() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(cli.CONF.rglob("*.yaml")):
        if path.name == "no_output.yaml" or path.parent.name == "experiment":
            continue
        group = path.parent.name
        if group == "conf":
            name = f"{path.stem}.py" if path.stem in ("train", "generate") else path.stem
            found[name] = keys_of(path, "")
        elif group == "demos":
            found[f"demos.{path.stem}"] = keys_of(path, "")
        elif "@package _global_" not in path.read_text(encoding="utf-8"):
            found.setdefault(group, set()).update(keys_of(path, f"{group}."))
    return found


@pytest.mark.parametrize("section", sorted(expected()))
def test_every_key_of_conf_is_documented_and_no_other(section):
    assert sections(TEXTS["configuration.md"])[section] == expected()[section]


@pytest.mark.parametrize("name, line", COMMANDS, ids=str)
def test_each_command_of_the_docs_composes(name, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.partition("|")[2] or line)
    start = next(i for i, word in enumerate(words) if word in CONFIGS)
    typed = [word for word in words[start + 1 :] if word not in ("export", "prepare")]
    overrides, texts = cli.take_free_text(typed)
    values = [o for o in overrides if not o.startswith("-")]
    singles = [re.sub(r"=([^'\[{,]*),.*", r"=\1", v) if "-m" in overrides else v for v in values]
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        cfg = compose(CONFIGS[words[start]], singles)
    assert all(key in cfg for key in texts)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_and_files_exist(path):
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (path.parent / link).exists(), link
    for name in re.findall(r"`((?:gpt_lightning|tests|benchmarks)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_index_names_every_page():
    assert {path.name for path in DOCS} - {"index.md"} == set(
        re.findall(r"\[([\w-]+\.md)\]", TEXTS["index.md"])
    )


def public_definitions():
    for path in sorted((ROOT / "gpt_lightning").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield str(path.relative_to(ROOT)), tree
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def test_every_public_class_and_function_has_its_docstring():
    assert [name for name, node in public_definitions() if not ast.get_docstring(node)] == []
