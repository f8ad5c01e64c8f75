"""L'application : les routes, et le passage entre la boucle du serveur et le fil (thread) du modèle."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from gpt_lightning.decoding.logprobs import Scored, score_text
from gpt_lightning.serving import corpus, inside, playground, tokenizer
from gpt_lightning.serving.choice import Choice, Delta, Done
from gpt_lightning.serving.film import Film
from gpt_lightning.serving.guard import AccessRules, Guard
from gpt_lightning.serving.metrics import Metrics
from gpt_lightning.serving.openai import fields
from gpt_lightning.serving.openai.fields import GONE, Refused
from gpt_lightning.serving.openai.request import Request, ServedModel, chat, check_model, completion
from gpt_lightning.serving.openai.response import Answer
from gpt_lightning.serving.replies import (
    HANDLERS,
    CountResponses,
    allow_origins,
    call_in_thread,
    event,
    file_route,
    read_body,
    stream_response,
    to_json,
    wait_for_disconnect,
)
from gpt_lightning.serving.worker import Delivery, Job, Worker
from gpt_lightning.typing import JsonObject

T = TypeVar("T")


class Service:
    """Un modèle servi, son fil, ses compteurs, et une méthode par route."""

    def __init__(
        self,
        model: ServedModel,
        worker: Worker,
        shape: playground.Shape,
        *,
        seconds: float,
        explain: corpus.Explain | None = None,
    ) -> None:
        self.model, self.worker, self.shape, self.seconds = model, worker, shape, seconds
        self.metrics, self.explain, self._turns = Metrics(), explain, inside.Turns()

    def routes(self) -> list[BaseRoute]:
        """Tout ce que l'on demande à ce modèle."""
        return [
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.show_model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            *tokenizer.routes(self.model),
            Route("/api/model", self.describe),
            Route("/api/next", self.next, methods=["POST"]),
            Route("/api/continue", self.continue_text, methods=["POST"]),
            Route("/api/tokens", self.tokens, methods=["POST"]),
            Route("/api/attention", self.attention, methods=["POST"]),
            Route("/api/inside", self.inside, methods=["POST"]),
            Route("/api/score", self.score, methods=["POST"]),
            *corpus.routes(self.explain, self.seconds),
        ]

    def app(self, rules: AccessRules, second: "Service | None" = None, film: Film | None = None) -> ASGIApp:
        """L'application ASGI derrière sa porte ; `second` répond aux mêmes routes sous /other, `film` sous /film."""
        routes = [*self.routes(), Route("/health", self.health), Route("/metrics", self.prometheus)]
        routes += (film or Film()).routes()
        if second is not None:
            routes.append(Mount("/other", routes=second.routes()))
        for name, content, kind in playground.page_files():
            routes.append(Route("/" if name == "index.html" else f"/page/{name}", file_route(content, kind)))
        origins = [allow_origins(rules.origins)] if rules.origins else []
        around = [Middleware(CountResponses, metrics=self.metrics), *origins, Middleware(Guard, rules=rules)]
        app = Starlette(routes=routes, middleware=around, exception_handlers=HANDLERS)
        app.router.redirect_slashes = False  # un client ne renvoie pas toujours le corps d'un POST
        return app

    async def health(self, request: HTTPRequest) -> Response:
        if not self.worker.is_alive:
            raise Refused("Le fil du modèle s'est arrêté : relancez le serveur.", status=503, code="stopped")
        return JSONResponse({"status": "ok"})

    async def list_models(self, request: HTTPRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self.model.entry()]})

    async def show_model(self, request: HTTPRequest) -> Response:
        check_model(request.path_params["name"], self.model)
        return JSONResponse(self.model.entry())

    async def prometheus(self, request: HTTPRequest) -> Response:
        text = self.metrics.text(len(self.worker.waiting), self.worker.batch)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def completions(self, request: HTTPRequest) -> Response:
        return await self._answer(request, completion)

    async def chat(self, request: HTTPRequest) -> Response:
        return await self._answer(request, chat)

    async def describe(self, request: HTTPRequest) -> Response:
        return JSONResponse(playground.describe(self.model, self.shape))

    async def next(self, request: HTTPRequest) -> Response:
        """Tous les logits du jeton suivant, et les premiers candidats, avant et après les filtres."""
        values, ids = await self._read_text(request, playground.NEXT)
        fields.strategy(values)  # une valeur impossible est refusée avant de calculer
        logits = await self._call(request, lambda: playground.next_logits(self.worker.batch, ids))
        return await call_in_thread(to_json, playground.next_token, self.model, ids, logits, values)

    async def score(self, request: HTTPRequest) -> Response:
        """La surprise de chaque jeton d'un texte, son rang, et les candidats de sa place."""
        values, ids = await self._read_text(request, playground.SCORE, playground.WINDOWS)
        scores = await self._call(request, _scoring(self.worker.batch.model, ids, values["candidates"]))
        return await call_in_thread(to_json, playground.surprises, self.model, ids, scores)

    async def tokens(self, request: HTTPRequest) -> Response:
        """Les jetons d'un texte, ou le texte de jetons, sans appeler le modèle."""
        _, ids = await self._read_text(request, playground.TEXT, playground.WINDOWS)
        return await call_in_thread(to_json, playground.tokens_of, self.model, ids)

    async def attention(self, request: HTTPRequest) -> Response:
        """Les poids d'attention d'une couche sur la fin d'un texte."""
        values, ids = await self._read_text(request, playground.attention_fields(self.shape))
        window, batch = ids[-min(playground.DRAWN, self.model.context) :], self.worker.batch
        weights = await self._call(
            request, lambda: playground.attention_weights(batch.model, window, values["layer"], batch.device)
        )
        text = playground.tokens_of(self.model, window) | {"unread": len(ids) - len(window)}
        return JSONResponse(text | weights)

    async def inside(self, request: HTTPRequest) -> Response:
        """Le calcul d'un texte, vu de l'intérieur, étape par étape."""
        values, ids = await self._read_text(request, inside.request_fields(self.shape))
        steps = inside.begin(self.model, self.worker.batch.model, ids, values)
        seen = await self._turns.take(values["page"], lambda: self._call(request, lambda: next(steps)))
        return await call_in_thread(to_json, inside.reply, self.model, ids, values, seen)

    async def _read_text(
        self, request: HTTPRequest, accepted: Mapping[str, fields.Field], windows: int | None = None
    ) -> tuple[JsonObject, list[int]]:
        """Les champs d'une demande de la page et les jetons de son texte, de `windows` contextes au plus."""

        def read(body: JsonObject) -> tuple[JsonObject, list[int]]:
            values = fields.read(body, accepted)
            return values, playground.text_ids(self.model, values["text"])

        values, ids = await call_in_thread(read_body, read, await request.body())
        if windows is not None and len(ids) > windows * self.model.context:
            most = windows * self.model.context
            raise Refused(f"{len(ids)} jetons : il en faut {most} au plus.", param="text")
        return values, ids

    async def continue_text(self, request: HTTPRequest) -> Response:
        """Une complétion en flux, chaque jeton avec ses candidats."""
        values, ids = await self._read_text(request, playground.CONTINUE)
        choice = playground.continuation(self.model, ids, values)
        self.metrics.count_prompt(len(ids))
        source = self._write(request, [[choice]])
        first = await anext(source, None)
        if first is None:
            raise Refused(GONE, status=400)

        async def events() -> AsyncIterator[str]:
            length, before = first.length, first.text
            try:
                yield event(playground.tokens_of(self.model, ids))
                yield event(playground.chunk(self.model, first, ""))
                async for piece in source:
                    yield event(playground.chunk(self.model, piece, before))
                    length, before = piece.length, before + piece.text
            except Refused as refused:
                yield event({"error": refused.error})
            finally:
                self.metrics.count_completion(length)
                await source.aclose()

        return stream_response(events())

    async def _call(self, request: HTTPRequest, function: Callable[[], T]) -> T:
        """Fait appeler `function` par le fil du modèle, entre deux jetons."""
        async with contextlib.aclosing(self._items(request, call=function)) as items:
            async for item in items:
                if isinstance(item, Done):
                    return item.value
        raise Refused(GONE, status=400)

    async def _answer(self, request: HTTPRequest, reader: Callable[..., Request]) -> Response:
        asked = await call_in_thread(read_body, reader, await request.body(), self.model)
        scores: list[list[Scored]] = []
        if asked.echoed is not None and asked.top is not None:
            for ids in asked.prompts:
                scores.append(await self._call(request, _scoring(self.worker.batch.model, ids, asked.top)))
        self.metrics.count_prompt(sum(map(len, asked.prompts)))
        answer = Answer(asked, scores)
        if not asked.stream:
            async with contextlib.aclosing(self._pieces(request, asked)) as source:
                pieces = [piece async for piece in source]
            self.metrics.count_completion(sum(piece.length for piece in pieces if piece.reason))
            return await call_in_thread(to_json, answer.body, pieces)
        source = self._pieces(request, asked)
        first = await anext(source, None)  # un refus a encore son code HTTP
        return stream_response(self._events(answer, first, source))

    async def _pieces(self, request: HTTPRequest, asked: Request) -> AsyncGenerator[Delta, None]:
        """Les morceaux écrits pour `asked`, à mesure. Refused si l'écriture ne va pas jusqu'au bout."""
        if asked.max_tokens == 0:  # rien à écrire : echo, et des mesures
            for choice in asked.choices:
                yield Delta(choice.index, "", reason="length")
            return
        async with contextlib.aclosing(self._write(request, asked.groups)) as source:
            async for piece in source:
                yield piece

    async def _write(
        self, request: HTTPRequest, groups: Sequence[Sequence[Choice]]
    ) -> AsyncGenerator[Delta, None]:
        """Les morceaux de ces complétions, à mesure."""
        began, first = time.monotonic(), True
        async with contextlib.aclosing(self._items(request, choices=groups)) as items:
            async for item in items:
                if first:
                    self.metrics.count_first_piece(time.monotonic() - began)
                    first = False
                if isinstance(item, Delta):
                    yield item
                else:
                    self.metrics.count_reuse(sum(group[0].row.cached for group in groups))

    async def _items(
        self,
        request: HTTPRequest,
        *,
        choices: Sequence[Sequence[Choice]] = (),
        call: Callable[[], object] | None = None,
    ) -> AsyncGenerator[Delta | Done, None]:
        """Donne un travail au fil du modèle et en suit les résultats tant que le client est là. Refused s'il échoue."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Delivery | None]()

        def deliver(item: Delivery) -> None:
            with contextlib.suppress(RuntimeError):  # la boucle est finie
                loop.call_soon_threadsafe(queue.put_nowait, item)

        # l'échéance est celle de la demande : tous ses travaux la partagent
        deadline = request.scope.setdefault("gpt_lightning.deadline", time.monotonic() + self.seconds)
        job = Job(deliver, deadline=deadline, choices=choices, call=call)
        self.worker.submit(job)
        gone = asyncio.ensure_future(wait_for_disconnect(request))
        gone.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Refused):
                    raise item
                yield item
                if isinstance(item, Done):
                    return
        finally:
            self.worker.cancel(job)
            gone.cancel()

    async def _events(
        self, answer: Answer, first: Delta | None, source: AsyncGenerator[Delta, None]
    ) -> AsyncIterator[str]:
        """Les lignes d'un flux : un objet JSON par morceau, puis [DONE]."""
        try:
            for chunk in answer.chunks(first) if first is not None else ():
                yield event(chunk)
            async for piece in source:
                for chunk in answer.chunks(piece):
                    yield event(chunk)
        except Refused as refused:
            yield event({"error": refused.error})
            return
        finally:
            self.metrics.count_completion(sum(answer.counts.values()))
            await source.aclose()
        last = answer.last_chunk()
        if last is not None:
            yield event(last)
        yield "data: [DONE]\n\n"


def _scoring(model: Any, ids: list[int], top: int) -> Callable[[], list[Scored]]:
    return lambda: score_text(model, ids, top)
