"""Construire l'objet qu'un `_target_` nomme, s'il est de la liste permise ; nul autre fichier ne le fait."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gpt_lightning.cli.arguments import escape_interpolations
from gpt_lightning.cli.composition import CONF
from gpt_lightning.errors import UserError
from gpt_lightning.typing import Settings

# ce que le paquet et Lightning définissent, et les optimiseurs de torch et de pytorch_optimizer
PACKAGES = ("gpt_lightning.", "lightning.pytorch.", "lightning.fabric.", "pytorch_lightning.")
OPTIMIZERS = ("torch.optim.", "pytorch_optimizer.", "gpt_lightning.")
FACTORIES = ("gpt_lightning.tokenizers.bpe.gpt2", "gpt_lightning.tokenizers.bpe.named")  # sinon : des classes
TOKENIZERS = "gpt_lightning.tokenizers."
# ce que chaque groupe de conf/ doit construire ; le type n'est importé que s'il sert
BASES = {
    "tokenizer": ("gpt_lightning.tokenizers.Tokenizer",),
    "data": (
        "gpt_lightning.data.SlidingWindowDataModule",
        "gpt_lightning.data.DatasetsDataModule",
        "gpt_lightning.data.ShardsDataModule",
        "gpt_lightning.data.ConversationDataModule",
        "gpt_lightning.data.LabelledDataModule",
    ),
    "decoding": ("gpt_lightning.decoding.Strategy",),
    "optim": ("torch.optim.Optimizer",),
    "callbacks": ("lightning.Callback",),
    "logger": ("lightning.pytorch.loggers.Logger",),
    "trainer": ("lightning.Trainer",),
}
_CHECKPOINT_IO = "lightning.fabric.plugins.CheckpointIO"
_CLUSTER = "lightning.fabric.plugins.ClusterEnvironment"
_PRECISION = "lightning.fabric.plugins.Precision"
# et, sous le nom de sa clé, ce qu'un objet peut demander ; rien d'autre ne se construit
INSIDE = {
    "strategy": ("gpt_lightning.decoding.Strategy", "lightning.pytorch.strategies.Strategy"),
    "plugins": (_PRECISION, _CHECKPOINT_IO, _CLUSTER, "lightning.pytorch.plugins.LayerSync"),
    "precision_plugin": (_PRECISION,),
    "checkpoint_io": (_CHECKPOINT_IO,),
    "cluster_environment": (_CLUSTER,),
    "accelerator": ("lightning.pytorch.accelerators.Accelerator",),
    "profiler": ("lightning.pytorch.profilers.Profiler",),
}
Inherit = Callable[[Sequence[str], RunMode], tuple[list[str], int]]
SPECIAL = ("_target_", "_convert_", "_recursive_")  # ce que l'on peut dire à hydra.utils.instantiate


def build(group: str, node: object, **extra: object) -> Any:
    """L'objet du groupe `group` que `node` décrit par `_target_`, enfants compris.

    UserError si une cible n'est pas permise, n'est pas de ce groupe, ou ne prend pas une de ses clés.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{group} : il faut un nœud avec « _target_ », pas {node!r}.")
    resolve(group, node["_target_"])
    _check(node, extra, BASES[group])
    try:
        return hydra.utils.instantiate(_escape(node), **_escape(extra), _convert_="all")
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ValueError | TypeError | ImportError) and not isinstance(cause, UserError):
            raise UserError(_settings_refusal(group, node["_target_"], str(cause))) from cause
        raise cause from None


def build_all(group: str, nodes: Mapping[str, object] | None) -> list[Any]:
    """Les objets d'un groupe dont chaque clé est un nœud ; un nœud null est retiré."""
    return [build(group, node) for node in (nodes or {}).values() if node is not None]


def _escape(node: Any) -> Any:
    """Échappe les textes de `node` : ils ont déjà été interpolés, et l'un d'eux peut contenir « ${ »."""
    if isinstance(node, str):
        # deux fois : Hydra résout la configuration, puis relit chaque valeur
        return escape_interpolations(escape_interpolations(str(node)))
    if isinstance(node, dict):
        return {key: _escape(value) for key, value in node.items()}
    return [_escape(child) for child in node] if isinstance(node, list) else node


def resolve(group: str, target: object) -> Any:
    """La classe que `target` nomme. UserError si elle n'est pas permise, ou n'est pas de ce groupe."""
    return _resolve_among(target, BASES[group])


def _resolve_among(target: object, bases: Sequence[str]) -> Callable[..., Any]:
    """L'objet que `target` nomme, d'un des types `bases` : c'est lui qui est jugé, pas le chemin qui y mène."""
    path = str(target)
    if not path.startswith((*PACKAGES, *OPTIMIZERS, "lightning.")) or ".__" in path:
        raise UserError(_target_refusal(path[:120]))
    try:
        named = _find(path)
    except (ImportError, AttributeError):
        raise UserError(f"_target_: {target} n'existe pas.") from None
    defined = f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', '')}"
    if not defined.startswith((*PACKAGES, *OPTIMIZERS)) or not (
        inspect.isclass(named) or defined in FACTORIES
    ):
        raise UserError(_target_refusal(path))
    if not any(_is_a(named, defined, base) for base in bases):
        types = " ou ".join(dict.fromkeys(base.rpartition(".")[2] for base in bases)) or "rien"
        raise UserError(f"_target_: {target} est refusé ici : il faut un {types}.")
    return named


