"""Les options de Hydra (--cfg, -m ...) : les séparer des surcharges, et refuser d'une phrase ce que Hydra refuserait.

Une option n'a que la valeur qui est à elle : l'ordre où l'on tape options et surcharges ne change rien.
"""

import os
from collections.abc import Sequence

from gpt_lightning.errors import UserError

# une option, et les valeurs qu'elle prend : aucune (None), n'importe laquelle, ou l'une de celles-ci
OPTIONS: dict[str, tuple[str, ...] | None] = {
    "--help": None,
    "--hydra-help": None,
    "--cfg": ("job", "hydra", "all"),
    "--resolve": None,
    "--package": (),
    "--run": None,
    "--multirun": None,
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--config-path": (),
    "--config-name": (),
    "--config-dir": (),
    "--shell-completion": None,
}
SHORT = {"-h": "--help", "-c": "--cfg", "-p": "--package", "-r": "--run", "-m": "--multirun"}
SHORT |= {"-cp": "--config-path", "-cn": "--config-name", "-cd": "--config-dir", "-sc": "--shell-completion"}
DOES = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")  # une seule chose à la fois
SHOWS = ("--help", "--hydra-help", "--cfg", "--info", "--shell-completion")  # rien n'est lancé


def name_of(argument: str) -> str | None:
    """L'option que `argument` nomme, en entier ; None si ce n'est pas une option de Hydra."""
    name = argument.partition("=")[0]
    name = SHORT.get(name, name)
    return name if name in OPTIONS else None


def names_in(argv: Sequence[str]) -> list[str]:
    """Les options de cette ligne de commande, chacune par son nom entier."""
    return [name for name in map(name_of, argv) if name is not None]


def is_sweep(argv: Sequence[str]) -> bool:
    """Vrai si la ligne de commande demande un balayage."""
    return "--multirun" in names_in(argv)


def separate(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Les options, chacune suivie de sa valeur, puis tout le reste. UserError sur une valeur absente ou inconnue."""
    options: list[str] = []
    words: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name = name_of(argument)
        if name is None:
            words.append(argument)
            continue
        values = OPTIONS[name]
        option, equal, value = argument.partition("=")
        options.append(argument)
        if values is None:
            if equal:
                raise UserError(f"« {option} » ne prend pas de valeur.")
            continue
        if name == "--info" and not equal and (not rest or rest[0] not in values):
            options[-1] = "--info=all"  # la sienne est facultative
            continue
        if not equal and rest and "=" not in rest[0] and not rest[0].startswith("-"):
            value = rest.pop(0)
            options.append(value)
        if not value or (values and value not in values):
            raise UserError(f"« {option} » demande {' ou '.join(values) or 'une valeur'}.")
    return options, words


def check(argv: Sequence[str]) -> None:
    """UserError si des options ne vont pas ensemble."""
    given = names_in(argv)
    doing = [name for name in DOES if name in given]
    if "--help" in given or "--hydra-help" in given:
        return
    if len(doing) > 1:
        raise UserError(f"{doing[0]} et {doing[1]} ne vont pas ensemble : gardez l'un des deux.")
    if "--shell-completion" in given and not any(_asks_completion(text) for text in argv):
        raise UserError("--shell-completion demande install=bash (zsh, fish), ou uninstall=bash.")
    if "--resolve" in given and "--cfg" not in given:
        raise UserError("--resolve accompagne --cfg ou --help : --cfg job --resolve.")


def _asks_completion(argument: str) -> bool:
    """Vrai pour ce que l'on demande à --shell-completion ; `query` n'est que pour le shell, qui dit sa ligne."""
    return argument.startswith(("install=", "uninstall=")) or (
        argument.startswith("query=") and "COMP_LINE" in os.environ
    )
