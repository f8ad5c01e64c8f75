"""La faute d'une personne, et les trois vérifications de valeurs que tout le paquet partage."""

from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Une faute de la personne : sa phrase, en français, dit quoi taper à la place.

    Levée là où la faute est trouvée. `cli/` montre la phrase seule ; toute autre erreur garde sa trace.
    """


def whole(name: str, value: Any, least: int | None = 1, most: int | None = None) -> int:
    """`value`, si c'est un entier de [least, most]. UserError sinon ; un booléen n'est pas un entier."""
    if isinstance(value, bool) or not isinstance(value, int) or not _within(value, least, most):
        raise UserError(f"{name}={_shown(value)} : il faut un entier{_limits(least, most)}.")
    return value


def number(
    name: str, value: Any, least: float | None = 0, most: float | None = None, *, above: float | None = None
) -> float:
    """`value`, si c'est un nombre fini de [least, most], plus grand que `above`. UserError sinon."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != float("inf")
    if not fine or not _within(value, least, most) or (above is not None and value <= above):
        limits = _limits(least, most) if above is None else f" plus grand que {above:g}"
        raise UserError(f"{name}={_shown(value)} : il faut un nombre{limits}.")
    return value


def choice(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """`value`, si elle est l'un des `choices`. UserError, avec tous les choix, sinon."""
    listed = list(choices)
    if not any(value == one and type(value) is type(one) for one in listed):
        raise UserError(f"{name}={_shown(value)} : les choix sont {', '.join(map(_shown, listed))}.")
    return value


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)  # faux pour un NaN


def _limits(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" entre {least:g} et {most:g}"
    if least is not None:
        return f" d'au moins {least:g}"
    return "" if most is None else f" d'au plus {most:g}"


def _shown(value: Any) -> str:
    """La valeur telle qu'on la tape sur la ligne de commande."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
