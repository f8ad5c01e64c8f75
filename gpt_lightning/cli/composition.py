"""Trouver conf/ et les choix d'un groupe, et composer une configuration sans la ligne de commande."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from omegaconf.resolvers import oc

from gpt_lightning.errors import UserError
from gpt_lightning.typing import Settings

PACKAGE = Path(__file__).resolve().parents[1]
# à côté du paquet dans les sources ; dedans, une fois installé
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())


# Dans une liste `defaults` : le choix qui va avec un modèle, ou celui des autres. Un modèle, lui, n'en impose aucun.
OmegaConf.register_new_resolver(
    "of_model", lambda model, choices, otherwise: choices.get(model, otherwise), replace=True
)


def choices(group: str) -> list[str]:
    """Les fichiers d'un groupe de conf/, sans leur suffixe ; aucun si ce groupe n'existe pas."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml")) if group else []


def compose(config_name: str, *overrides: str) -> Settings:
    """Compose conf/<config_name>.yaml avec ces surcharges, en valeurs simples, sans résoudre les interpolations."""
    return to_plain(_compose(config_name, overrides))


def compose_resolved(config_name: str, *overrides: str) -> tuple[Settings, Settings]:
    """Compose la même configuration, d'abord résolue, puis avec ses interpolations telles quelles."""
    cfg = _compose(config_name, overrides)
    return to_plain(cfg, resolve=True), to_plain(cfg)


def _compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    ready = GlobalHydra.instance().is_initialized()
    context = nullcontext() if ready else hydra.initialize_config_dir(str(CONF), version_base="1.3")
    with context:
        return hydra.compose(config_name, list(overrides))


class FromEnvironment(str):
    """Un texte venu de l'environnement, peut-être un secret ; `source` (« ${oc.env:X} ») s'écrit à sa place."""

    source: str

    @classmethod
    def of(cls, value: str, source: str) -> "FromEnvironment":
        """Le texte `value`, qui s'écrit `source`."""
        text = cls(value)
        text.source = source
        return text


def to_plain(cfg: DictConfig, *, resolve: bool = False) -> Settings:
    """Une configuration en valeurs simples ; `resolve` remplace les interpolations par leur valeur.

    UserError, qui nomme la variable d'environnement, s'il en manque une.
    """
    raw = cast(Settings, OmegaConf.to_container(cfg, resolve=False))
    if not resolve:
        return raw
    try:
        resolved = cast(Settings, OmegaConf.to_container(cfg, resolve=True))
    except InterpolationResolutionError as error:
        missing = re.search(r"Environment variable '(\w+)' not found", str(error))
        if missing is None:
            raise
        name = missing[1]
        raise UserError(
            f"La variable d'environnement {name} manque : la configuration la lit (export {name}=...)."
        ) from None
    if "oc.env" not in str(raw):
        return resolved
    OmegaConf.register_new_resolver("oc.env", _reference, replace=True)
    try:
        marked = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException:  # un nombre lu d'une variable : on reconnaît alors leurs valeurs
        names = set(re.findall(r"oc\.env:(\w+)", str(raw))) & set(os.environ)
        marked = _hide(resolved, {os.environ[name]: name for name in names if len(os.environ[name]) > 3})
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
    return cast(Settings, _with_sources(resolved, marked))


def _hide(value: object, names: dict[str, str]) -> object:
    """Remplace, dans `value`, le contenu d'une variable par son nom."""
    if isinstance(value, dict):
        return {key: _hide(child, names) for key, child in value.items()}
    if isinstance(value, list):
        return [_hide(child, names) for child in value]
    if isinstance(value, str):
        for content, name in names.items():
            value = value.replace(content, _reference(name))
    return value


def _reference(*arguments: object) -> str:
    """L'interpolation elle-même, renvoyée à la place de `oc.env` pour voir où sa valeur va."""
    return "${oc.env:" + ",".join(map(str, arguments)) + "}"


def _with_sources(resolved: object, marked: object) -> object:
    if isinstance(resolved, dict) and isinstance(marked, dict):
        return {key: _with_sources(value, marked.get(key)) for key, value in resolved.items()}
    if isinstance(resolved, list) and isinstance(marked, list):
        return [_with_sources(*pair) for pair in zip(resolved, marked, strict=True)]
    if isinstance(resolved, str) and isinstance(marked, str) and "${oc.env:" in marked and resolved != marked:
        return FromEnvironment.of(resolved, marked)
    return resolved


def hide_environment(values: Any) -> Any:
    """Les valeurs telles qu'elles s'écrivent : ce qui vient de l'environnement n'y est que par son nom."""
    if isinstance(values, dict):
        return {key: hide_environment(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [hide_environment(value) for value in values]
    return values.source if isinstance(values, FromEnvironment) else values


def group(name: str, choice: str) -> Settings:
    """Le contenu composé de conf/<name>/<choice>.yaml. UserError, avec les choix, s'il n'existe pas."""
    listed = choices(name)
    if choice not in listed:
        close = difflib.get_close_matches(choice, listed)
        raise UserError(unknown_choice(name, choice, listed, close))
    return compose("command", f"+{name}={choice}")[name]


def unknown_choice(group: str, choice: str, choices: Sequence[str], close: Sequence[str]) -> str:
    """La phrase d'un choix qui n'existe pas : le plus proche, et tous les autres."""
    hint = f"vouliez-vous dire {group}={close[0]} ? " if close else ""
    return f"{group}={choice} n'existe pas : {hint}Les choix sont {', '.join(choices)}."


@cache
def known_keys(config_name: str) -> tuple[str, ...]:
    """Toutes les clés de la configuration composée de cette commande, avec des points, et ses groupes."""
    cfg = compose(config_name)
    groups = [name for name in cfg if choices(str(name))]
    return tuple(sorted({*_flatten(cfg), *groups, "experiment"} if groups else {*_flatten(cfg)}))


def _flatten(content: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
