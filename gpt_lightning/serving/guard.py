"""La porte : qui peut demander quoi, de quelle taille, en combien de temps. Elle juge avant que rien ne soit lu.

Un serveur local n'est pas à l'abri pour autant : n'importe quelle page ouverte dans un navigateur peut lui écrire.
D'où la liste des noms d'hôte (contre un nom de domaine qui changerait d'adresse), l'origine, et le type du corps, qu'un
formulaire ne peut pas envoyer.
"""

import asyncio
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_lightning.serving.addresses import SCHEMES, hostname, read_host, read_origin
from gpt_lightning.serving.openai.fields import GONE, Refused

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN = ("/", "/health")  # ce qui se voit sans clé, avec ce qui est sous /page/
METHODS = ("GET", "HEAD", "POST", "OPTIONS")


@dataclass(frozen=True)
class AccessRules:
    """Les règles de la porte. `hosts` : les noms d'hôte acceptés, None pour tous ; `origins` : les pages d'ailleurs."""

    hosts: tuple[str, ...] | None = LOOPBACK
    origins: tuple[str, ...] = ()
    key: str | None = None
    behind_proxy: bool = False  # X-Forwarded-Proto dit le schéma
    max_body: int = 1 << 20  # octets
    body_seconds: float = 10.0


class Guard:
    """Le middleware ASGI qui tient la porte, et donne à l'application un corps lu en entier."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        # une barre de trop n'est pas une route : « //page/ » vient d'un proxy qui ôte « /gpt » et non « /gpt/ »
        scope["path"] = re.sub("/+", "/", scope["path"]).rstrip("/") or "/"
        try:
            headers = Headers(scope=scope)
            self._judge(scope, headers)
            if scope["method"] == "POST":
                receive = _prepend_body(await self._body(headers, receive), receive)
        except Refused as refused:
            await refusal(refused)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _judge(self, scope: Scope, headers: Headers) -> None:
        """Refused si cette demande n'a rien à faire ici."""
        rules, method, path = self.rules, scope["method"], scope["path"]
        if method not in METHODS:
            raise Refused(f"{method[:20]} n'existe pas ici.", status=405)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or (rules.hosts is not None and hostname(hosts[0]) not in rules.hosts):
            raise Refused(
                "Ce nom d'hôte n'est pas celui de ce serveur (python -m gpt_lightning serve hosts=[...]).",
                status=403,
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        schemes = _schemes(headers) if rules.behind_proxy else SCHEMES
        same = _same_place(origin or "", hosts[0], schemes) or headers.get("sec-fetch-site") == "same-origin"
        if origin is not None and origin not in rules.origins and not same:
            raise Refused(
                "Une page d'ailleurs ne peut pas écrire à ce serveur (python -m gpt_lightning serve cors=[...]).",
                status=403,
                code="origin_not_allowed",
            )
        if (
            rules.key is not None
            and method != "OPTIONS"
            and path not in OPEN
            and not path.startswith("/page/")
        ):
            self._check_key(headers.get("authorization", ""))
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise Refused(
                f"Content-Encoding: {encoding[:20]} ne se lit pas ici : envoyez le corps sans le compresser.",
                status=415,
                headers={"Accept-Encoding": "identity"},
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            raise Refused("Le corps doit être du JSON : Content-Type: application/json.", status=415)

    def _check_key(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        assert self.rules.key is not None
        # comparer dure autant, que la clé soit presque bonne ou pas du tout
        same = hmac.compare_digest(given.strip().encode(), self.rules.key.encode())
        if scheme.lower() != "bearer" or not same:
            raise Refused(
                "Il faut la clé de ce serveur : Authorization: Bearer ...",
                status=401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Le corps entier. Refused s'il est trop long, ou trop lent."""
        most = self.rules.max_body
        announced = headers.get("content-length", "0")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > most:
            raise _size_refusal(most)
        try:
            async with asyncio.timeout(self.rules.body_seconds):
                return await _read(receive, most)
        except TimeoutError:
            raise Refused(
                "Le corps de la demande n'est pas arrivé à temps.", status=408, headers=CLOSE
            ) from None


CLOSE = {"Connection": "close"}  # le reste du corps n'est pas lu : la connexion ne peut plus servir


def _size_refusal(most: int) -> Refused:
    sentence = f"Le corps de la demande dépasse {most} octets (max_body_bytes)."
    return Refused(sentence, status=413, code="request_too_large", headers=CLOSE)


async def _read(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(GONE, status=400)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _size_refusal(most)
        if not message.get("more_body", False):
            return b"".join(parts)


def _prepend_body(body: bytes, receive: Receive) -> Receive:
    """Un `receive` qui donne ce corps, puis ce qui suit."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _schemes(headers: Headers) -> Sequence[str]:
    """Le schéma sous lequel le proxy a reçu la demande ; les deux s'il ne le dit pas."""
    said = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return (said,) if said in SCHEMES else SCHEMES


def _same_place(origin: str, host: str, schemes: Sequence[str]) -> bool:
    """Vrai si cette page vient de ce serveur. Derrière un proxy qui change Host, seul Sec-Fetch-Site le sait."""
    return origin.lower() in [f"{scheme}://{host.lower()}" for scheme in schemes]


def refusal(refused: Refused) -> JSONResponse:
    """La réponse HTTP d'un refus, dans la forme du protocole."""
    return JSONResponse({"error": refused.error}, refused.status, headers=refused.headers)


def access_rules(
    host: str, hosts: Sequence[str] | None, origins: Sequence[str], **limits: Any
) -> AccessRules:
    """Les règles d'un serveur qui écoute sur `host` : en local, ses seuls noms ; ailleurs, tous, si rien n'est dit.

    UserError si un nom de `hosts` ou une origine n'en est pas : aucune demande ne la porterait.
    """
    allowed = (*LOOPBACK, host.lower(), *map(read_host, hosts or ()))
    everyone = hosts is None and not is_loopback(host)
    return AccessRules(
        hosts=None if everyone else allowed, origins=tuple(map(read_origin, origins)), **limits
    )


def is_loopback(host: str) -> bool:
    """Vrai si l'on n'écoute que cette machine."""
    return host.lower() in LOOPBACK or host.startswith("127.")
