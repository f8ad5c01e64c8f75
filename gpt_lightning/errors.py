"""La faute d'une personne, et les trois façons de juger une valeur dont tout le paquet se sert."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """Une faute de la personne : sa phrase, en français, lui donne ce qu'il faut taper.

    Qui trouve la faute lève l'erreur. `cli/` n'en montre que la phrase ; toute autre erreur garde sa trace.
    """


class Interrupted(UserError):
    """Un travail qu'une cause passagère arrête, comme un réseau : ce qui est fait est gardé, la commande le reprend."""


class Stopped(Exception):
    """Plus personne n'attend ce travail : il s'arrête."""


class Unfit(UserError):
    """Un réglage qui ne va pas à ce modèle, à ce corpus ou à cette machine, et ce qui irait.

    Chaque `fits` est une façon de l'accorder, {clé: valeur}, et `why` dit d'après quoi. Une commande prend la première
    dont personne n'a tapé les clés (`cli/defaults.py`) : seul ce qui a été tapé est refusé. `otherwise` est ce qui
    aiderait encore, si autre chose ne veut d'aucune de ces valeurs.
    """

    def __init__(self, sentence: str, why: str, *fits: Mapping[str, object], otherwise: str = "") -> None:
        super().__init__(sentence)
        self.why, self.fits, self.otherwise = why, fits, otherwise


def whole(name: str, value: object, least: int | None = 1, most: int | None = None) -> int:
    """Renvoie `value` si c'est un entier de [least, most]. UserError sinon ; un booléen n'est pas un entier."""
    if isinstance(value, bool) or not isinstance(value, int) or not _is_within(value, least, most):
        raise UserError(f"{name}={_literal(value)} : il faut un entier{_limits(least, most)}.")
    return value


def number(
    name: str,
    value: object,
    least: float | None = 0,
    most: float | None = None,
    *,
    above: float | None = None,
) -> float:
    """Renvoie `value` si c'est un nombre fini de [least, most], plus grand que `above`. UserError sinon."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or abs(value) == float("inf")
        or not _is_within(value, least, most)
        or (above is not None and value <= above)
    ):
        limits = _limits(least, most) if above is None else f" plus grand que {above:g}"
        raise UserError(f"{name}={_literal(value)} : il faut un nombre{limits}.")
    return value


def choice(name: str, value: object, choices: Iterable[T]) -> T:
    """Renvoie `value` si elle est l'un des `choices`. UserError, avec tous les choix, sinon."""
    listed = list(choices)
    for allowed in listed:
        if value == allowed and type(value) is type(allowed):
            return allowed
    raise UserError(f"{name}={_literal(value)} : les choix sont {', '.join(map(_literal, listed))}.")


def _is_within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)  # faux pour un NaN


def _limits(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" entre {_figure(least)} et {_figure(most)}"
    if least is not None:
        return f" d'au moins {_figure(least)}"
    return "" if most is None else f" d'au plus {_figure(most)}"


def _figure(limit: float) -> str:
    """Une borne, avec tous ses chiffres si elle est entière."""
    return str(int(limit)) if limit == int(limit) else f"{limit:g}"


def _literal(value: object) -> str:
    """La valeur, telle qu'elle se tape sur la ligne de commande."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
