"""Donner à toute réponse ses en-têtes, sa forme en flux ou son refus, et la compter."""

import asyncio
import base64
import gzip
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_lightning.serving.guard import refusal
from gpt_lightning.serving.metrics import Metrics
from gpt_lightning.serving.openai.fields import Refused, parse
from gpt_lightning.serving.worker import JOB_FAILED, log
from gpt_lightning.typing import JsonObject

T = TypeVar("T")
ASIDE = ThreadPoolExecutor(2, "gpt_lightning")  # peu de fils : chacun garde sa part de mémoire

# la page ne charge, n'exécute et n'appelle que ce serveur, et ne s'affiche dans aucune autre
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

# ce que certains clients prennent pour une fin de ligne ; JSON échappe déjà \n, \r et les autres
LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def allow_origins(origins: Sequence[str]) -> Middleware:
    """Le middleware qui répond aux navigateurs dont la page vient de l'une de ces origines."""
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),  # les clients en ajoutent
        allow_private_network=True,
    )


def stream_response(events: AsyncIterator[str]) -> Response:
    """Une réponse en flux, que rien ne garde en chemin."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def call_in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Appelle `function` dans un autre fil : un long texte à lire ou à écrire n'arrête pas les autres."""
    return await asyncio.get_running_loop().run_in_executor(ASIDE, function, *arguments)


async def wait_for_disconnect(request: HTTPRequest) -> None:
    """Attend que le client s'en aille."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def read_body(reader: Callable[..., T], body: bytes, *arguments: object) -> T:
    """Ce que `reader` lit de l'objet JSON d'un corps. Refused si ce n'en est pas un."""
    return reader(parse(body), *arguments)


def to_json(function: Callable[..., JsonObject], *arguments: object) -> Response:
    """La réponse dont `function` donne l'objet."""
    return JSONResponse(function(*arguments))


def file_route(content: bytes, kind: str) -> Callable[[HTTPRequest], Awaitable[Response]]:
    """Une route qui répond toujours ces octets-là, compressés si le navigateur sait les lire ainsi.

    Le script qu'une page porte en elle est permis par son empreinte.
    """
    inside = re.findall(rb"<script>(.*?)</script>", content, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in inside]
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in digests)])
    policy = {"Content-Security-Policy": POLICY.format(scripts=scripts)}
    headers = {**SAFE, **policy, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    small = gzip.compress(content, mtime=0)

    async def serve_file(request: HTTPRequest) -> Response:
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(small, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
        return Response(content, media_type=kind, headers=headers)

    return serve_file


def event(content: Mapping[str, object]) -> str:
    """Un événement d'un flux : un objet JSON, d'une seule ligne pour tous les clients."""
    return f"data: {json.dumps(content, ensure_ascii=False, allow_nan=False).translate(LINE_ENDS)}\n\n"


async def _handle_refusal(request: HTTPRequest, error: Refused) -> Response:
    return refusal(error)


async def _handle_http(request: HTTPRequest, error: HTTPException) -> Response:
    sentence = _no_route(request.method, request.url.path[:80], error.status_code)
    return refusal(Refused(sentence, status=error.status_code, headers=error.headers))


async def _handle_failure(request: HTTPRequest, error: Exception) -> Response:
    log.error(JOB_FAILED, exc_info=error)
    return refusal(Refused(JOB_FAILED, status=500, code="internal_error"))


class CountResponses:
    """Compte les réponses et leur durée, et dit dans chacune qu'elle vient de ce serveur, depuis ce démarrage."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.header = (b"x-gpt-lightning", secrets.token_hex(8).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), self.header]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            self.metrics.count_response(scope["path"], status, time.monotonic() - began)


def _no_route(method: str, path: str, status: int) -> str:
    """La phrase d'une route qui n'existe pas, ou qui ne se demande pas ainsi."""
    if status == 405:
        return f"{path} ne se demande pas par {method}."
    return f"{path} n'existe pas ici : /v1/models, /v1/completions, /v1/chat/completions, /health, /metrics."


HANDLERS: Mapping[type[Exception], Callable[..., Awaitable[Response]]] = {
    Refused: _handle_refusal,
    HTTPException: _handle_http,
    Exception: _handle_failure,
}
