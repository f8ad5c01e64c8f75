"""La taille et le trafic : ce que la refonte a gagné, et qui ne doit pas se reperdre."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gpt_lightning"
FILES = [*sorted(PACKAGE.rglob("*.py")), ROOT / "train.py", ROOT / "generate.py"]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
TASK_WORDS = {"text", "instruct", "classify"}
# leurs paramètres sont les clés d'un fichier de conf/
CONFIGURED = {
    "data/text.py:SlidingWindowDataModule.__init__",
    "data/datasets.py:DatasetsDataModule.__init__",
    "data/shards/module.py:ShardsDataModule.__init__",
    "data/instruct/module.py:ConversationDataModule.__init__",
    "data/classify/module.py:LabelledDataModule.__init__",
}


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else path.name


def functions(path: Path):
    """(nom, nœud) de chaque fonction d'un fichier, celles des classes comprises."""

    def within(node: ast.AST, prefix: str):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{named(path)}:{prefix}{child.name}", child
            inside = f"{child.name}." if isinstance(child, ast.ClassDef | ast.FunctionDef) else ""
            yield from within(child, prefix + inside)

    return within(TREES[path], "")


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_function_is_a_page_at_most(path):
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node in functions(path)}
    assert {name: length for name, length in lengths.items() if length >= 60} == {}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_function_has_twelve_parameters_at_most(path):
    counts = {
        name: len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
        for name, node in functions(path)
    }
    assert {name: count for name, count in counts.items() if count > 12 and name not in CONFIGURED} == {}


FORMATS = {"number", "tick", "magnitude", "parameters_of", "duration", "percent"}  # la forme des nombres


def _takes(tree: ast.AST, name: str) -> bool:
    """Vrai si ce fichier prend `name` de wording.py, par son nom ou par celui du module."""
    return any(
        (isinstance(node, ast.ImportFrom) and node.module == "gpt_lightning.wording" and alias.name == name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ) or any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == f"wording.{name}" for node in ast.walk(tree)
    )


def test_wording_keeps_what_two_rooms_say():
    assert len((PACKAGE / "wording.py").read_text(encoding="utf-8").splitlines()) <= 150
    said = [node.name for node in TREES[PACKAGE / "wording.py"].body if isinstance(node, ast.FunctionDef)]
    for name in said:
        rooms = {named(path).partition("/")[0] for path, tree in TREES.items() if _takes(tree, name)}
        assert len(rooms) > 1 or (name in FORMATS and rooms), (name, rooms)


def test_the_tasks_are_told_apart_in_one_file():
    """Une tâche de plus est une classe de model/tasks.py, son module de données, sa commande."""
    for path, tree in TREES.items():
        if named(path) == "model/tasks.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare | ast.MatchValue):
                words = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)} & TASK_WORDS
                if words == {"text"} and "task" not in ast.unparse(node):
                    continue  # le « text » du protocole d'OpenAI
                assert not words, f"{path}:{node.lineno}"


def _assigned(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def test_nobody_outside_data_writes_into_a_data_module():
    for path, tree in TREES.items():
        if named(path).startswith("data/"):
            continue
        for node in ast.walk(tree):
            for target in _assigned(node):
                if isinstance(target, ast.Attribute):
                    owner = ast.unparse(target.value)
                    assert owner != "data" and not owner.endswith((".data", ".datamodule")), (
                        f"{path}:{node.lineno}"
                    )


def test_train_reads_downwards_and_its_settings_are_read_once():
    tree = TREES[PACKAGE / "commands" / "train.py"]
    (train,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "train"]
    assert train.end_lineno - train.lineno + 1 <= 45
    read = [
        node
        for node in ast.walk(train)
        if isinstance(node, ast.Name) and node.id == "settings" and isinstance(node.ctx, ast.Load)
    ]
    (line,) = [
        node.lineno
        for node in ast.walk(train)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "RunConfig.read"
    ]
    assert {node.lineno for node in read} == {line}
    later = [
        name
        for path in (PACKAGE / "training").rglob("*.py")
        for name, node in functions(path)
        for argument in (*node.args.args, *node.args.kwonlyargs)
        if argument.arg == "settings"
    ]
    # `read` les reçoit, et les conditions que keys.py déclare les regardent sans les garder
    assert {name.partition(":")[0] for name in later} <= {"training/run_config.py", "training/keys.py"}
    assert [name for name in later if "run_config" in name] == ["training/run_config.py:RunConfig.read"]


def test_every_key_of_train_is_a_field():
    from dataclasses import fields

    from gpt_lightning.cli.composition import compose
    from gpt_lightning.training.run_config import RunConfig

    assert {*compose("train"), "optimizer"} == {one.name for one in fields(RunConfig)}


def test_cli_does_not_know_training():
    from tests.test_floors import imports

    for path in (PACKAGE / "cli").glob("*.py"):
        assert not {name for name in imports(path) if name.startswith("gpt_lightning.training")}, path


def test_the_inference_keys_stand_once():
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "conf").glob("*.yaml")}
    for key in ("ckpt_path", "base_path", "n_heads", "device", "dtype", "compile", "threads"):
        holders = [
            path.name for path, text in texts.items() if f"\n{key}:" in text and path.name != "train.yaml"
        ]
        assert len(holders) == 1 or (key == "dtype" and set(holders) == {"inference.yaml", "demo.yaml"}), (
            key,
            holders,
        )


# une fonction est un verbe, un nom, ou is_/has_ ; un participe n'y est qu'un adjectif, devant un nom ou après un verbe
IRREGULAR = (
    "kept held taken given written known told shown seen sent found built drawn grown heard said begun gone done made "
    "lost met paid thrown chosen broken bound left"
)
NOT_A_PARTICIPLE = {"need", "feed", "seed", "speed", "embed", "exceed"}
IMPOSED = {"named", "connection_made", "connection_lost", "data_received"}  # un `_target_` ; asyncio
VERBS = {"is", "has", "compose", "leave", "read", "say", "log", "check"}
PREPOSITIONS = {"to", "by", "with", "from", "of", "in", "at", "on", "for", "as"}


def is_participle(word: str) -> bool:
    return word not in NOT_A_PARTICIPLE and (word in IRREGULAR.split() or word.endswith("ed"))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_function_is_not_named_by_a_participle(path):
    guilty = []
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name in IMPOSED:
            continue
        words = [word for word in node.name.split("_") if word]
        if not words or words[0] in VERBS:
            continue
        before_preposition = is_participle(words[0]) and words[1:2] and words[1] in PREPOSITIONS
        if is_participle(words[-1]) or before_preposition:
            guilty.append(f"{node.name} (ligne {node.lineno})")
    assert guilty == []


EMPTY_WORDS = {"one", "found", "known", "kept", "whole"}  # des noms qui ne nomment rien


def test_local_names_name_something():
    """`whole`, la vérification de errors.py, est un nom de fonction."""
    uses = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else None
            if name in EMPTY_WORDS and not (name == "whole" and imports_whole(tree)):
                uses.append(f"{named(path)}:{node.lineno} {name}")
    assert uses == ["decoding/batching.py:40 kept"]  # ce que les filtres gardent


def imports_whole(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "gpt_lightning.errors"
        and any(alias.name == "whole" for alias in node.names)
        for node in ast.walk(tree)
    )


def test_any_is_rare():
    """`Any` hors des imports : ce que l'on ne sait pas nommer."""
    uses = sum(
        isinstance(node, ast.Name) and node.id == "Any" for tree in TREES.values() for node in ast.walk(tree)
    )
    assert uses < 100
