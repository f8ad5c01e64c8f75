"""Le texte libre de la ligne de commande : ce que la grammaire de Hydra refuserait, ou lirait autrement."""

import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from gpt_lightning.errors import UserError

TEXTS = ("prompt", "stop")  # pris tels quels
PATHS = (
    "prompt_file",
    "prompts_file",
    "output",
    "output_dir",
    "to",
    "ckpt_path",
    "init_from",
    "data.path",
    "data.val_path",
    "data.cache_dir",
)
Texts = dict[str, str | list[str]]


def take_free_text(argv: list[str]) -> tuple[list[str], Texts]:
    """Sépare le texte libre des surcharges de Hydra : (surcharges, {prompt: texte, stop: [textes]}).

    Un texte est pris tel quel, sauf s'il est entièrement entre guillemets à la manière de Hydra, qui tombent ; « - »
    seul est prompt_file=-. Un chemin reste une surcharge, mise entre guillemets ; en balayage (-m), la virgule sépare
    plusieurs chemins.
    """
    sweep = is_sweep(argv)
    overrides: list[str] = []
    texts: Texts = {}
    for argument in argv:
        if argument == "-":
            argument = "prompt_file=-"
        key, equal, value = argument.partition("=")
        if equal and key == "stop":
            texts[key] = [*texts.get(key, []), unquoted(value)]
        elif equal and key == "prompt":
            texts[key] = unquoted(value)
        elif equal and key == "output_dir" and sweep and "," in value:
            raise UserError(
                "output_dir= est le dossier de tout le balayage : donnez-en un, chaque tâche y a le sien."
            )
        elif equal and key in PATHS and value and value != "null" and value[0] not in "['\"":
            several = sweep and not Path(value).exists()
            parts = value.split(",") if several else [value]
            overrides.append(f"{key}=" + ",".join(map(quoted, parts)))
        else:
            overrides.append(argument)
    # argparse ne veut pas d'une option entre deux surcharges : « model=tiny -m seed=1,2 »
    return sorted(overrides, key=_is_override), texts


def _is_override(argument: str) -> bool:
    return argument.startswith("~") or ("=" in argument and not argument.startswith("-"))


def is_sweep(argv: list[str]) -> bool:
    """Vrai si la ligne de commande demande un balayage."""
    return "-m" in argv or "--multirun" in argv


def value_of(key: str, overrides: list[str]) -> str | None:
    """La dernière valeur donnée à `key`, telle que Hydra la lit ; None si elle n'est pas donnée, vide ou null."""
    given = [one for one in overrides if one.startswith(f"{key}=")]
    if not given or given[-1] in (f"{key}=", f"{key}=null"):
        return None
    value = OverridesParser.create().parse_override(given[-1]).value()
    return str(value).replace("\\${", "${")


def unquoted(value: str) -> str:
    """`value` sans les guillemets qui l'entourent en entier."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"" and value[0] not in value[1:-1]:
        return value[1:-1]
    return value


def quoted(value: str) -> str:
    """Une chaîne de la grammaire de Hydra qui vaut `value`, ni interpolée ni convertie."""
    escaped = re.sub(r"(\\*)(?='|$)", r"\1\1", value)  # une barre oblique ne compte que devant un guillemet
    return "'" + escaped.replace("'", "\\'").replace("${", "\\${") + "'"
