"""Répondre à l'onglet « D'où vient-ce » : les passages d'un texte qui sont mot pour mot dans le corpus du modèle."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gpt_lightning.errors import Stopped, UserError
from gpt_lightning.serving.openai import fields
from gpt_lightning.serving.openai.fields import GONE, Field, Refused
from gpt_lightning.serving.replies import call_in_thread, read_body, to_json, wait_for_disconnect
from gpt_lightning.serving.worker import LATE
from gpt_lightning.typing import JsonObject

LONGEST = 20_000  # caractères d'un texte
CLOSED = (
    "Le corpus de ce modèle ne se montre pas ici : il faut un modèle entraîné ici, corpus=true, et n'écouter que cette "
    "machine, ou une clé."
)
# d'un texte, et des mots d'un passage, au moins ; la fonction dit si plus personne n'attend
Explain = Callable[[str, int | None, Callable[[], bool]], JsonObject]
# une recherche est longue : elle n'occupe aucun autre fil
SEARCH = ThreadPoolExecutor(1, "gpt_lightning-corpus")


def routes(explain: Explain | None, seconds: float) -> list[Route]:
    """La route `/api/trace` ; `explain` dit d'un texte ce qu'il a en commun avec le corpus, None si elle est fermée.

    Une recherche s'arrête quand son client s'en va, ou après `seconds`.
    """

    async def trace(request: Request) -> Response:
        if explain is None:
            raise Refused(CLOSED, status=403, code="corpus_closed")
        text, least = await call_in_thread(read_body, _read, await request.body())
        stopped = threading.Event()
        gone = asyncio.ensure_future(wait_for_disconnect(request))
        gone.add_done_callback(lambda _: stopped.set())
        work = partial(to_json, _explain, explain, text, least, stopped.is_set)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(SEARCH, work)
        except TimeoutError:
            raise Refused(LATE, status=504, code="timeout") from None
        finally:
            stopped.set()
            gone.cancel()

    return [Route("/api/trace", trace, methods=["POST"])]


def _read(body: JsonObject) -> tuple[str, int | None]:
    """Le texte d'une demande, et les mots d'un passage, au moins. Refused s'ils ne se lisent pas."""
    values = fields.read(body, {"text": Field(fields.any_value), "least": Field(fields.integer(1, LONGEST))})
    text = values["text"]
    if not isinstance(text, str):
        raise Refused("text doit être un texte.", param="text", code="invalid_value")
    if len(text) > LONGEST:
        raise Refused(f"{len(text)} caractères : il en faut {LONGEST} au plus.", param="text")
    return text, values["least"]


def _explain(explain: Explain, text: str, least: int | None, is_stopped: Callable[[], bool]) -> JsonObject:
    try:
        if is_stopped():
            raise Stopped
        return explain(text, least, is_stopped)
    except Stopped:
        raise Refused(GONE, status=400) from None
    except UserError as error:  # le corpus n'est plus là, l'index est abîmé
        raise Refused(str(error), code="corpus_unreadable") from None
