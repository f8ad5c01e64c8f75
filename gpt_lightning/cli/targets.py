"""`_target_` : le seul endroit qui construit un objet nommé par une configuration, et la liste de ce qui est permis."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from gpt_lightning.cli.arguments import literally
from gpt_lightning.cli.composition import CONF
from gpt_lightning.errors import UserError

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
SPECIAL = ("_target_", "_convert_", "_recursive_")  # ce que l'on peut dire à hydra.utils.instantiate


def build(group: str, node: Any, **extra: Any) -> Any:
    """L'objet du groupe `group` que `node` décrit par `_target_`, enfants compris.

    UserError si une cible n'est pas permise, n'est pas de ce groupe, ou ne prend pas une de ses clés.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{group} : il faut un nœud avec « _target_ », pas {node!r}.")
    resolve(group, node["_target_"])
    _check(node, extra, BASES[group])
    try:
        return hydra.utils.instantiate(_literally(node), **_literally(extra), _convert_="all")
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ValueError | TypeError | ImportError) and not isinstance(cause, UserError):
            raise UserError(_refused_settings(group, node["_target_"], str(cause))) from cause
        raise cause from None


def build_all(group: str, nodes: Mapping[str, Any] | None) -> list[Any]:
    """Les objets d'un groupe dont chaque clé est un nœud ; un nœud null est retiré."""
    return [build(group, node) for node in (nodes or {}).values() if node is not None]


def _literally(node: Any) -> Any:
    """`node`, dont les textes ne sont plus interpolés : ils l'ont déjà été, et l'un d'eux peut contenir « ${ »."""
    if isinstance(node, str):
        return literally(literally(str(node)))  # Hydra résout la configuration, puis relit chaque valeur
    if isinstance(node, dict):
        return {key: _literally(value) for key, value in node.items()}
    return [_literally(one) for one in node] if isinstance(node, list) else node


def resolve(group: str, target: Any) -> Any:
    """La classe que `target` nomme. UserError si elle n'est pas permise, ou n'est pas de ce groupe."""
    return _allowed(target, BASES[group])


def _allowed(target: Any, bases: Sequence[str]) -> Callable[..., Any]:
    """L'objet que `target` nomme, d'un des types `bases` : c'est lui qui est jugé, pas le chemin qui y mène."""
    parts = target.split(".") if isinstance(target, str) else []
    if not str(target).startswith((*PACKAGES, *OPTIMIZERS, "lightning.")) or any(
        one.startswith("__") for one in parts
    ):
        raise UserError(_refused_target(str(target)[:120]))
    try:
        found = _find(target)
    except (ImportError, AttributeError):
        raise UserError(f"_target_: {target} n'existe pas.") from None
    defined = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if not defined.startswith((*PACKAGES, *OPTIMIZERS)) or not (
        inspect.isclass(found) or defined in FACTORIES
    ):
        raise UserError(_refused_target(target))
    if not any(_is_a(found, defined, base) for base in bases):
        wanted = " ou ".join(dict.fromkeys(base.rpartition(".")[2] for base in bases)) or "rien"
        raise UserError(f"_target_: {target} est refusé ici : il faut un {wanted}.")
    return found


def _is_a(found: Any, defined: str, base: str) -> bool:
    """Vrai si `found`, défini en `defined`, est de ce type : une de ses classes, ou une fabrique pour un tokenizer."""
    wanted = _find(base)
    if getattr(wanted, "_is_protocol", False):  # Tokenizer : ce que notre dossier définit
        return defined.startswith(TOKENIZERS) and (defined in FACTORIES or found is not wanted)
    packages = OPTIMIZERS if base == "torch.optim.Optimizer" else PACKAGES
    return inspect.isclass(found) and issubclass(found, wanted) and defined.startswith(packages)


def _find(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _check(node: Any, extra: dict[str, Any], bases: Sequence[str]) -> None:
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
            _check_keys(_allowed(node["_target_"], bases), node["_target_"], given)
        for name, child in node.items():
            _check(child, {}, INSIDE.get(str(name), ()))


def _check_keys(found: Callable[..., Any], target: str, given: list[str]) -> None:
    parameters = inspect.signature(found).parameters
    kinds = {one.kind for one in parameters.values()}
    unknown = [key for key in given if key not in parameters]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise UserError(f"{target} ne connaît pas « {unknown[0]} » : ses clés sont {', '.join(parameters)}.")
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, one in parameters.items():
        if one.default is inspect.Parameter.empty and one.kind not in variable and name not in given:
            raise UserError(f"{target} : il manque « {name} ».")


@contextmanager
def hydra_without_code() -> Iterator[None]:
    """Pendant ce bloc, rien de ce qu'une configuration dit à Hydra de lui-même n'est exécuté.

    Ses callbacks, ses journaux et son environnement construisent des objets, ou lancent des programmes : un fichier
    venu d'ailleurs (`--config-dir`) n'y touche pas, la commande oui, sauf aux callbacks et aux `_target_`. Hydra 1.3
    s'en sert dès qu'il a composé : c'est à sa lecture que l'on regarde. UserError, qui nomme la clé.
    """
    original = ConfigLoaderImpl.load_configuration

    def load(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *args: Any, **options: Any
    ) -> DictConfig:
        cfg = original(self, config_name, overrides, *args, **options)
        typed = [one for one in overrides if one.lstrip("+~").startswith(("hydra.", "hydra/"))]
        for one in typed:
            key = one.partition("=")[0].lstrip("+~")
            if "_target_" in one or key.startswith(("hydra.callbacks", "hydra/callbacks")):
                raise UserError(_refused_hydra(key))
        paths = {one.provider: one.path for one in self.config_search_path.get_path()}
        if paths.get("main") not in (None, str(CONF), f"file://{CONF}"):
            raise UserError(
                "--config-path est refusé : conf/ est celle du projet ; --config-dir=mon_dossier y ajoute les vôtres."
            )
        if "command-line" in paths or any("searchpath" in one for one in typed):
            here = _settings_of(cfg)
            usual = _settings_of(original(self, config_name, typed, *args, **options))
            changed = next((key for key in here if here[key] != usual.get(key)), None)
            if changed is not None:
                raise UserError(_refused_hydra(f"hydra.{changed}"))
        return cfg

    ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = original  # type: ignore[method-assign]


def _settings_of(cfg: DictConfig) -> dict[str, Any]:
    """Ce que la configuration dit à Hydra, moins ce qui est propre à une exécution."""
    found = cast(dict[str, Any], OmegaConf.to_container(cfg.hydra, resolve=False))
    job = {f"job.{key}": found["job"].get(key) for key in ("env_set", "env_copy", "chdir")}
    own = ("overrides", "runtime", "job", "mode")
    return {**{key: value for key, value in found.items() if key not in own}, **job}


def _refused_target(target: str) -> str:
    """Un `_target_` hors de la liste permise."""
    return (
        f"_target_: {target} est refusé : une configuration ne peut construire que des objets de "
        f"gpt_lightning, lightning et torch.optim."
    )


def _refused_hydra(key: str) -> str:
    """Un réglage de Hydra qui exécuterait autre chose que le projet."""
    return f"{key} est refusé : une configuration ne dit pas à Hydra quoi exécuter ; retirez cette clé."


def _refused_settings(group: str, target: str, why: str) -> str:
    """Un objet d'une bibliothèque qui refuse ses réglages, dans ses mots."""
    first = " ".join(why.split())[:200]
    return f"{target.rpartition('.')[2]} refuse ces réglages de {group} : {first.rstrip('.')}."
