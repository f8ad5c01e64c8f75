"""Refuser une clé tapée qui ne changerait rien ici, et dire celle qu'il faut.

La table des cas est celle que la commande donne à `run`. Ce que seuls les poids disent (leur architecture, leur
tokenizer) est refusé par `training/checks.py`, une fois qu'ils sont lus.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gpt_lightning.cli.composition import compose
from gpt_lightning.errors import UserError
from gpt_lightning.typing import Settings

READ_A_PATH = ("files", "download", "parquet", "shards", None)  # les sources qui lisent data.path


class IneffectiveKeys(NamedTuple):
    """Des clés sans effet dans `commands` quand `when` est vrai des réglages ; `advice` dit quoi faire."""

    commands: tuple[str, ...]
    keys: tuple[str, ...]
    when: Callable[[Settings], object]
    advice: str


def refuse_ineffective(
    typed: Iterable[str], settings: Settings, command: str, table: Iterable[IneffectiveKeys]
) -> None:
    """UserError sur la première clé de `typed` (« clé=valeur ») qui ne changerait rien à `command`."""
    given = {override.partition("=")[0].lstrip("+") for override in typed}
    for case in table:
        if command not in case.commands:
            continue
        ineffective = [key for key in case.keys if any(f"{name}.".startswith(f"{key}.") for name in given)]
        if ineffective and case.when(settings):
            raise UserError(f"{ineffective[0]}= n'a pas d'effet ici : {case.advice}.")


def with_own_text(overrides: list[str], command: str) -> list[str]:
    """Ajoute `data=text` à `data.path=` sans `data=`, sauf si l'expérience choisie lit déjà un fichier."""
    typed = {override.partition("=")[0] for override in overrides}
    if "data.path" not in typed or typed & {"data", "data.source"}:
        return overrides
    experiment = [text for text in overrides if text.startswith("experiment=")]
    data = compose(command, *experiment).get("data")
    if data is None or data["source"] in READ_A_PATH:  # sans corpus, la clé est inconnue : Hydra la refuse
        return overrides
    return ["data=text", *overrides]
