"""conf/ : où il est, ce qu'un groupe propose, et une configuration composée sans la ligne de commande."""

import difflib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from gpt_lightning import messages
from gpt_lightning.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# à côté du paquet dans les sources ; dedans, une fois installé
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())


def choices(group: str) -> list[str]:
    """Les fichiers d'un groupe de conf/, sans leur suffixe ; aucun si ce groupe n'existe pas."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml")) if group else []


def compose(config_name: str, *overrides: str) -> dict[str, Any]:
    """conf/<config_name>.yaml composé avec ces surcharges, en valeurs simples, les interpolations telles quelles."""
    return plain(_composed(config_name, overrides))


def compose_resolved(config_name: str, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """La même, ses interpolations remplacées par leur valeur ; puis telles quelles."""
    cfg = _composed(config_name, overrides)
    return plain(cfg, resolve=True), plain(cfg)


def _composed(config_name: str, overrides: Sequence[str]) -> DictConfig:
    ready = GlobalHydra.instance().is_initialized()
    door = nullcontext() if ready else hydra.initialize_config_dir(str(CONF), version_base="1.3")
    with door:
        return hydra.compose(config_name, list(overrides))


def plain(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """Une configuration en valeurs simples ; `resolve` remplace les interpolations par leur valeur."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))


def group(name: str, choice: str) -> dict[str, Any]:
    """Le contenu composé de conf/<name>/<choice>.yaml. UserError, avec les choix, s'il n'existe pas."""
    known = choices(name)
    if choice not in known:
        close = difflib.get_close_matches(choice, known)
        raise UserError(messages.unknown_choice(name, choice, known, close))
    return compose(f"{name}/{choice}")[name]
