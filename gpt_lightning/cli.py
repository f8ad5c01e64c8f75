"""La colle avec Hydra : composer, prendre le texte libre, répondre en français, lancer les autres processus.

`run(task, config_name)` est tout ce que train.py, generate.py et les autres commandes appellent. La tâche reçoit
un dictionnaire de valeurs simples : au-delà de ce fichier, Hydra n'existe plus.
"""

import difflib
import importlib
import logging
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt_lightning import messages, processes

PACKAGE = Path(__file__).resolve().parent
CONF = PACKAGE.parent / "conf"
PATHS = (
    "prompt_file",
    "prompts_file",
    "output",
    "ckpt_path",
    "init_from",
    "output_dir",
    "data.path",
    "data.val_path",
    "to",
)
ALLOWED_TARGETS = (
    "gpt_lightning.",
    "lightning.pytorch.",
    "lightning.fabric.",
    "pytorch_lightning.",
    "torch.optim.",
    "pytorch_optimizer.",
)


def run(task: Callable[[dict[str, Any]], Any], config_name: str) -> None:
    """Compose conf/<config_name>.yaml avec la ligne de commande et appelle `task` (une fois par point d'un balayage).

    Une faute de l'utilisateur donne une phrase sur stderr et le code de sortie 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra laisse passer ses exceptions, nous les traduisons
    try:
        if sys.argv[1:2] == [processes.CHILD]:
            processes.be_a_follower(os.environ["LOCAL_RANK"])
            task(yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8")))
            return
        where = processes.place() if config_name == "train" else None
        if where and where.rank:
            _follow(task, where)
            return
        overrides, texts = take_free_text(sys.argv[1:])
        with tempfile.TemporaryDirectory() as scratch, _told_to_others(task, where) as told:
            if config_name == "train":
                overrides = output_dir_for_hydra(resume_overrides(overrides))
            if config_name != "train" and _is_sweep(overrides):
                overrides.append(f"hydra.sweep.dir={scratch}")  # Hydra y écrit multirun.yaml
            sys.argv[1:] = overrides
            _hydra_main(told, config_name, texts)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # « | head » : plus personne ne lit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        _leave(error, config_name)


def _follow(task: Callable, where: processes.Place) -> None:
    """Court chaque course du premier processus ; dit sa propre faute en une ligne, s'il en a une."""
    processes.be_a_follower(str(where.rank))
    for settings in processes.Shared(where):
        try:
            task(settings)
        except Exception as error:
            sentence = explain(error, "train")
            if sentence is None:
                raise
            print(f"[processus {where.rank}] {sentence}", file=sys.stderr)
            sys.exit(1)


@contextmanager
def _told_to_others(task: Callable, where: processes.Place | None) -> Iterator[Callable]:
    """La tâche du premier processus, qui donne d'abord ses réglages à ceux que torchrun ou srun ont lancés avec lui."""
    if where is None:
        yield task
        return
    shared = processes.Shared(where)

    def told(settings: dict[str, Any]) -> Any:
        shared.send(settings)
        return task(settings)

    try:
        yield told
    finally:
        shared.send(None)


def _leave(error: Exception, config_name: str) -> NoReturn:
    """Finit sur une phrase si c'est une faute de l'utilisateur ; sinon l'erreur continue, avec sa trace."""
    if type(error).__name__ == "SIGTERMException":  # de Lightning, qui sinon finirait sur zéro
        sys.exit(143)
    sentence = explain(error, config_name)
    if sentence is None or os.environ.get("GPT_LIGHTNING_TRACEBACK"):
        raise error
    print(sentence, file=sys.stderr)
    sys.exit(1)


def _hydra_main(task: Callable, config_name: str, texts: dict[str, Any]) -> None:
    def job(cfg) -> Any:
        try:
            settings = OmegaConf.to_container(cfg, resolve=True)
            _refuse_unread_keys([*settings, *texts], config_name)
            return task(settings | texts)
        except BrokenPipeError:
            raise
        except Exception as error:  # ici plutôt que dans run : Hydra ajouterait sa propre phrase
            _leave(error, config_name)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()


