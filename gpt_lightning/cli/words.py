"""Un argument sans « = » : le texte, pour une commande qui en prend un ; sinon, dire ce qu'il faut taper."""

import re
import shlex
from collections.abc import Sequence

from gpt_lightning.cli.arguments import quote, unquote
from gpt_lightning.cli.composition import CONF, choices, known_keys
from gpt_lightning.errors import UserError


def with_prompt(argv: Sequence[str], config_name: str) -> list[str]:
    """Ces arguments, options à part, où le seul mot est devenu `prompt=`.

    UserError s'il y a deux mots, si le mot nomme un réglage, ou si la commande ne prend pas de texte.
    """
    ranks = [rank for rank, text in enumerate(argv) if _is_word(text)]
    if not ranks:
        return list(argv)
    word = argv[ranks[0]]
    if not takes_text(config_name):
        raise UserError(_refusal(word, config_name))
    if len(ranks) > 1:
        text = as_shell(" ".join(argv[rank] for rank in ranks))
        raise UserError(f"Un texte de plusieurs mots se met entre guillemets : {text}")
    hint = _name_in_conf(word, config_name)
    if hint is not None:
        raise UserError(
            f"« {word} » est un nom de conf/ : tapez {hint}prompt={as_shell(word)} si c'est le texte."
        )
    if any(text.startswith("prompt=") for text in argv):
        raise UserError(f"{as_shell(word)} et prompt= sont deux textes : gardez l'un des deux.")
    return [f"prompt={text}" if rank == ranks[0] else text for rank, text in enumerate(argv)]


def takes_text(config_name: str) -> bool:
    """Vrai pour une commande dont `prompt` est ce que le modèle lit ; celui de train.py n'est que celui d'exemples."""
    return {"prompt", "device"} <= set(known_keys(config_name))


def _is_word(argument: str) -> bool:
    """Vrai pour du texte : pas de « = » avant sa première espace, ni signe devant qui en ferait autre chose."""
    return argument[:1] not in ("-", "+", "~") and "=" not in re.split(r"\s", argument, maxsplit=1)[0]


def _refusal(word: str, config_name: str) -> str:
    """La phrase d'un mot, pour une commande qui ne prend pas de texte."""
    hint = _name_in_conf(word, config_name)
    if hint:
        return f"« {word} » ne se comprend pas seul : tapez {hint.removesuffix(', ou ')}."
    if re.search(r"\s", word.strip()) and "prompt" in known_keys(config_name):
        return f"Un texte se donne par prompt={as_shell(word)}"
    return f"« {word} » ne se comprend pas : il faut clé=valeur, comme {example(config_name)}."


def example(config_name: str) -> str:
    """Une surcharge de cette commande, pour dire la forme qu'il faut."""
    keys = known_keys(config_name)
    usual = ("optim.lr=0.001", "ckpt_path=last", "seed=1")
    return next((text for text in usual if text.partition("=")[0] in keys), f"{keys[0]}=valeur")


def _name_in_conf(word: str, config_name: str) -> str | None:
    """Ce que `word` fait taper s'il nomme quelque chose dans conf/ (« decoding=greedy, ou »), ou rien ; None sinon."""
    if not re.fullmatch(r"\w+([./]\w+)*", word):
        return None
    keys, first = known_keys(config_name), re.split(r"[./]", word)[0]
    groups = [key for key in keys if choices(key)]
    if word in groups:
        return f"{word}={choices(word)[0]}, ou "
    if word in keys:
        return f"{word}=valeur, ou "
    chosen = next((group for group in groups if word in choices(group)), None)
    if chosen is not None:
        return f"{chosen}={word}, ou "
    names = {path.stem for path in CONF.rglob("*.yaml")} | {
        path.name for path in CONF.iterdir() if path.is_dir()
    }
    if first != word and first in {*names, *keys}:
        rest = word[len(first) + 1 :]
        return f"{first}={rest}, ou " if first in groups and rest in choices(first) else ""
    return "" if word in names else None


def as_shell(text: str) -> str:
    """Un texte à coller après `prompt=` dans un terminal : le shell, puis `take_free_text`, y relisent ce texte."""
    value = text if unquote(text) == text else quote(text)
    if re.fullmatch(r"[^\"$`\\!]*", value):
        return f'"{value}"'
    return shlex.quote(value)
