"""Déclarer un réglage : ce qu'il peut valoir, ce qu'une reprise y change, et quand il serait sans effet."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, NamedTuple

from gpt_lightning.typing import Settings

LIMITS = "trainer.max_epochs, trainer.max_steps, trainer.max_time ou max_tokens"

READING = dict.fromkeys(
    ("errors", "max_expansion", "join_hyphens", "drop_running_heads"),
    "la lecture des fichiers, si le contenu n'en change pas",
)


class Useless(NamedTuple):
    """Ces clés (d'un groupe, ou "" pour la clé elle-même) sont sans effet `when` les réglages le disent."""

    keys: tuple[str, ...]
    when: Callable[[Settings], object]
    advice: str


def itself(when: Callable[[Settings], object], advice: str) -> tuple[Useless, ...]:
    """La règle d'une clé sans effet, elle et non une clé de son groupe, `when` les réglages le disent."""
    return (Useless(("",), when, advice),)


def key(
    judge: Callable[[str, Any], object] | None = None,
    *,
    follows: str | Mapping[str, str] = "",
    fixed: tuple[str, ...] = (),
    useless: Iterable[Useless] = (),
) -> Any:
    """Déclare un champ de RunConfig.

    `judge(nom, valeur)` refuse une valeur ; `follows` dit ce qu'une reprise y change : tout (une phrase), ou ces clés
    du groupe ; `fixed` sont celles qu'elle n'y change pas.
    """
    return field(metadata={"judge": judge, "follows": follows, "fixed": fixed, "useless": tuple(useless)})


def has_other_length(settings: Settings) -> bool:
    """Vrai si une autre clé que data.passes donne la longueur de l'entraînement."""
    trainer = settings["trainer"]
    given = (trainer["max_epochs"], trainer["max_time"], settings["max_tokens"])
    return trainer["max_steps"] != -1 or any(value is not None for value in given) or trainer["fast_dev_run"]


def saves_nothing(settings: Settings) -> bool:
    """Vrai si l'entraînement n'écrit pas de checkpoint."""
    return not settings["trainer"]["enable_checkpointing"] or settings["trainer"]["fast_dev_run"]


def samples_nothing(settings: Settings) -> bool:
    """Vrai si l'entraînement n'écrit pas de texte d'exemple."""
    return not (settings["callbacks"] or {}).get("sample")


def classifies(settings: Settings) -> bool:
    """Vrai si le corpus est fait de textes étiquetés."""
    return "label_key" in settings["data"]


def evaluates_by_lightning(settings: Settings) -> bool:
    """Vrai si Lightning décide quand évaluer."""
    trainer = settings["trainer"]
    return trainer["val_check_interval"] is not None or trainer["check_val_every_n_epoch"] is not None


def only_csv(settings: Settings) -> bool:
    """Vrai s'il n'y a pas d'autre journal que metrics.csv."""
    return not any(node for name, node in (settings["logger"] or {}).items() if name != "csv")


# ce qui distingue un entraînement d'un autre dans une table
TELLING = (
    "optim.lr",
    "model.n_layers",
    "model.emb_dim",
    "model.context_length",
    "model.drop_rate",
    "data.source",
    "data.batch_size",
    "data.max_length",
    "tokenizer.size",
    "optim.schedule",
    "optim.weight_decay",
    "seed",
)
