"""L'application : les routes, et le passage entre la boucle du serveur et le fil du modèle."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_lightning import messages
from gpt_lightning.decoding.scored import Scored, score_text, scored
from gpt_lightning.decoding.text import prompt_ids
from gpt_lightning.errors import UserError
from gpt_lightning.serving import fields, protocol
from gpt_lightning.serving.fields import Field, Refused
from gpt_lightning.serving.guard import Guard, Rules, refusal
from gpt_lightning.serving.metrics import Metrics
from gpt_lightning.serving.worker import Done, Job, Piece, Worker, log

CANDIDATES = 50  # jetons suivants montrés, sans compter leurs logits, tous là
WINDOWS = 8  # contextes qu'un texte mesuré peut remplir
NEXT = {
    "text": Field(fields.anything),
    "candidates": Field(fields.integer(1, 1000), CANDIDATES),
    **{name: fields.COMMON[name] for name in (*fields.SAMPLING, *fields.OURS)},
}
SCORE = {"text": Field(fields.anything), "candidates": Field(fields.integer(0, 50), 10)}


class Service:
    """Un modèle servi : ce qu'il sait, son fil, ses compteurs, et ce que chaque route en fait."""

    def __init__(self, known: protocol.Model, worker: Worker, *, seconds: float) -> None:
        self.known, self.worker, self.seconds = known, worker, seconds
        self.metrics = Metrics()

    def app(self, rules: Rules, routes: Sequence[Route] = ()) -> ASGIApp:
        """L'application ASGI derrière sa porte ; `routes` s'ajoutent aux siennes."""
        own = [
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/api/next", self.next, methods=["POST"]),
            Route("/api/score", self.score, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.prometheus),
        ]
        around = [Middleware(Counted, metrics=self.metrics)]
        if rules.origins:
            allowed = {"allow_methods": ["GET", "POST"], "allow_headers": ["authorization", "content-type"]}
            around.append(Middleware(CORSMiddleware, allow_origins=list(rules.origins), **allowed))  # type: ignore[arg-type]
        around.append(Middleware(Guard, rules=rules))
        handlers: Mapping[Any, Any] = {Refused: _refused, HTTPException: _http, Exception: _broken}
        return Starlette(routes=[*own, *routes], middleware=around, exception_handlers=handlers)

    async def health(self, request: HTTPRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: HTTPRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self.known.listed()]})

    async def model(self, request: HTTPRequest) -> Response:
        protocol.known_model(request.path_params["name"], self.known)
        return JSONResponse(self.known.listed())

    async def prometheus(self, request: HTTPRequest) -> Response:
        worker = self.worker
        found = self.metrics.text(
            waiting=len(worker.waiting), running=len(worker.batch.rows), rows=worker.batch.size
        )
        return PlainTextResponse(found, media_type="text/plain; version=0.0.4")

    async def completions(self, request: HTTPRequest) -> Response:
        return await self._answer(request, protocol.completion)

    async def chat(self, request: HTTPRequest) -> Response:
        return await self._answer(request, protocol.chat)

    async def next(self, request: HTTPRequest) -> Response:
        """Tous les logits du jeton suivant, et les premiers candidats, avant et après les filtres."""
        values = fields.read(fields.parsed(await request.body()), NEXT, {})
        strategy, ids = fields.strategy(values), self._ids(values["text"])
        kept = ids[-self.known.context :]
        logits = await self._call(request, lambda: self._next_logits(kept))
        filtered = strategy(logits, torch.tensor([kept]), len(kept))[0].softmax(-1)  # rien n'est encore écrit
        rows = scored(logits, [int(logits.argmax())], values["candidates"])[0].top
        candidates = [
            self._token(index)
            | {"logit": float(logits[0, index]), "logprob": trace, "filtered": float(filtered[index])}
            for index, trace in rows
        ]
        raw = base64.b64encode(logits[0].numpy().astype("<f4").tobytes()).decode()
        found = {"tokens": len(ids), "unread": len(ids) - len(kept), "vocabulary": logits.shape[1]}
        return JSONResponse(found | {"candidates": candidates, "logits": raw})

    @torch.inference_mode()
    def _next_logits(self, ids: list[int]) -> torch.Tensor:
        model = self.worker.batch.model
        read = torch.tensor([ids], device=self.worker.batch.device)
        found = model.next_logits(read).float().cpu()  # (1, V)
        if bool(torch.isnan(found).any()):
            raise UserError(
                "Le modèle rend des logits NaN : son entraînement a divergé, ou le fichier est abîmé."
            )
        return found

    async def score(self, request: HTTPRequest) -> Response:
        """La surprise de chaque jeton d'un texte, son rang, et les candidats de sa place."""
        values = fields.read(fields.parsed(await request.body()), SCORE, {})
        ids, most = self._ids(values["text"]), WINDOWS * self.known.context
        if len(ids) > most:
            raise Refused(f"{len(ids)} jetons : un texte mesuré en a {most} au plus.", param="text")
        found = await self._call(
            request, lambda: score_text(self.worker.batch.model, ids, values["candidates"])
        )
        tokens = [self._token(ids[0]) | {"logprob": None, "rank": None, "candidates": []}]
        for one in found:
            rivals = [self._token(index) | {"logprob": trace} for index, trace in one.top]
            tokens.append(
                self._token(one.id) | {"logprob": one.logprob, "rank": one.rank, "candidates": rivals}
            )
        loss = -sum(one.logprob for one in found) / len(found) if found else None
        return JSONResponse({"tokens": tokens, "loss": loss})

    def _ids(self, value: Any) -> list[int]:
        """Les jetons d'un texte, ou d'une liste d'identifiants."""
        try:
            if isinstance(value, str):
                return prompt_ids(self.known.tokenizer, value)
            return protocol.token_ids("text", value, self.known.tokenizer)
        except UserError as error:
            raise Refused(str(error), param="text", code="invalid_value") from None

    def _token(self, index: int) -> dict[str, Any]:
        raw = self.known.tokenizer.token_bytes(index)
        return {"id": index, "token": protocol.token_text(self.known.tokenizer, index), "bytes": list(raw)}

    async def _call(self, request: HTTPRequest, function: Callable[[], Any]) -> Any:
        """Ce que rend `function`, appelée par le fil du modèle entre deux jetons."""
        async for item in self._items(request, call=function):
            if isinstance(item, Done):
                return item.value
        raise Refused("La connexion est coupée.", status=400)

    async def _answer(self, request: HTTPRequest, reader: Callable[..., protocol.Request]) -> Response:
        body = fields.parsed(await request.body())
        asked = reader(body, self.known)
        measured: list[list[Scored]] = []
        if asked.echoed is not None and asked.top is not None:
            for ids in asked.prompts:
                measured.append(await self._call(request, _scoring(self.worker.batch.model, ids, asked.top)))
        self.metrics.tokens["prompt"] += sum(map(len, asked.prompts))
        answer = protocol.Answer(asked, measured)
        if not asked.stream:
            pieces = [one async for one in self._pieces(request, asked)]
            self.metrics.tokens["completion"] += sum(piece.length for piece in pieces if piece.reason)
            return JSONResponse(answer.whole(pieces))
        source = self._pieces(request, asked)
        try:
            first = await anext(source)  # un refus a encore son code HTTP
        except StopAsyncIteration:
            first = None
        return StreamingResponse(
            self._events(answer, first, source),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _pieces(self, request: HTTPRequest, asked: protocol.Request) -> AsyncIterator[Piece]:
        """Ce qui s'écrit pour `asked`, à mesure. Refused si cela ne va pas jusqu'au bout."""
        if asked.max_tokens == 0:  # rien à écrire : echo, et des mesures
            for choice in asked.choices:
                yield Piece(choice.index, "", reason="length")
            return
        began, first = time.monotonic(), True
        async for item in self._items(request, choices=asked.groups):
            if first:
                self.metrics.first_piece(time.monotonic() - began)
                first = False
            if isinstance(item, Piece):
                yield item

    async def _items(self, request: HTTPRequest, **what: Any) -> AsyncIterator[Any]:
        """Ce que le fil du modèle rend d'un travail. Refused s'il échoue ; le client qui s'en va l'arrête."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def deliver(item: Any) -> None:
            with contextlib.suppress(RuntimeError):  # la boucle est finie
                loop.call_soon_threadsafe(queue.put_nowait, item)

        job = Job(deliver, seconds=self.seconds, **what)
        self.worker.submit(job)
        gone = asyncio.ensure_future(_disconnected(request))
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
        self, answer: protocol.Answer, first: Piece | None, source: AsyncIterator[Piece]
    ) -> AsyncIterator[str]:
        """Les lignes d'un flux : un objet JSON par morceau, puis [DONE]."""
        try:
            for made in answer.chunks(first) if first is not None else ():
                yield _event(made)
            async for piece in source:
                for made in answer.chunks(piece):
                    yield _event(made)
        except Refused as refused:
            yield _event({"error": refused.error})
            return
        finally:
            self.metrics.tokens["completion"] += sum(answer.counts.values())
            await source.aclose()  # type: ignore[attr-defined]
        last = answer.last_chunk()
        if last is not None:
            yield _event(last)
        yield "data: [DONE]\n\n"


def _scoring(model: Any, ids: list[int], top: int) -> Callable[[], list[Scored]]:
    return lambda: score_text(model, ids, top)


async def _disconnected(request: HTTPRequest) -> None:
    """Attend que le client s'en aille."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(made: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(made, ensure_ascii=False, allow_nan=False)}\n\n"


async def _refused(request: HTTPRequest, error: Refused) -> Response:
    return refusal(error)


async def _http(request: HTTPRequest, error: HTTPException) -> Response:
    sentence = messages.no_route(request.method, request.url.path[:80], error.status_code)
    return refusal(Refused(sentence, status=error.status_code, headers=error.headers))


async def _broken(request: HTTPRequest, error: Exception) -> Response:
    log.error(messages.job_failed(), exc_info=error)
    return refusal(Refused(messages.job_failed(), status=500, code="internal_error"))


class Counted:
    """Compte les réponses et leur durée."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.metrics.answered(scope["path"], status, time.monotonic() - began)