def _is_a(named: object, defined: str, base: str) -> bool:
    """Vrai si `named`, défini en `defined`, est de ce type : une de ses classes, ou une fabrique pour un tokenizer."""
    kind = _find(base)
    if getattr(kind, "_is_protocol", False):  # Tokenizer : ce que notre dossier définit
        return defined.startswith(TOKENIZERS) and (defined in FACTORIES or named is not kind)
    packages = OPTIMIZERS if base == "torch.optim.Optimizer" else PACKAGES
    return inspect.isclass(named) and issubclass(named, kind) and defined.startswith(packages)


def _find(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _check(node: object, extra: Mapping[str, object], bases: Sequence[str]) -> None:
    """UserError sur une cible refusée ou une clé de trop, dans `node` et tout ce qu'il contient."""
    if isinstance(node, list | tuple):
        for child in node:
            _check(child, {}, bases)
    elif isinstance(node, dict):
        if "_target_" in node:
            special = [key for key in node if str(key).startswith("_") and key not in SPECIAL]
            if special:
                raise UserError(
                    f"{special[0]} est refusé : un _target_ se construit, avec ses clés par leur nom."
                )
            given = [key for key in (*node, *extra) if key not in SPECIAL]
            _check_keys(_resolve_among(node["_target_"], bases), node["_target_"], given)
        for name, child in node.items():
            _check(child, {}, INSIDE.get(str(name), ()))


def _check_keys(factory: Callable[..., object], target: str, given: list[str]) -> None:
    parameters = inspect.signature(factory).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    unknown = [key for key in given if key not in parameters]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise UserError(f"{target} ne connaît pas « {unknown[0]} » : ses clés sont {', '.join(parameters)}.")
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind not in variable
        if required and name not in given:
            raise UserError(f"{target} : il manque « {name} ».")


def inherit_nothing(overrides: Sequence[str], run_mode: RunMode) -> tuple[list[str], int]:
    """Ces surcharges, sans héritage : l'aide ne lit aucune exécution."""
    return list(overrides), 0


@contextmanager
def hydra_without_code(inherit: Inherit = inherit_nothing) -> Iterator[None]:
    """Empêche, pendant ce bloc, une configuration de faire exécuter autre chose par Hydra.

    Ce que Hydra compose, pour une tâche ou pour la montrer, part des surcharges que `inherit` rend, avec le nombre de
    celles qu'il ajoute devant.

    Ses callbacks, ses journaux et son environnement construisent des objets, ou lancent des programmes : un fichier
    venu d'ailleurs (`--config-dir`) n'y touche pas, la commande oui, sauf aux callbacks et aux `_target_`. Hydra 1.3
    s'en sert dès qu'il a composé : c'est à sa lecture que l'on regarde. UserError, qui nomme la clé.
    """
    original = ConfigLoaderImpl.load_configuration

    def load(
        self: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        *args: Any,
        **options: Any,
    ) -> DictConfig:
        added = 0
        if config_name is not None and options.get(
            "validate_sweep_overrides", True
        ):  # sinon, Hydra se renseigne
            overrides, added = inherit(overrides, run_mode)
        cfg = original(self, config_name, overrides, run_mode, *args, **options)
        if run_mode == RunMode.MULTIRUN and added:  # elles ne sont pas celles de chaque tâche
            task = cast(list[str], OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False))
            cfg.hydra.overrides.task = task[added:]
        typed = [text for text in overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
        for text in typed:
            key = text.partition("=")[0].lstrip("+~")
            if "_target_" in text or key.startswith(("hydra.callbacks", "hydra/callbacks")):
                raise UserError(_hydra_refusal(key))
        paths = {entry.provider: entry.path for entry in self.config_search_path.get_path()}
        if paths.get("main") not in (None, str(CONF), f"file://{CONF}"):
            raise UserError(
                "--config-path est refusé : conf/ est celle du projet ; --config-dir=mon_dossier y ajoute les vôtres."
            )
        if "command-line" in paths or any("searchpath" in text for text in typed):
            here = _settings_of(cfg)
            usual = _settings_of(original(self, config_name, typed, run_mode, *args, **options))
            changed = next((key for key in here if here[key] != usual.get(key)), None)
            if changed is not None:
                raise UserError(_hydra_refusal(f"hydra.{changed}"))
        return cfg

    ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = original  # type: ignore[method-assign]


def _settings_of(cfg: DictConfig) -> Settings:
    """Les réglages que la configuration donne à Hydra, moins ceux qui sont propres à une exécution."""
    settings = cast(Settings, OmegaConf.to_container(cfg.hydra, resolve=False))
    job = {f"job.{key}": settings["job"].get(key) for key in ("env_set", "env_copy", "chdir")}
    own = ("overrides", "runtime", "job", "mode")
    return {**{key: value for key, value in settings.items() if key not in own}, **job}


def _target_refusal(target: str) -> str:
    """La phrase d'un `_target_` hors de la liste permise."""
    return (
        f"_target_: {target} est refusé : une configuration ne peut construire que des objets de "
        f"gpt_lightning, lightning et torch.optim."
    )


def _hydra_refusal(key: str) -> str:
    """La phrase d'un réglage de Hydra qui exécuterait autre chose que le projet."""
    return f"{key} est refusé : une configuration ne dit pas à Hydra quoi exécuter ; retirez cette clé."


def _settings_refusal(group: str, target: str, why: str) -> str:
    """La phrase d'un objet de bibliothèque qui refuse ses réglages, dans ses mots."""
    first = " ".join(why.split())[:200]
    return f"{target.rpartition('.')[2]} refuse ces réglages de {group} : {first.rstrip('.')}."
