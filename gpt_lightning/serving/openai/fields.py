"""Lire le corps d'une demande, champ par champ, et refuser d'une phrase ce qui ne se lit pas.

Les champs sont ceux de la documentation de l'API d'OpenAI ; ceux que ce serveur ajoute ont le nom de la `Strategy`.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gpt_lightning.decoding import Strategy
from gpt_lightning.decoding.prefixes import EVERYONE
from gpt_lightning.errors import UserError, choice, number, whole
from gpt_lightning.serving.openai.neutral import NEUTRAL, asks_nothing, is_same
from gpt_lightning.typing import JsonObject

SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")  # ceux d'OpenAI
OURS = ("top_k", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram")  # les nôtres
STOPS, DEEPEST = 16, 32  # textes d'arrêt ; listes dans des listes
CHOICES = 128  # complétions d'une demande, toutes ensemble
LONGEST = 1 << 20  # jetons à écrire : plus qu'aucun contexte
GONE = "La connexion est coupée."


class Refused(Exception):
    """Une demande refusée : son code HTTP, et l'erreur telle que le protocole l'écrit."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        message = message[:400]  # il peut citer la demande
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.error = {"message": message, "type": kind, "param": param, "code": code}


class Field(NamedTuple):
    """Comment lire un champ, et sa valeur quand il manque ou vaut null."""

    read: Callable[[str, object], object]
    default: object = None


def parse(body: bytes) -> JsonObject:
    """L'objet JSON d'un corps. Refused si ce n'en est pas un : UTF-8, JSON, nombres finis, profondeur raisonnable."""
    try:
        content = json.loads(body.decode("utf-8-sig"), parse_int=_integer)
    except UnicodeDecodeError:
        raise Refused("Le corps de la demande n'est pas de l'UTF-8.") from None
    except RecursionError:
        raise Refused("Le corps de la demande a trop de listes l'une dans l'autre.") from None
    except ValueError as error:
        raise Refused(f"Le corps de la demande n'est pas du JSON : {str(error)[:120]}.") from None
    if not isinstance(content, dict):
        raise Refused("Le corps de la demande doit être un objet JSON : {...}.")
    for name, value in content.items():
        field = name.encode("utf-8", "replace").decode()[:60]
        try:
            _check_value([name, value])
        except UserError as error:
            raise Refused(f"{field} : {error}", param=field, code="invalid_value") from None
    return content


def _integer(digits: str) -> int | float:
    """Un entier ; un nombre de mille chiffres n'en est pas un ici, et `_check_value` le dit."""
    return int(digits) if len(digits) < 1000 else math.inf


def _check_value(value: object, depth: int = 0) -> None:
    """UserError sur une moitié de caractère, un nombre qui n'est pas de JSON, ou des listes trop profondes."""
    if depth > DEEPEST:
        raise UserError("trop de listes l'une dans l'autre.")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError("une moitié de caractère (\\ud800 à \\udfff) n'est pas du texte.") from None
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{value} n'est pas un nombre de JSON.")
    elif isinstance(value, dict):
        for key, child in value.items():
            _check_value(key, depth)
            _check_value(child, depth + 1)
    elif isinstance(value, list):
        for child in value:
            if not isinstance(child, int):
                _check_value(child, depth + 1)


def read(body: Mapping[str, object], fields: Mapping[str, Field]) -> JsonObject:
    """La valeur de chaque champ de `fields`. Refused, qui nomme le champ, pour tout ce qui n'a pas de sens ici.

    Tout autre champ est refusé, sauf si sa valeur ne demande rien (`neutral.py`).
    """
    for name, value in body.items():
        if name in fields or asks_nothing(name, value):
            continue
        if name not in NEUTRAL:
            raise Refused(
                f"Le champ {name[:60]} n'existe pas ici.", param=name[:60], code="unknown_parameter"
            )
        raise unsupported_field(name)
    values = {}
    for name, field in fields.items():
        value = body.get(name)
        try:
            values[name] = field.default if value is None else field.read(name, value)
        except UserError as error:
            raise Refused(str(error), param=name, code="invalid_value") from None
    return values


