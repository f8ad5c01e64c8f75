"""`_target_` : le seul endroit qui construit un objet nommé par une configuration, et la liste de ce qui est permis."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import hydra

from gpt_lightning import messages
from gpt_lightning.cli.arguments import literally
from gpt_lightning.errors import UserError

PACKAGES = (
    "gpt_lightning.",
    "lightning.pytorch.",
    "lightning.fabric.",
    "pytorch_lightning.",
    "torch.optim.",
    "pytorch_optimizer.",
)
FACTORIES = ("gpt_lightning.tokenizers.bpe.gpt2", "gpt_lightning.tokenizers.bpe.named")  # sinon : des classes
# ce que chaque groupe de conf/ doit construire ; le type n'est importé que s'il sert
BASES = {
    "tokenizer": "gpt_lightning.tokenizers.Tokenizer",
    "data": "gpt_lightning.data.SlidingWindowDataModule",
    "decoding": "gpt_lightning.decoding.Strategy",
    "optim": "torch.optim.Optimizer",
    "callbacks": "lightning.Callback",
    "logger": "lightning.pytorch.loggers.Logger",
    "trainer": "lightning.Trainer",
}


def build(group: str, node: Any, **extra: Any) -> Any:
    """L'objet du groupe `group` que `node` décrit par `_target_`, enfants compris.

    UserError si une cible n'est pas permise, n'est pas de ce groupe, ou ne prend pas une de ses clés.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{group} : il faut un nœud avec « _target_ », pas {node!r}.")
    resolve(group, node["_target_"])
    _check(node, extra)
    try:
        return hydra.utils.instantiate(_literally(node), **_literally(extra), _convert_="all")
    except hydra.errors.InstantiationException as error:
        raise error.__cause__ or error from None


def build_all(group: str, nodes: dict[str, Any] | None) -> list[Any]:
    """Les objets d'un groupe dont chaque clé est un nœud ; un nœud null est retiré."""
    return [build(group, node) for node in (nodes or {}).values() if node is not None]


def _literally(node: Any) -> Any:
    """`node`, dont les textes ne sont plus interpolés : ils l'ont déjà été, et l'un d'eux peut contenir « ${ »."""
    if isinstance(node, str):
        return literally(literally(node))  # Hydra résout la configuration, puis relit chaque valeur
    if isinstance(node, dict):
        return {key: _literally(value) for key, value in node.items()}
    return [_literally(one) for one in node] if isinstance(node, list) else node


def resolve(group: str, target: Any) -> Any:
    """La classe que `target` nomme. UserError si elle n'est pas permise, ou n'est pas de ce groupe."""
    found, base = _allowed(target), _find(BASES[group])
    protocol = getattr(base, "_is_protocol", False)  # un Tokenizer : une classe, ou une de nos fabriques
    if not protocol and not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"_target_: {target} est refusé dans {group} : il faut un {base.__name__}.")
    return found


def _allowed(target: Any) -> Callable[..., Any]:
    """L'objet que `target` nomme : c'est lui qui est jugé, pas le chemin par lequel on l'atteint."""
    if not isinstance(target, str) or not target.startswith((*PACKAGES, "lightning.")):
        raise UserError(messages.refused_target(str(target)))
    try:
        found = _find(target)
    except (ImportError, AttributeError):
        raise UserError(f"_target_: {target} n'existe pas.") from None
    defined = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if not defined.startswith(PACKAGES) or not (inspect.isclass(found) or defined in FACTORIES):
        raise UserError(messages.refused_target(target))
    return found


def _find(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _check(node: Any, extra: dict[str, Any]) -> None:
    """UserError sur une cible refusée ou une clé de trop, dans `node` et tout ce qu'il contient."""
    if isinstance(node, list | tuple):
        for child in node:
            _check(child, {})
    elif isinstance(node, dict):
        if "_target_" in node:
            given = [key for key in (*node, *extra) if not (key.startswith("_") and key.endswith("_"))]
            _check_keys(_allowed(node["_target_"]), node["_target_"], given)
        for child in node.values():
            _check(child, {})


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
