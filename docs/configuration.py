"""Écrire docs/configuration.md d'après conf/ : `make docs`."""

import re
import sys
from pathlib import Path
from typing import Any

from gpt_lightning.cli.composition import CONF, choices, compose
from gpt_lightning.commands import COMMANDS

PAGE = Path(__file__).with_name("configuration.md")
GROUPS = ("model", "data", "tokenizer", "optim", "lora", "decoding", "trainer", "callbacks", "logger")
BASE = {"model": "mini", "data": "text", "tokenizer": "trained", "optim": "adamw", "decoding": "default"}
BASE |= {
    "lora": "default",
    "trainer": "default",
    "callbacks": "default",
    "logger": "tensorboard",
}  # le fichier complet de chaque groupe
# les douze réglages que l'on change le plus : un groupe, ou une clé de train.yaml
TWELVE = ("model", "data", "data.path", "tokenizer", "experiment", "init_from")
TWELVE += ("ckpt_path", "output_dir", "data.batch_size", "optim.lr", "max_tokens", "trainer.devices")
ABOUT = {
    "model": "la taille et l'architecture",
    "data": "le corpus, ou la tâche",
    "tokenizer": "le vocabulaire",
    "experiment": "une recette, qui change plusieurs groupes",
}
INTRODUCTION = """# La configuration

<!-- Page écrite par « make docs » d'après les commentaires de conf/ : ne la changez pas à la main. -->

Toute clé se change par `clé=valeur` sur la ligne de commande ; `groupe=choix` prend un autre fichier de
`conf/<groupe>/`. `python train.py --cfg job` montre la configuration composée, et le dossier de l'exécution la garde
dans config.yaml. Une faute de frappe reçoit la clé la plus proche.

```bash
python train.py model=mini optim.lr=1e-3 data.max_length=64 data.stride=64
python train.py experiment=original
python train.py -m optim=adamw,muon seed=1,2
```

## Les douze réglages que l'on change

{twelve}

## Comment lire cette page

Dans chaque groupe, un fichier liste toutes les clés, et les autres en héritent : une table dit ce qu'ils changent.
"""


