"""Une clé tapée qui ne changerait rien ici est refusée, avec celle qu'il faut : jamais ignorée.

Les règles sont celles que la commande donne à `run`. Ce que seuls les poids disent (leur architecture, leur tokenizer)
est refusé par `training/checks.py`, une fois qu'ils sont lus.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gpt_lightning.cli import console
from gpt_lightning.cli.composition import compose
from gpt_lightning.errors import UserError

READ_A_PATH = ("files", "download", None)  # les sources qui lisent data.path
Settings = Mapping[str, Any]


class Rule(NamedTuple):
    """Dans `commands`, ces clés sont sans effet `when` les réglages le disent ; `advice` dit quoi faire."""

    commands: tuple[str, ...]
    keys: tuple[str, ...]
    when: Callable[[Settings], Any]
    advice: str


def refuse_idle(typed: Iterable[str], settings: Settings, command: str, rules: Iterable[Rule]) -> None:
    """UserError sur la première clé de `typed` (« clé=valeur ») qui ne changerait rien à `command`."""
    keys = {one.partition("=")[0].lstrip("+") for one in typed}
    for rule in rules:
        if command not in rule.commands:
            continue
        idle = [one for one in rule.keys if any(key == one or key.startswith(f"{one}.") for key in keys)]
        if idle and rule.when(settings):
            raise UserError(f"{idle[0]}= n'a pas d'effet ici : {rule.advice}.")


def with_own_text(overrides: list[str], command: str) -> list[str]:
    """`data.path=` sans `data=` veut dire `data=text`, sauf si l'expérience choisie lit déjà un fichier."""
    typed = {one.partition("=")[0] for one in overrides}
    if "data.path" not in typed or typed & {"data", "data.source"}:
        return overrides
    experiment = [one for one in overrides if one.startswith("experiment=") and "," not in one]
    data = compose(command, *experiment).get("data")
    if data is None or data["source"] in READ_A_PATH:  # sans corpus, la clé est inconnue, et sera dite
        return overrides
    console.log.info("Corpus     : data.path= sans data= : c'est data=text")
    return ["data=text", *overrides]
