"""Servir le film d'un entraînement : à chaque pas, les routes du modèle qu'il était, ouvert quand on le demande."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from gpt_lightning.errors import UserError
from gpt_lightning.serving.openai.fields import Refused
from gpt_lightning.serving.replies import HANDLERS, call_in_thread, refusal
from gpt_lightning.serving.worker import Worker

OPEN = 3  # modèles du film ouverts à la fois : un curseur va et vient entre voisins
DIGITS = 12  # d'un pas, au plus


class Served(Protocol):
    """Un modèle servi : le fil qui le fait calculer, et ses routes."""

    @property
    def worker(self) -> Worker: ...

    def routes(self) -> list[BaseRoute]: ...


class Film:
    """`images()` : les fichiers du film, par pas. `serve` en ouvre un, et son modèle répond."""

    def __init__(
        self,
        images: Callable[[], Mapping[int, Path]] = dict,
        serve: Callable[[Path], Served] | None = None,
    ) -> None:
        self._images, self._serve = images, serve
        self._open: OrderedDict[int, tuple[Worker, Starlette]] = OrderedDict()
        self._answering = Counter[int]()  # les demandes en cours de chaque pas
        self._opening = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        """Les pas qu'il y a, et les routes de chacun : /film/120/api/next."""
        return [Route("/api/film", self.list_steps), Mount("/film/{step}", app=self.answer)]

    async def list_steps(self, request: Request) -> Response:
        """Les pas du film ; une exécution en cours en ajoute."""
        return JSONResponse({"steps": sorted(await call_in_thread(self._images))})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Répond comme le modèle du pas que l'adresse nomme."""
        try:
            async with self._opening:
                step = _number(scope["path_params"]["step"])
                app = await self._at(step)
                self._answering[step] += 1
        except Refused as refused:
            await refusal(refused)(scope, receive, send)
            return
        try:
            await app(scope, receive, send)
        finally:
            self._answering[step] -= 1
            self._close_idle()

    async def _at(self, step: int) -> Starlette:
        """Les routes du modèle de ce pas ; Refused s'il n'y est pas."""
        if step not in self._open:
            service = await call_in_thread(self._read, step)
            service.worker.start()
            app = Starlette(routes=service.routes(), exception_handlers=HANDLERS)
            self._open[step] = service.worker, app
        self._open.move_to_end(step)
        return self._open[step][1]

    def _close_idle(self) -> None:
        """Ferme les moins récents de trop, parmi ceux qui ne répondent à personne."""
        idle = [step for step in self._open if not self._answering[step]]
        for step in idle[: max(0, len(self._open) - OPEN)]:
            self._open.pop(step)[0].close(0)

    def _read(self, step: int) -> Served:
        images = self._images()
        if step not in images or self._serve is None:
            raise Refused(f"Le film n'a pas d'image au pas {step}.", status=404, code="not_found")
        try:
            return self._serve(images[step])
        except UserError as error:  # elle vient d'être effacée, ou abîmée
            raise Refused(str(error), status=404, code="not_found") from None

    def close(self) -> None:
        """Ferme tous les modèles du film."""
        for worker, _ in self._open.values():
            worker.close(0)


def _number(text: str) -> int:
    """Le pas que l'adresse nomme. Refused si ce n'en est pas un."""
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS):
        raise Refused(f"Le film n'a pas d'image au pas {text[:DIGITS]}.", status=404, code="not_found")
    return int(text)
