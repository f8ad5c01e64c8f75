"""Les étages : qui peut importer qui (design : les flèches ne vont que vers le bas)."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gpt_lightning"
STDLIB = set(sys.stdlib_module_names)
# ce que chaque étage voit du paquet, et des bibliothèques
INSIDE = {
    "messages": set(),
    "tokenizers": {"tokenizers"},
    "data": {"data", "tokenizers"},
    "model": {"model"},
    "decoding": {"decoding", "model.cache"},
    "weights": {"weights", "model", "tokenizers", "messages"},
    "training": {"training", "model", "decoding", "messages"},
    "writing": {"messages"},
    "processes": set(),
    "dialogue": {"decoding", "messages"},
    "demos": {"demos", "training", "weights", "decoding", "data", "model", "tokenizers", "messages"},
}
OUTSIDE = {
    "messages": set(),
    "tokenizers": {"tiktoken", "tokenizers", "regex", "requests"},
    "data": {"torch", "numpy", "lightning", "matplotlib"},
    "model": {"torch"},
    "decoding": {"torch"},
    "weights": {"torch", "safetensors", "huggingface_hub"},
    "training": {"torch", "lightning", "matplotlib", "rich"},
    "writing": set(),
    "processes": {"torch", "lightning"},
    "dialogue": {"yaml"},
    "demos": {"torch", "numpy", "matplotlib", "rich"},
}
DOORS = {"cli.py", "evaluate.py", "__main__.py"}  # seuls ceux-là voient Hydra
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


def allowed(name: str, floor: str) -> bool:
    top = name.partition(".")[0]
    if top == "gpt_lightning":
        rest = name.removeprefix("gpt_lightning.")
        return any(rest == seen or rest.startswith(f"{seen}.") for seen in INSIDE[floor])
    return top in STDLIB or top in OUTSIDE[floor] or top == "pydoc_data"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_down_only(path):
    floor = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if floor not in INSIDE or path.name in DOORS:
        assert path.name in DOORS | {"__init__.py"}
        return
    refused = {name for name in imports(path) if not allowed(name, floor)}
    if floor == "demos" and "def main" in path.read_text(encoding="utf-8"):
        refused = {name for name in refused if not name.startswith("gpt_lightning.cli")}
    assert not refused


def test_hydra_stays_at_the_door():
    for path in FILES:
        if path.name not in DOORS:
            tops = {name.partition(".")[0] for name in imports(path)}
            assert not tops & {"hydra", "omegaconf"}, path


def test_no_folder_of_leftovers():
    names = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert not names & {"utils", "common", "helpers", "core", "scripts", "misc"}


@pytest.mark.parametrize(
    "module", ["gpt_lightning", "gpt_lightning.messages", "gpt_lightning.cli", "gpt_lightning.data.corpus"]
)
def test_light_modules_do_not_load_torch(module):
    import subprocess

    code = f"import sys, {module}; print('torch' in sys.modules, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_generation_does_not_load_lightning():
    import subprocess

    code = "import sys, generate, gpt_lightning.weights, gpt_lightning.decoding; print('lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False"], done.stderr


def test_loading_weights_does_not_load_the_compiler(tmp_path):
    import subprocess

    code = (
        "import sys, torch; from pathlib import Path; from gpt_lightning.model import GPTConfig, GPTModel\n"
        "from gpt_lightning.weights.loading import build\n"
        "config = GPTConfig(vocab_size=9, context_length=4, emb_dim=4, n_heads=1, n_layers=1)\n"
        "model = build(config, GPTModel(config).state_dict(), Path('x'))\n"
        "model(torch.tensor([[1, 2]])); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False"], done.stderr