def take_free_text(argv: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Sépare le texte libre des surcharges de Hydra : (surcharges, {prompt: texte, stop: [textes]}).

    Un texte est pris tel quel, sauf s'il est entièrement entre guillemets à la manière de Hydra, qui tombent ; « - »
    seul est prompt_file=-.
    Un chemin reste une surcharge, mise entre guillemets ; en balayage (-m), la virgule sépare plusieurs chemins.
    """
    sweep = _is_sweep(argv)
    overrides, texts = [], {}
    for argument in argv:
        if argument == "-":
            argument = "prompt_file=-"
        key, equal, value = argument.partition("=")
        if equal and key == "stop":
            texts.setdefault(key, []).append(_unquoted(value))
        elif equal and key == "prompt":
            texts[key] = _unquoted(value)
        elif equal and key in PATHS and value and value != "null" and value[0] not in "['\"":
            several = sweep and not Path(value).exists()
            parts = value.split(",") if several else [value]
            overrides.append(f"{key}=" + ",".join(map(_quoted, parts)))
        else:
            overrides.append(argument)
    return overrides, texts


def _is_sweep(argv: list[str]) -> bool:
    return "-m" in argv or "--multirun" in argv


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"" and value[0] not in value[1:-1]:
        return value[1:-1]
    return value


def _quoted(value: str) -> str:
    """Une chaîne de la grammaire de Hydra qui vaut `value`, ni interpolée ni convertie."""
    escaped = re.sub(r"(\\*)(?='|$)", r"\1\1", value)  # une barre oblique ne compte que devant un guillemet
    return "'" + escaped.replace("'", "\\'").replace("${", "\\${") + "'"


def output_dir_for_hydra(overrides: list[str]) -> list[str]:
    """`output_dir=X` devient le dossier de Hydra : un seul dossier par course, `.hydra/` compris."""
    folder = "hydra.sweep.dir" if _is_sweep(overrides) else "hydra.run.dir"
    return [
        f"{folder}={o.removeprefix('output_dir=')}" if o.startswith("output_dir=") else o for o in overrides
    ]


def resume_overrides(overrides: list[str]) -> list[str]:
    """Pour `ckpt_path=`, les surcharges de la course reprise, son dossier, puis celles de la ligne de commande."""
    asked = [o.partition("=")[2] for o in overrides if o.startswith("ckpt_path=")]
    if not asked or asked[-1] in ("null", ""):
        return overrides
    from gpt_lightning.weights.sources import find_checkpoint

    source = asked[-1].strip("'\"")
    checkpoint = find_checkpoint(source, prefer="last")
    run = checkpoint.parent.parent
    saved = run / ".hydra" / "overrides.yaml"
    if not saved.exists():
        raise ValueError(
            f"{checkpoint} n'est pas dans un dossier de course (sans .hydra/) : init_from= part de ses poids."
        )
    new_keys = {o.partition("=")[0] for o in overrides}
    old = [
        o for o in yaml.safe_load(saved.read_text(encoding="utf-8")) if o.partition("=")[0] not in new_keys
    ]
    kept = [o for o in overrides if not o.startswith("ckpt_path=")]
    return [*old, f"hydra.run.dir={_quoted(str(run))}", f"ckpt_path={_quoted(str(checkpoint))}", *kept]


def group(name: str, choice: str) -> dict[str, Any]:
    """Le contenu de conf/<name>/<choice>.yaml. ValueError, avec les choix, s'il n'existe pas."""
    choices = sorted(path.stem for path in (CONF / name).glob("*.yaml"))
    if choice not in choices:
        close = difflib.get_close_matches(choice, choices)
        raise ValueError(messages.unknown_choice(name, choice, choices, close))
    return yaml.safe_load((CONF / name / f"{choice}.yaml").read_text(encoding="utf-8"))


def instantiate(node: Any, **extra: Any) -> Any:
    """L'objet que `node` décrit par `_target_`, enfants compris. Seuls quelques paquets sont permis."""
    for target in _targets(node):
        _check_target(target)
    try:
        return hydra.utils.instantiate(node, **extra, _convert_="all")
    except hydra.errors.InstantiationException as error:
        raise error.__cause__ or error from None


def optimizer_factory(node: dict[str, Any]) -> Callable | None:
    """L'optimiseur que `_target_` et `arguments` décrivent, sans ses paramètres ; None s'il n'y en a pas."""
    if "_target_" not in node:
        return None
    return instantiate({"_target_": node["_target_"], "_partial_": True, **(node["arguments"] or {})})


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for child in node.values():
            yield from _targets(child)
    elif isinstance(node, list):
        for child in node:
            yield from _targets(child)


def _check_target(target: Any) -> None:
    """Refuse une cible dont l'objet, une fois trouvé, n'est pas défini dans un paquet permis."""
    if not isinstance(target, str) or not target.startswith((*ALLOWED_TARGETS, "lightning.")):
        raise ValueError(messages.refused_target(str(target)))
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"_target_: {target} n'existe pas.") from None
    if not f"{getattr(found, '__module__', '')}.".startswith(ALLOWED_TARGETS):
        raise ValueError(messages.refused_target(target))


