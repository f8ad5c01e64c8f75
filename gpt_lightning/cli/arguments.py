"""Prendre le texte libre de la ligne de commande, que la grammaire de Hydra refuserait ou lirait autrement."""

import os
import re
import shlex
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from gpt_lightning.cli.options import is_sweep, separate
from gpt_lightning.errors import UserError

TEXTS = ("prompt", "stop")  # pris tels quels ; stop se répète
NAMES = (
    "run_name",
    "name",
    "host",
    "api_key",
    "clear",
    "hosts",
    "cors",
    "data.url",
    "data.jsonl_key",
    "data.name",
    "data.config",
    "data.split",
    "data.val_split",
    "data.text_key",
    "data.label_key",
    "data.ignore",
    "tokenizer.name",
    "template",
    "data.template",
)  # un texte d'un seul tenant
PATHS = (
    "prompt_file",
    "prompts_file",
    "output",
    "output_dir",
    "to",
    "ckpt_path",
    "init_from",
    "base_path",
    "compare",
    "api_key_file",
    "data.path",
    "data.val_path",
    "data.cache_dir",
    "cache_dir",
)  # des fichiers ou des dossiers : « ~ » est le dossier personnel, [a, b] en est une liste
# ce qui est entre deux virgules d'une liste ; entre guillemets, une virgule n'en est pas une
PART = r"""(?:^|(?<=,))(?:\s*'[^']*'\s*(?=,|$)|\s*"[^"]*"\s*(?=,|$)|[^,]*)"""
Texts = dict[str, str | list[str]]


def take_free_text(argv: list[str]) -> tuple[list[str], Texts]:
    """Sépare le texte libre des surcharges de Hydra : (surcharges, {prompt: texte, stop: [textes]}).

    Un texte est pris tel quel, sauf s'il est entièrement entre guillemets à la manière de Hydra, qui tombent ; « - »
    seul est prompt_file=-. Un chemin reste une surcharge, mise entre guillemets ; en balayage (-m), la virgule sépare
    plusieurs chemins. UserError si un texte n'est pas de l'UTF-8.
    """
    sweep = is_sweep(argv)
    overrides, words = separate(argv)  # argparse ne veut pas d'une option entre deux surcharges
    texts: Texts = {}
    for argument in words:
        if argument == "-":
            argument = "prompt_file=-"
        key, equal, value = argument.partition("=")
        if key.lstrip("+") in (*TEXTS, *PATHS, *NAMES):
            key = key.lstrip("+")  # « ++ckpt_path= » est ckpt_path=, hérité et cité comme lui
        _check_utf8(key, value)
        if equal and key == "stop":
            texts[key] = [*texts.get(key, []), unquote(value)]
        elif equal and key == "prompt":
            texts[key] = unquote(value)
        elif equal and key == "output_dir" and sweep and "," in value:
            raise UserError(
                "output_dir= est le dossier de tout le balayage : donnez-en un, chaque tâche y a le sien."
            )
        elif equal and key in (*PATHS, *NAMES) and value not in ("", "null"):
            overrides.append(f"{key}={_path(key, value, sweep)}")
        else:
            overrides.append(argument)
    return overrides, texts


def _check_utf8(key: str, value: str) -> None:
    """UserError si la ligne de commande n'est pas de l'UTF-8."""
    try:
        (key + value).encode("utf-8")
    except UnicodeEncodeError:
        key = key.encode("utf-8", "replace").decode()
        raise UserError(
            f"{key}= n'est pas de l'UTF-8 : vérifiez l'encodage de votre terminal (PYTHONUTF8=1), "
            "ou renommez le fichier."
        ) from None


def _path(key: str, value: str, sweep: bool) -> str:
    """Écrit une valeur de PATHS ou de NAMES dans la grammaire de Hydra : un texte, ou une liste."""
    if value[0] in "'\"":
        return value
    if sweep and not Path(value).exists():
        if re.fullmatch(r"(choice|shuffle|sort)\(.*\)", value):
            return value
        parts = re.findall(
            r"(?:\[[^\]]*\]|[^,\[]|\[)+", value
        )  # la virgule d'une liste n'est pas celle du balayage
    else:
        parts = [value]
    return ",".join(_one_path(key, part) for part in parts)


def _one_path(key: str, value: str) -> str:
    """La même valeur, seule : un texte, une liste, ou null."""
    if value == "null":
        return value
    if value[0] != "[" or value[-1] != "]" or Path(value).exists():
        return quote(_expand_home(key, value))
    inside = value[1:-1].strip()
    parts = [unquote(part.strip()) for part in re.findall(PART, inside)] if inside else []
    return "[" + ",".join(quote(_expand_home(key, part)) for part in parts) + "]"


def _expand_home(key: str, value: str) -> str:
    """Remplace le « ~ » d'un chemin par le dossier personnel."""
    return os.path.expanduser(value) if key in PATHS else value


def literal_path(path: Path) -> str:
    """Écrit un chemin de sorte que son « ~ » ne soit pas lu comme le dossier personnel."""
    return f"./{path}" if str(path).startswith("~") else str(path)


def shell_override(key: str, path: Path) -> str:
    """La surcharge `key=path` à coller dans un terminal : le shell, puis `take_free_text`, y relisent ce chemin."""
    value = literal_path(path)
    plain = unquote(value) == value and value[0] != "["
    return f"{key}={shlex.quote(value if plain else quote(value))}"


def text_overrides(texts: Texts) -> list[str]:
    """Le texte libre en surcharges, pour ce qui montre la configuration sans rien lancer."""
    return [
        f"{key}=" + (quote(value) if isinstance(value, str) else "[" + ",".join(map(quote, value)) + "]")
        for key, value in texts.items()
    ]


def swept_values(override: str) -> list[str]:
    """Cette surcharge, une fois par valeur qu'un balayage lui donne ; une fois si elle n'en a qu'une."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return [override]
    if not parsed.is_discrete_sweep():
        return []
    key = override.partition("=")[0]
    return [f"{key}={value}" for value in parsed.sweep_string_iterator()]


def value_of(key: str, overrides: list[str]) -> str | None:
    """La dernière valeur donnée à `key`, telle que Hydra la lit ; None si elle n'est pas donnée, vide ou null."""
    given = [override for override in overrides if override.startswith(f"{key}=")]
    if not given or given[-1] in (f"{key}=", f"{key}=null"):
        return None
    value = OverridesParser.create().parse_override(given[-1]).value()
    return re.sub(r"(\\*)\1\\\$\{", r"\1${", str(value))


def unquote(value: str) -> str:
    """Retire les guillemets qui entourent `value` en entier."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"" and value[0] not in value[1:-1]:
        return value[1:-1]
    return value


def quote(value: str) -> str:
    """Écrit `value` en chaîne de la grammaire de Hydra, ni interpolée ni convertie."""
    escaped = re.sub(r"(\\*)(?='|\Z)", r"\1\1", value)  # une barre oblique ne compte que devant un guillemet
    return "'" + escape_interpolations(escaped.replace("'", "\\'")) + "'"


def escape_interpolations(value: str) -> str:
    """Échappe un texte : OmegaConf n'y verra pas d'interpolation."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