def unsupported_field(name: str) -> Refused:
    """Le refus d'un champ que ce serveur ne fait pas, et dont la valeur demande quelque chose."""
    return Refused(
        f"Le champ {name} n'est pas pris en charge : retirez-le.", param=name, code="unsupported_parameter"
    )


def integer(least: int, most: int) -> Callable[[str, object], int]:
    """Un entier de [least, most]."""
    return lambda name, value: whole(name, exact(value), least, most)


def exact(value: object) -> object:
    """L'entier que ce nombre est : 1.0 est 1, comme JSON le veut ; toute autre valeur, telle quelle."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def length(least: int) -> Callable[[str, object], int]:
    """Un nombre de jetons à écrire ; -1, ou plus qu'aucun contexte : jusqu'au bout."""
    return lambda name, value: (
        LONGEST if is_same(value, -1) else min(whole(name, exact(value), least, 2**63 - 1), LONGEST)
    )


def real(least: float, most: float) -> Callable[[str, object], float]:
    """Un nombre de [least, most]."""
    return lambda name, value: number(name, value, least, most)


def boolean(name: str, value: object) -> bool:
    """Un booléen, true ou false."""
    return choice(name, value, (True, False))


def text(name: str, value: object) -> str:
    """Un texte."""
    if not isinstance(value, str):
        raise UserError(f"{name} : il faut un texte.")
    return value


def stops(name: str, value: object) -> tuple[str, ...]:
    """Un texte d'arrêt, ou une liste de STOPS au plus ; un texte vide n'arrête rien."""
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(stop, str) for stop in listed) or len(texts := [*filter(None, listed)]) > STOPS:
        raise UserError(f"{name} : il faut un texte, ou une liste de {STOPS} textes au plus.")
    return tuple(texts)


def any_value(name: str, value: object) -> object:
    """La valeur telle quelle : l'appelant la lira."""
    return value


def stream_options(name: str, value: object) -> bool:
    """Vrai s'il faut finir par le compte des jetons."""
    readable = ("include_usage", "include_obfuscation")
    if not isinstance(value, dict) or any(
        key not in readable and option not in (None, False) for key, option in value.items()
    ):
        raise UserError(f'{name} : il faut un objet, dont "include_usage" est la seule clé.')
    for key in readable:
        if value.get(key) is not None:
            boolean(f"{name}.{key}", value[key])
    return bool(value.get("include_usage"))


def seed(name: str, value: object) -> int | None:
    """Un entier de 64 bits, -1 pour n'en pas donner ; un autre négatif en devient un qui ne l'est pas."""
    given = whole(name, exact(value), -(2**63), 2**63 - 1)
    return None if given == -1 else given % 2**63


COMMON = {
    "model": Field(text),
    "temperature": Field(real(0, 2), 1.0),
    "top_p": Field(real(0, 1), 1.0),
    "presence_penalty": Field(real(-2, 2), 0.0),
    "frequency_penalty": Field(real(-2, 2), 0.0),
    **{name: Field(any_value) for name in OURS},
    "seed": Field(seed),
    "stop": Field(stops, ()),
    "stream": Field(boolean, False),
    "stream_options": Field(stream_options, False),
    "best_of": Field(integer(1, CHOICES)),
    "cache_prompt": Field(boolean, True),
    "cache_salt": Field(text, ""),
    "user": Field(text),  # un nom pour les journaux de qui appelle : il n'en reste rien ici
}


def scope(values: JsonObject) -> str | None:
    """Le domaine des préfixes : celui de tous, ou de ceux qui donnent le même `cache_salt` ; None : aucun."""
    if not values["cache_prompt"]:
        return None
    salt = values["cache_salt"]
    return hashlib.sha256(salt.encode()).hexdigest() if salt else EVERYONE


def strategy(values: JsonObject) -> Strategy:
    """La `Strategy` de ces champs. Refused, qui nomme le champ, si l'un n'a pas de sens."""
    given = {name: values[name] for name in (*SAMPLING, *OURS) if values[name] is not None}
    if given["top_p"] == 1:
        del given["top_p"]  # tout garder
    try:
        return Strategy(**given)
    except UserError as error:
        sentence = str(error).replace("decoding.", "")
        param = next((name for name in given if sentence.startswith(f"{name}=")), None)
        raise Refused(sentence, param=param, code="invalid_value") from None
