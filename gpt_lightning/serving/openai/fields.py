"""Lire le corps d'une demande, champ par champ, et refuser d'une phrase ce qui ne se lit pas.

Les champs sont ceux de la documentation de l'API d'OpenAI ; ceux que ce serveur ajoute ont le nom de la `Strategy`.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from gpt_lightning.decoding import Strategy
from gpt_lightning.errors import UserError, choice, number, whole
from gpt_lightning.typing import JsonObject

SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")  # ceux d'OpenAI
OURS = ("top_k", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram")  # les nôtres
STOPS, DEEPEST = 4, 32  # textes d'arrêt ; listes dans des listes


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
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Refused("Le corps de la demande n'est pas de l'UTF-8.") from None
    except RecursionError:
        raise Refused("Le corps de la demande a trop de listes l'une dans l'autre.") from None
    except ValueError as error:
        raise Refused(f"Le corps de la demande n'est pas du JSON : {str(error)[:120]}.") from None
    if not isinstance(content, dict):
        raise Refused("Le corps de la demande doit être un objet JSON : {...}.")
    _check_text(content)
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} n'est pas un nombre de JSON")


def _check_text(value: object, depth: int = 0) -> None:
    """Refused si un texte contient une moitié de caractère, ou si les listes sont trop profondes."""
    if depth > DEEPEST:
        raise Refused("Le corps de la demande a trop de listes l'une dans l'autre.")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise Refused(
                "Un texte de la demande contient une moitié de caractère (\\ud800 à \\udfff)."
            ) from None
    elif isinstance(value, dict):
        for key, child in value.items():
            _check_text(key, depth)
            _check_text(child, depth + 1)
    elif isinstance(value, list):
        for child in value:
            if not isinstance(child, int):
                _check_text(child, depth + 1)


def read(
    body: Mapping[str, object], fields: Mapping[str, Field], ignored: Mapping[str, tuple[object, ...]]
) -> JsonObject:
    """La valeur de chaque champ de `fields`. Refused, qui nomme le champ, pour tout ce qui n'a pas de sens ici.

    `ignored` : les champs du protocole que ce serveur ne fait pas, et les valeurs qui reviennent à ne rien demander.
    """
    for name, value in body.items():
        if name in fields or value is None:
            continue
        if name not in ignored:
            raise Refused(
                f"Le champ {name[:60]} n'existe pas ici.", param=name[:60], code="unknown_parameter"
            )
        if not any(value == nothing and type(value) is type(nothing) for nothing in ignored[name]):
            raise Refused(
                f"Le champ {name} n'est pas pris en charge : retirez-le.",
                param=name,
                code="unsupported_parameter",
            )
    values = {}
    for name, field in fields.items():
        value = body.get(name)
        try:
            values[name] = field.default if value is None else field.read(name, value)
        except UserError as error:
            raise Refused(str(error), param=name, code="invalid_value") from None
    return values


def integer(least: int, most: int) -> Callable[[str, object], int]:
    """Un entier de [least, most]."""
    return lambda name, value: whole(name, value, least, most)


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
    """Un texte d'arrêt, ou une liste de quatre au plus."""
    listed = [value] if isinstance(value, str) else value
    if (
        not isinstance(listed, list)
        or len(listed) > STOPS
        or not all(isinstance(stop, str) and stop for stop in listed)
    ):
        raise UserError(
            f"{name} : il faut un texte, ou une liste de {STOPS} textes au plus, dont aucun n'est vide."
        )
    return tuple(listed)


def any_value(name: str, value: object) -> object:
    """La valeur telle quelle : l'appelant la lira."""
    return value


def stream_options(name: str, value: object) -> bool:
    """Vrai s'il faut finir par le compte des jetons."""
    if not isinstance(value, dict) or set(value) - {"include_usage", "include_obfuscation"}:
        raise UserError(f'{name} : il faut un objet, dont "include_usage" est la seule clé.')
    for key, option in value.items():
        if option is not None:
            boolean(f"{name}.{key}", option)
    return bool(value.get("include_usage"))


def seed(name: str, value: object) -> int:
    """Un entier de 64 bits ; un négatif en devient un autre, qui ne l'est pas."""
    return whole(name, value, -(2**63), 2**63 - 1) % 2**63


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
    "user": Field(text),  # un nom pour les journaux de qui appelle : il n'en reste rien ici
}
# dans le protocole, et sans objet pour un petit modèle de texte : ce qui revient à ne rien demander
ACCEPTED_AND_IGNORED: dict[str, tuple[object, ...]] = {
    "logit_bias": ({},),
    "metadata": ({},),
    "store": (False,),
}


def strategy(values: JsonObject) -> Strategy:
    """La `Strategy` de ces champs. Refused, qui nomme le champ, si l'un n'a pas de sens."""
    given = {name: values[name] for name in (*SAMPLING, *OURS) if values[name] is not None}
    if given["top_p"] == 1:
        del given["top_p"]  # tout garder
    try:
        return Strategy(**given)
    except UserError as error:
        sentence = str(error).replace("decoding.", "")
        param = next((name for name in OURS if sentence.startswith(name)), None)
        raise Refused(sentence, param=param, code="invalid_value") from None
