"""Un défaut que personne n'a tapé ne fait rien échouer : il suit le modèle, le corpus, la machine.

Une pièce qui refuse un réglage dit ce qui irait (`errors.Unfit`). Ici, ce qui irait remplace le défaut, et le journal
le dit ; ce que la personne a tapé n'est jamais remplacé, il est refusé.
"""

import copy
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from gpt_lightning.cli import console
from gpt_lightning.errors import Unfit, UserError
from gpt_lightning.typing import Settings

MOST = 64  # accords d'une commande : chacun rapproche d'une valeur qui va
T = TypeVar("T")
_typed: dict[str, str] = {}  # la clé, et sa valeur telle que la ligne de commande la donne


def remember_command(arguments: Collection[str]) -> None:
    """Retient les clés de la ligne de commande, avant que rien n'y soit ajouté (une reprise, un corpus hérité)."""
    global _typed
    pairs = (text.partition("=")[::2] for text in arguments if "=" in text)
    _typed = {key.lstrip("+"): value for key, value in pairs}


def is_typed(key: str) -> bool:
    """Vrai si la ligne de commande donne cette clé."""
    return key in _typed


def gives(key: str) -> bool:
    """Vrai si la ligne de commande donne à cette clé une valeur, et pas `auto`."""
    return _typed.get(key, "auto") != "auto"


def is_typed_under(group: str) -> bool:
    """Vrai si la ligne de commande donne ce groupe, ou l'une de ses clés."""
    return any(f"{key}.".startswith(f"{group}.") for key in _typed)


def follow(settings: Settings, attempt: Callable[[Settings], T]) -> T:
    """Ce que `attempt` rend pour ces réglages, où un défaut qui n'allait pas a pris la valeur qui va.

    UserError si la clé a été tapée, si rien n'irait, ou dans une reprise, qui garde ses nombres.
    """
    usual, tried = settings, set[tuple[str, object]]()
    before: Unfit | None = None
    while True:
        try:
            return attempt(settings)
        except Unfit as refusal:
            fits = (fit for fit in refusal.fits if _can_follow(settings, fit) and not tried & fit.items())
            fit = next(fits, None)  # une valeur déjà essayée ne convenait pas à autre chose
            if _resumes(settings) or fit is None or len(tried) >= MOST:
                if (
                    before is not None
                    and before.otherwise + refusal.otherwise
                    and any(tried & wanted.items() for wanted in refusal.fits)
                ):
                    raise _at_odds(before, refusal) from None
                raise
            before = refusal
            settings, tried = _replace(settings, fit), tried | fit.items()
            for key, value in fit.items():
                console.log.info(
                    f"Réglage    : {key}={_text(value)} au lieu de {_text(value_at(usual, key))}, {refusal.why}"
                )


def _at_odds(before: Unfit, last: Unfit) -> UserError:
    """Ce qui est dit de deux pièces qui veulent chacune d'une valeur que l'autre refuse."""
    ways = " ou ".join(filter(None, (last.otherwise, before.otherwise)))
    advice = f"essayez {ways}" if ways else "rien ne va aux deux"
    return UserError(f"{before.why[0].upper()}{before.why[1:]}, et {last.why} : {advice}.")


def _resumes(settings: Settings) -> bool:
    """Vrai pour les réglages d'un entraînement que l'on reprend : seul train.yaml a `strict_resume`."""
    return "strict_resume" in settings and settings["ckpt_path"] is not None


def _can_follow(settings: Settings, fit: Mapping[str, object]) -> bool:
    """Vrai si personne n'a tapé ces clés, si elles existent, et si l'une d'elles change."""
    changes = any(value_at(settings, key) != value for key, value in fit.items())
    return (
        bool(fit)
        and changes
        and not _typed.keys() & fit.keys()
        and all(_exists(settings, key) for key in fit)
    )


def _exists(settings: object, key: str) -> bool:
    for name in key.split("."):
        if not isinstance(settings, Mapping) or name not in settings:
            return False
        settings = settings[name]
    return True


def value_at(settings: Settings, key: str) -> object:
    """La valeur de cette clé, écrite avec des points ; None sans elle."""
    value: object = settings
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _replace(settings: Settings, fit: Mapping[str, object]) -> Settings:
    settings = copy.copy(settings)
    for key, value in fit.items():
        *groups, leaf = key.split(".")
        inside = settings
        for name in groups:
            inside[name] = copy.copy(inside[name])
            inside = inside[name]
        inside[leaf] = value
    return settings


def _text(value: object) -> str:
    return "null" if value is None else str(value)
