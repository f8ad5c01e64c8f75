"""Un conseil se colle : ce que chaque phrase du paquet dit de taper existe, et marche dans l'état où elle le dit."""

import ast
import re
import shlex
import shutil
from collections.abc import Iterator

import pytest

from gpt_lightning.cli.composition import CONF, choices, group, known_keys
from gpt_lightning.commands import COMMANDS
from gpt_lightning.demos import DEMOS
from tests.conftest import ROOT, sentences
from tests.resilience.faults import Zygote

PACKAGE = ROOT / "gpt_lightning"
HOLE = "…"  # ce qu'une phrase ne sait qu'à l'exécution
KEYS = {key for path in CONF.glob("*.yaml") for key in known_keys(path.stem)}
KEYS |= {key for path in CONF.glob("demos/*.yaml") for key in known_keys(f"demos/{path.stem}")}
KEYS |= {
    f"{name}.{key}"
    for name in ("data", "lora", "tokenizer", "optim")
    for choice in choices(name)
    for key in group(name, choice) or ()
}
KEYS |= {
    f"logger.{name}.{key}" for name in choices("logger") for key in group("logger", name).get(name) or ()
}
KEY = re.compile(rf"(?<![\w.$/{HOLE}\[@?&<-])([a-z_][a-z_0-9]*(?:\.[a-z_0-9]+)*)=(?!=)([\w./~-]*)")
NOT_OURS = {"install", "uninstall", 
    "n", "weight", "train", "role",  # d'une demande, d'un message
    "n_inner", "rope_scaling", "partial_rotary_factor",  # d'un config.json
    "decode", "asked", "attribute",  # de Python, d'un gabarit
}  # fmt: skip


def advice() -> Iterator[tuple[str, str]]:
    """(fichier:ligne, phrase) de chaque texte du paquet qui contient une commande ou une clé à taper."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name in ("jinja.py", "one_file.py") or path.parent.name == "page":
            continue  # des programmes de Jinja, du HTML, et non des phrases
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # les docstrings
        for node in ast.walk(tree):
            if id(node) in inside | said:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else HOLE for part in node.values]
                text = "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if " " in text and (KEY.search(text) or "python " in text):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", text


ADVICE = dict(advice())


def test_the_sentences_are_collected():
    assert len(ADVICE) > 200 and any("ckpt_path=last" in text for text in ADVICE.values())


def test_every_key_that_a_sentence_says_exists():
    unknown = {
        (where, key): text
        for where, text in ADVICE.items()
        for key, _ in KEY.findall(text)
        if key not in KEYS | NOT_OURS and not key.startswith("hydra.")  # celles-là ont leurs essais
    }
    assert unknown == {}


def test_every_choice_that_a_sentence_says_exists():
    unknown = {
        where: f"{key}={value}"
        for where, text in ADVICE.items()
        for key, value in KEY.findall(text)
        if choices(key) and re.fullmatch(r"\w+", value) and value not in choices(key)
    }
    assert unknown == {}


def test_every_command_that_a_sentence_says_exists():
    for where, text in ADVICE.items():
        for script in re.findall(r"python (\w+)\.py", text):
            assert script in ("train", "generate"), where
        for name in re.findall(r"-m gpt_lightning ([a-z]+)", text):
            assert name in COMMANDS, where
        for name in re.findall(r"gpt_lightning\.demos\.([a-z_]+)", text):
            assert name in DEMOS, where


TINY = [
    *("model=tiny", "data=pydoc", "data.limit=20", "tokenizer=bytes", "trainer.max_steps=1"),
    "callbacks.sample=null",
]


@pytest.fixture(scope="module")
def start(forks, tmp_path_factory):
    return Zygote(forks, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def before(start, tmp_path_factory):
    """Un dossier avec une exécution finie, un balayage, et ce que laisse une exécution tuée à chaque moment."""
    cwd = tmp_path_factory.mktemp("conseils") / "ici"
    for typed in (["output_dir=finie"], ["-m", "seed=1,2", "output_dir=balayage"]):
        assert start("commands.train", *TINY, *typed, cwd=cwd)["rc"] == 0
    for name, lost in {
        "tuée à la mesure": ["checkpoints"],
        "tuée au début": ["checkpoints", "metrics.csv", "environment.yaml", "train.log"],
        "tuée avant tout": ["checkpoints", "metrics.csv", "environment.yaml", "train.log", "config.yaml"],
        "sans .hydra entier": [".hydra/hydra.yaml"],
        "sans config": ["config.yaml"],
    }.items():
        shutil.copytree(cwd / "finie", cwd / name)
        for path in (cwd / name / part for part in lost):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (cwd / "tuée au début" / "checkpoints").mkdir()
    return cwd


KILLED = ("tuée à la mesure", "tuée au début", "tuée avant tout")


def slowly(*values: str):
    """Ce cas, parmi les longs : ceux qui restent disent la même loi."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, typed, advised",
    [
        ("train", f"ckpt_path={KILLED[2]}", "resume=auto"),
        ("train", f"output_dir={KILLED[1]}", "resume=auto"),
        *(slowly("train", f"{key}={name}", "resume=auto") for key, name in
          (("output_dir", KILLED[0]), ("ckpt_path", KILLED[0]), ("ckpt_path", KILLED[1]), ("output_dir", KILLED[2]))),
        slowly("train", f"init_from={KILLED[0]}", "resume=auto"),
        slowly("generate", f"ckpt_path={KILLED[1]}", "resume=auto"),
        slowly("train", "output_dir=finie", "ckpt_path="),
        slowly("train", "ckpt_path=balayage", "balayage/"),
        ("generate", "ckpt_path=balayage", "balayage/"),
        slowly("train", "ckpt_path=sans .hydra entier", "init_from="),
        ("train", "ckpt_path=sans config", "init_from="),
    ],
)  # fmt: skip
def test_an_advice_about_a_folder_works_when_pasted(command, typed, advised, start, before, tmp_path):
    cwd = tmp_path / "ici"
    shutil.copytree(before, cwd)
    usual = TINY if command == "train" else ["max_new_tokens=1"]
    refused = start(f"commands.{command}", *usual, typed, cwd=cwd)
    (said,) = sentences(refused["said"])
    assert refused["rc"] == 1 and advised in said, said
    if "redonnez sa commande" in said:
        command, usual = "train", TINY
    spelt = re.findall(
        r"[a-z_]+=(?:'(?:[^']|'\"'\"')*'|[^\s,.:;'][^\s,:;']*)", said.replace("output_dir=, ", "")
    )
    if advised.endswith("/"):
        spelt = [f"ckpt_path={re.findall(r'balayage/[0-9]+', said)[-1]}"]
    pasted = [shlex.split(text.rstrip("."))[0] for text in spelt]
    if "autre output_dir=" in said and pasted == ["resume=auto"]:
        pasted.append(typed)
    if any(text.startswith("init_from=") for text in pasted):
        usual = [text for text in TINY if not text.startswith(("model=", "tokenizer="))]  # ceux des poids
    if any(text.startswith("ckpt_path=") for text in pasted) and command == "train":
        usual = ["trainer.max_steps=2"]  # une reprise a déjà le reste
    done = start(f"commands.{command}", *usual, *pasted, cwd=cwd)
    assert done["rc"] == 0, (said, pasted, done["said"])


def test_a_taken_sweep_is_not_said_to_be_resumable(start, before):
    done = start("commands.train", *TINY, "output_dir=balayage", cwd=before)
    (said,) = sentences(done["said"])
    assert done["rc"] == 1 and "balayage" in said and "ckpt_path" not in said and "resume" not in said
