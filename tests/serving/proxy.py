"""Un proxy inverse qui sert un serveur sous un préfixe, comme nginx, JupyterHub ou code-server."""

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/gpt"


class Proxy(ThreadingHTTPServer):
    """Retire PREFIX et transmet à `port`.

    `keeps_host` : l'en-tête Host est celui du client ; sinon, celui du serveur, comme le fait nginx si l'on n'en dit
    rien. `redirects` : PREFIX sans barre finale l'est vers PREFIX/. `doubled` : une adresse garde deux barres.
    `outside` reçoit ce qui a été demandé hors du préfixe.
    """

    daemon_threads = True

    def __init__(self, port: int, *, keeps_host: bool = True, redirects: bool = True, doubled: bool = False):
        self.port, self.keeps_host, self.redirects, self.doubled = port, keeps_host, redirects, doubled
        self.outside: list[str] = []
        self.dropped: tuple[str, ...] = ()  # en-têtes du serveur que le client ne verra pas
        self.answer: bytes | None = None  # donnée à la place du serveur
        super().__init__(("127.0.0.1", 0), Relay)
        self.url = f"http://127.0.0.1:{self.server_port}{PREFIX}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Un client qui s'en va n'est pas une faute."""


class Relay(BaseHTTPRequestHandler):
    """Une demande, transmise, et sa réponse, à mesure."""

    server: Proxy

    def do_GET(self) -> None:
        inside = self.path.removeprefix(PREFIX)
        if inside == self.path or inside[:1] not in ("", "/"):
            self.server.outside.append(self.path)
            self.send_error(404)
        elif inside == "" and self.server.redirects:
            self.send_response(301)
            self.send_header("Location", f"{PREFIX}/")
            self.end_headers()
        elif self.server.answer is not None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.answer)
        else:
            self._relay(f"/{inside}" if self.server.doubled else inside or "/")

    do_POST = do_GET

    def _relay(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
        if not self.server.keeps_host:
            headers["Host"] = f"127.0.0.1:{self.server.port}"
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(self.command, path, body or None, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                hop = ("transfer-encoding", "connection", "date", "server")
                if key.lower() not in (*hop, *self.server.dropped):
                    self.send_header(key, value)
            self.end_headers()
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Ne dit rien."""
