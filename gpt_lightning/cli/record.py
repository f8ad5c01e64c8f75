"""Écrire et relire ce qu'une exécution garde d'elle : réglages demandés et employés, commande, machine."""

import sys
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from gpt_lightning import durable
from gpt_lightning.cli import processes
from gpt_lightning.cli.composition import hide_environment
from gpt_lightning.errors import UserError
from gpt_lightning.layout import ENVIRONMENT, RECORD, SETTINGS
from gpt_lightning.typing import Settings


def typed_overrides() -> list[str]:
    """Les surcharges de cette tâche, telles que Hydra les lit ; aucune dans un processus qui ne lit pas la commande."""
    if not HydraConfig.initialized():
        return []
    # non résolues : « \${ » d'un chemin y reste un texte
    typed = cast(list[str], OmegaConf.to_container(HydraConfig.get().overrides.task))
    return [text for text in typed if text.partition("=")[0] not in ("output_dir", "ckpt_path")]


MOST_YAML = 1 << 20  # octets ; config.yaml en fait cinq mille


class _PlainLoader(yaml.SafeLoader):
    """Des valeurs simples : ni objet de Python, ni alias, dont quelques lignes font des milliards de valeurs."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse un alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("un alias")
        return super().compose_node(parent, index)


def load_yaml(path: Path) -> Any:
    """Le contenu d'un fichier YAML, en valeurs simples ; None s'il n'existe pas. UserError s'il est abîmé."""
    if not path.exists():
        return None
    try:
        if not path.is_file() or path.stat().st_size > MOST_YAML:
            raise yaml.YAMLError("trop grand")
        return yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)  # noqa: S506 : un SafeLoader
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        why = (str(error).splitlines() or [""])[0][:80]
        raise UserError(f"{path} est abîmé, ou n'est pas celui d'une exécution ({why}).") from None


def record(folder: Path, asked: Settings, used: Settings) -> None:
    """Écrit les réglages définitifs et l'environnement, depuis le premier processus seulement.

    `asked` est ce que la commande demande, `used` ce qui sert une fois tout décidé : config.yaml, qu'une reprise relit.
    """
    from gpt_lightning.cli.provenance import environment

    if processes.is_first():
        write_settings(folder, asked, used)
        try:
            machine = environment()
        except Exception as error:  # une machine mal connue n'arrête pas l'entraînement
            machine = {"command": sys.orig_argv, "unknown": f"{type(error).__name__}: {error}"}
        save_yaml(machine, folder / ENVIRONMENT)


def saved_settings(folder: Path) -> Settings:
    """Les réglages qui ont servi à l'exécution de ce dossier ; vide si elle n'en a pas écrit."""
    return load_yaml(folder / SETTINGS) or {}


def saved_environment(folder: Path) -> Settings:
    """La commande et la machine de l'exécution de ce dossier ; vide si elle n'en a pas écrit."""
    return load_yaml(folder / ENVIRONMENT) or {}


def write_settings(folder: Path, asked: Settings, used: Settings) -> None:
    """Écrit config.yaml (`used`), et .hydra/ (`asked`) dans le processus qui lit la commande."""
    save_yaml(used, folder / SETTINGS)
    if HydraConfig.initialized():
        inside = folder / RECORD
        with durable.refusals(inside):
            inside.mkdir(exist_ok=True)
        durable.write_text(inside / "hydra.yaml", OmegaConf.to_yaml(HydraConfig.instance().cfg))
        save_yaml(asked, inside / SETTINGS)
        save_yaml(typed_overrides(), inside / "overrides.yaml")


def save_yaml(values: object, path: Path) -> None:
    """Écrit des valeurs simples ; de ce qui vient de l'environnement, le nom seulement."""
    durable.write_text(path, yaml.safe_dump(hide_environment(values), allow_unicode=True, sort_keys=False))