def comments(path: Path) -> dict[str, str]:
    """{clé avec des points: commentaire de fin de ligne} d'un fichier YAML."""
    found, above = {}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^(\s*)([\w]+):(.*?)(?:\s# (.*))?$", line)
        if match:
            depth = len(match[1]) // 2
            above = [*above[:depth], match[2]]
            found[".".join(above)] = match[4] or ""
    return found


def inherited(path: Path) -> dict[str, str]:
    """Les commentaires d'un fichier de conf/, et de ceux dont il hérite."""
    sentences: dict[str, str] = {}
    for parent in parents(path):
        sentences |= inherited(parent)
    return sentences | {key: sentence for key, sentence in comments(path).items() if sentence}


def parents(path: Path) -> list[Path]:
    """Les fichiers dont celui-ci hérite : « /nom » est à la racine de conf/, « nom » à côté de lui."""
    listed = re.findall(r"^  - (/?)(\w+)(?:@_here_)?$", path.read_text(encoding="utf-8"), flags=re.M)
    return [(CONF if root else path.parent) / f"{name}.yaml" for root, name in listed if name != "_self_"]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Les feuilles d'un dictionnaire, par clé avec des points."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def shown(value: Any) -> str:
    """Une valeur comme on la tape."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return "" if value == "" else str(value)


def row(key: str, value: Any, sentence: str) -> str:
    """Une ligne de la table des clés."""
    typed = f"`{shown(value)}`" if shown(value) else ""
    return f"| `{key}` | {typed} | {escaped(sentence)} |"


def escaped(text: str) -> str:
    """Le texte d'une case de table."""
    return text.replace("|", "\\|")


def headline(path: Path) -> str:
    """La phrase qui ouvre un fichier de conf/."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line[2:] for line in lines if line.startswith("# ") and "@package" not in line)


def table(values: dict[str, Any], said: dict[str, str], prefix: str = "") -> list[str]:
    """La table des clés. ValueError si une clé n'a pas de commentaire."""
    lines = ["| Clé | Valeur | Ce qu'elle fait |", "|---|---|---|"]
    for key, value in values.items():
        sentence = said.get(key, "")
        if key.endswith("_target_") and not sentence:
            continue
        if not sentence:
            raise ValueError(f"conf/ : la clé {prefix}{key} n'a pas de commentaire.")
        lines.append(row(prefix + key, value, sentence))
    return lines


def group_section(group: str) -> list[str]:
    """La page d'un groupe : les clés du fichier complet, celles que d'autres ajoutent, puis les choix."""
    composed = {choice: flat(compose("train", f"{group}={choice}")[group]) for choice in choices(group)}
    said = inherited(CONF / "metrics.yaml") if group == "logger" else {}
    for choice in (BASE[group], *choices(group)):
        said = inherited(CONF / group / f"{choice}.yaml") | said
    base = composed[BASE[group]]
    keys = dict(base)
    for values in composed.values():
        keys = {**values, **keys}
    ordered = {key: keys[key] for key in (*base, *(key for key in keys if key not in base))}
    lines = ["", f"## {group}", "", *table(ordered, said, f"{group}.")]
    lines += ["", f"| `{group}=` | Ce que c'est | Ce qu'il change |", "|---|---|---|"]
    for choice, values in composed.items():
        changed = [f"`{k}={shown(v)}`" for k, v in values.items() if base.get(k, ...) != v and "." not in k]
        hidden = ("sha256=", "url=", *(["_target_="] if group == "tokenizer" else []))
        changed = [one for one in changed if not one.startswith(tuple(f"`{key}" for key in hidden))]
        said_changed = "le fichier complet" if choice == BASE[group] else ", ".join(changed)
        lines.append(
            f"| `{choice}` | {escaped(headline(CONF / group / f'{choice}.yaml'))} | {said_changed} |"
        )
    return lines


def command_section(config_name: str, title: str, typed: str) -> list[str]:
    """La page d'une commande : ses clés du premier niveau, et les groupes qu'elle compose."""
    values = compose(config_name)
    own = {key: value for key, value in values.items() if key not in GROUPS}
    used = [f"`{key}`" for key in values if key in GROUPS]
    groups = f", avec {'le groupe' if len(used) == 1 else 'les groupes'} {', '.join(used)}" if used else ""
    path = CONF / f"{config_name}.yaml"
    parent = next((one.stem for one in parents(path) if one.stem in COMMANDS), None)
    if parent is not None:  # seulement ce qui change
        groups += f", avec les clés de `{parent}`"
        own = {key: value for key, value in own.items() if key in comments(path)}
    lines = ["", f"## {title}", "", f"`{typed}`{groups}.", ""]
    return lines + table(own, inherited(path))


def twelve() -> list[str]:
    """La table des réglages que l'on change : la phrase de chacun est celle de conf/."""
    values = flat(compose("train"))
    sentences = inherited(CONF / "train.yaml")
    lines = ["| Réglage | Habituel | Ce qu'il fait |", "|---|---|---|"]
    for name in TWELVE:
        group, _, key = name.partition(".")
        if key:
            sentence = inherited(CONF / group / f"{BASE[group]}.yaml")[key]
            lines.append(row(name, values[name], sentence))
        elif name in GROUPS or name == "experiment":
            listed = ", ".join(f"`{choice}`" for choice in choices(name))
            lines.append(f"| `{name}` | `{usual(name)}` | {ABOUT[name]} : {listed} |")
        else:
            lines.append(row(name, values[name], sentences[name]))
    return lines


def usual(group: str) -> str:
    """Le choix d'un groupe dans train.yaml ; null s'il n'y en a pas."""
    defaults = re.search(
        rf"^  - {group}: (\S+)", (CONF / "train.yaml").read_text(encoding="utf-8"), flags=re.M
    )
    assert defaults is not None
    return defaults[1].rstrip("}").rpartition(",")[2]


def page() -> str:
    """Le contenu de docs/configuration.md."""
    lines = [INTRODUCTION.rstrip().replace("{twelve}", "\n".join(twelve()))]
    for name in COMMANDS:
        script = name in ("train", "generate")
        typed = f"python {name}.py" if script else f"python -m gpt_lightning {name}"
        lines += command_section(name, f"{name}.py" if script else name, typed)
    for group in GROUPS:
        lines += group_section(group)
    lines += [
        "",
        "## experiment",
        "",
        "Un fichier de `conf/experiment/` change plusieurs groupes à la fois.",
        "",
    ]
    lines += ["| `experiment=` | Ce que c'est |", "|---|---|"]
    lines += [
        f"| `{one}` | {headline(CONF / 'experiment' / f'{one}.yaml')} |" for one in choices("experiment")
    ]
    for name in choices("demos"):
        lines += command_section(f"demos/{name}", f"demos.{name}", f"python -m gpt_lightning.demos.{name}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0
            if PAGE.read_text(encoding="utf-8") == page()
            else "docs/configuration.md est périmé : make docs."
        )
    PAGE.write_text(page(), encoding="utf-8")