class EncodingProgress:
    """Dit où en est l'écriture d'une base de jetons, toutes les cinq secondes."""

    def __init__(self, every: float = 5.0):
        self.every, self.began = every, time.monotonic()
        self.next = self.began + every

    def __call__(self, characters: int) -> None:
        now = time.monotonic()
        if now >= self.next:
            self.next = now + self.every
            logging.getLogger("gpt_lightning").info(messages.encoding(characters, now - self.began))


class ConsoleHandler(logging.StreamHandler):
    """Le journal à l'écran : le message seul, d'accord avec la barre de progression."""

    def emit(self, record: logging.LogRecord) -> None:
        import rich

        rich.get_console().print(self.format(record), markup=False, highlight=False, soft_wrap=True)


def explain(error: BaseException, config_name: str) -> str | None:
    """La phrase qui explique une faute de l'utilisateur ; None si l'erreur est une faute du programme."""
    if isinstance(error, OverrideParseException):
        return messages.not_an_override(error.override or str(error).splitlines()[0])
    if isinstance(error, MissingConfigException):
        return _explain_missing(error)
    if isinstance(error, ConfigCompositionException | OmegaConfBaseException):
        return _explain_composition(error, config_name)
    if "Config group override must be a string" in str(error):
        return "Un groupe ne peut pas valoir null : choisissez un de ses fichiers (logger=none ...)."
    if isinstance(error, HydraException):
        return f"Hydra : {str(error).splitlines()[0]}"
    if type(error).__name__ == "MisconfigurationException":
        return f"Lightning refuse cette configuration du Trainer : {' '.join(str(error).split())}"
    if isinstance(error, OSError) and error.filename:
        return messages.os_error(error.filename, error.errno, error.strerror)
    if isinstance(error, ValueError | TypeError) and _raised_by_us(error):
        return str(error)
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        return f"Une clé de trop dans la configuration : {error}"
    return None


def _raised_by_us(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    file = Path(frames[-1].filename).resolve()
    return file.is_relative_to(PACKAGE) or file in (CONF.parent / "train.py", CONF.parent / "generate.py")


def _explain_missing(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file or ""
    group, _, choice = missing.rpartition("/")
    choices = sorted(p.stem for p in (CONF / group).glob("*.yaml")) if group else []
    if not choices:
        return f"La configuration {missing} n'existe pas dans {CONF}."
    return messages.unknown_choice(group, choice, choices, difflib.get_close_matches(choice, choices))


def _explain_composition(error: BaseException, config_name: str) -> str:
    """Une clé qui n'existe pas, ou une valeur que la configuration refuse."""
    text = str(error)
    chain: BaseException | None = error
    while chain is not None:
        key = getattr(chain, "full_key", None)
        if key and "not in struct" in str(chain):
            return messages.unknown_key(key, _closest(key, config_name))
        chain = chain.__cause__ or chain.__context__
    if "Could not override" in text and "'" in text:
        key = text.split("'")[1].split("=")[0].lstrip("+~").split("@")[0]
        return messages.unknown_key(key, _closest(key, config_name))
    return f"Configuration refusée : {text.splitlines()[0]}"


def _closest(key: str, config_name: str) -> list[str]:
    keys = known_keys(config_name)
    last = key.rpartition(".")[2]
    by_last = [k for k in keys if k.rpartition(".")[2] == last]  # la bonne clé, au mauvais endroit
    return difflib.get_close_matches(key, keys, n=2, cutoff=0.6) or by_last[:2]


def known_keys(config_name: str) -> list[str]:
    """Toutes les clés de conf/ pour cette commande, avec des points : des fichiers lus, rien n'est composé."""
    keys: set[str] = set()
    for path in [CONF / f"{config_name}.yaml", *CONF.glob("*/*.yaml")]:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if path == CONF / f"{config_name}.yaml":
            keys |= {p.name for p in CONF.iterdir() if p.is_dir()}
            keys |= set(_flat({k: v for k, v in content.items() if k not in ("defaults", "hydra")}))
        elif path.parent.name not in ("experiment", "demos"):
            keys |= set(_flat(content, f"{path.parent.name}."))
    return sorted(keys)


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")


def _refuse_unread_keys(keys: list[str], config_name: str) -> None:
    """Une clé ajoutée avec « + » au premier niveau ne serait lue par personne."""
    known = {key.partition(".")[0] for key in known_keys(config_name)}
    for key in keys:
        if key not in known:
            raise ValueError(messages.unknown_key(key, difflib.get_close_matches(key, known)))


def save_settings(settings: dict[str, Any], path: Path) -> None:
    """Écrit la configuration résolue, en valeurs simples."""
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
