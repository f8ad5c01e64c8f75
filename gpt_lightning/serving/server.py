"""Faire tourner uvicorn, avec des en-têtes qui doivent arriver à temps et un arrêt qui finit ce qui s'écrit."""

import asyncio
import contextlib
import errno
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gpt_lightning.errors import Unfit, UserError
from gpt_lightning.serving.worker import Worker

HEADERS = 10.0  # secondes pour envoyer les en-têtes d'une demande
CONNECTIONS = 1000  # ouvertes ensemble ; au-delà, 503


def listen(host: str, port: int) -> socket.socket:
    """Un socket qui écoute `host`:`port`, et auquel personne ne répond encore.

    UserError si l'adresse n'est pas celle de cette machine, Unfit si le port n'est pas libre.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"host={host} : cette adresse ne se trouve pas ({error.strerror}).") from None
    try:
        if os.name == "posix":  # ailleurs, deux serveurs pourraient prendre le même port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()  # les premiers clients attendent que le modèle soit lu
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE
        raise Unfit(
            f"{host}:{port} n'est pas libre ({error.strerror}) : un autre serveur y écoute peut-être ; essayez "
            f"port={port + 1 if port < 65535 else 0}, ou port=0 pour un port quelconque.",
            f"un autre serveur écoute déjà {host}:{port}",
            {"port": 0} if taken else {},
        ) from None
    return sock


def address_of(sock: socket.socket) -> str:
    """L'adresse à ouvrir : http://127.0.0.1:8000."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Patient(H11Protocol):
    """Le protocole d'uvicorn, qui n'attend pas sans fin des en-têtes."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """Arme l'échéance, si aucune demande n'est en cours ; la désarme sinon."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(HEADERS, self.transport.close)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """Le serveur d'uvicorn, qui prévient le fil de chaque modèle avant de s'arrêter.

    `ready` est appelée quand il écoute, `stopping` quand il s'arrête.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        workers: Sequence[Worker],
        grace: float,
        ready: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.loop: asyncio.AbstractEventLoop | None = None  # il n'a pas commencé
        self._workers, self._grace, self._ready, self._stopping = workers, grace, ready, stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Écoute, puis appelle `ready`."""
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ne prend aucun signal : `serve` s'en charge, et un arrêt demandé n'est pas un échec."""
        yield

    def abandon(self) -> None:
        """N'attend plus rien : coupe toutes les connexions, s'il y en a encore. Un signal peut l'appeler."""
        self.force_exit = True
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        self._close(0)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _close(self, grace: float) -> None:
        for worker in self._workers:
            worker.close(grace)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse ce qui attend, laisse finir ce qui s'écrit, ferme."""
        self._stopping()
        self._close(self._grace)
        await super().shutdown(sockets)


def build(
    app: ASGIApp,
    workers: Sequence[Worker],
    *,
    grace: float,
    keep_alive: int = 75,
    ready: Callable[[], None] = lambda: None,
    stopping: Callable[[], None] = lambda: None,
) -> Server:
    """Un serveur prêt à écouter, dont l'arrêt laisse `grace` secondes à ce qui s'écrit. Voir `Server`.

    `keep_alive` : les secondes qu'une connexion attend sa demande suivante.
    """
    config = uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=math.ceil(grace) + 2,
    )
    return Server(config, workers, grace, ready, stopping)


def serve(server: Server, sock: socket.socket) -> None:
    """Écoute, jusqu'à Ctrl-C ou SIGTERM ; un second signal n'attend plus rien."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if server.should_exit:
            server.abandon()
        server.should_exit = True

    signals = signal.SIGINT, signal.SIGTERM
    for signum in signals:
        signal.signal(signum, stop)
    asyncio.run(server.serve(sockets=[sock]))
    for signum in signals:  # il est arrêté : un signal de plus n'en fait pas un échec
        signal.signal(signum, signal.SIG_IGN)
