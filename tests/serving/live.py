"""Un serveur vivant dans un fil de ces essais, et de quoi lui parler comme un client."""

import asyncio
import contextlib
import http.client
import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gpt_lightning import tokenizers
from gpt_lightning.decoding.prefixes import PrefixCache
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.fast.inference import for_inference
from gpt_lightning.serving import app, guard, playground, server, worker
from gpt_lightning.serving.openai import request
from gpt_lightning.tokenizers.template import Template

CONTEXT = 128
SOME = 64  # passes : assez pour que l'on voie un texte s'écrire, trop peu pour le finir


def tiny(vocab_size: int, context: int = CONTEXT, *, dtype: torch.dtype = torch.float32) -> GPTModel:
    """Un petit modèle, dont les distributions ne sont pas plates."""
    torch.manual_seed(0)
    sizes = {"context_length": context, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    one = GPTModel(GPTConfig(vocab_size=vocab_size, **sizes))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(3 if parameter.dim() == 2 else 1)
        one.final_norm.scale.mul_(10)
    return for_inference(one.to(dtype))


class Gate:
    """Retient le fil du modèle avant chaque passe : `hold` l'arrête, `let` lui en laisse quelques-unes, `open` toutes.

    Un texte qui ne peut pas finir ne court contre aucune horloge.
    """

    def __init__(self, model: GPTModel) -> None:
        self._changed, self._left = threading.Condition(), math.inf
        passes = model.next_logits

        def next_logits(*arguments: Any, **options: Any) -> torch.Tensor:
            with self._changed:
                self._changed.wait_for(lambda: self._left > 0)
                self._left -= 1
            return passes(*arguments, **options)

        model.next_logits = next_logits

    def hold(self, after: int = 0) -> None:
        """Ne laisse plus que `after` passes."""
        with self._changed:
            self._left = after

    def let(self, passes: float) -> None:
        """Laisse `passes` passes de plus."""
        with self._changed:
            self._left += passes
            self._changed.notify_all()

    def open(self) -> None:
        """Ne retient plus rien."""
        self.let(math.inf)


class Live:
    """Un serveur qui écoute un port libre de cette machine ; `gate` retient son modèle."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        model: GPTModel | None = None,
        template: str | None = None,
        rows: int = 8,
        **limits: Any,
    ) -> None:
        self.tokenizer = tokenizer
        self.model = model or tiny(tokenizer.vocab_size)
        self.gate = Gate(self.model)
        made = Template(template, tokenizer) if template else None
        context = self.model.config.context_length
        known = request.ServedModel("gpt_lightning", tokenizer, context, rows, made)
        config = self.model.config
        shape = playground.Shape(
            config.n_layers,
            config.n_heads,
            config.vocab_size,
            1234,
            limits.pop("prompt", ""),
            limits.pop("command", "python"),
            limits.pop("other", None),
            corpus=limits.get("explain") is not None,
        )
        prefixes = PrefixCache(self.model, limits.pop("prefix_cache_mb", 64) * 1_000_000)
        self.worker = worker.Worker(self.model, rows=rows, queue=limits.pop("queue", 64), prefixes=prefixes)
        seconds, explain = limits.pop("seconds", 60), limits.pop("explain", None)
        self.service = app.Service(known, self.worker, shape, seconds=seconds, explain=explain)
        second = limits.pop("second", None)
        self.second = None if second is None else second.service
        self.workers = [self.worker, *([] if second is None else [second.worker])]
        self.grace = limits.pop("grace", 2.0)
        options = {name: limits.pop(name) for name in ("keep_alive",) if name in limits}
        rules = guard.access_rules(
            "127.0.0.1", limits.pop("hosts", None), limits.pop("origins", ()), **limits
        )
        self.sock = server.listen("127.0.0.1", 0)
        self.server = server.build(
            self.service.app(rules, self.second), self.workers, grace=self.grace, **options
        )
        self.port = self.sock.getsockname()[1]
        self.url = server.address_of(self.sock)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self.sock])))

    def __enter__(self) -> "Live":
        for thread in self.workers:
            thread.start()
        self.thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.should_exit = True
        self.gate.open()
        self.thread.join(30)
        for thread in self.workers:
            thread.join(30)
        assert not self.thread.is_alive()

    def ask(
        self, path: str, body: Any = None, *, method: str = "POST", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Le code et le corps (l'objet JSON, si c'en est un) de la réponse à `body`, des octets ou un objet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        with contextlib.closing(connection):
            connection.request(method, path, raw, sent)
            answer = connection.getresponse()
            content = answer.read()
            self.headers = dict(answer.getheaders())
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, content.decode()

    def completed(self, **body: Any) -> dict[str, Any]:
        """La première suite d'une demande qui réussit."""
        status, answer = self.ask("/v1/completions", body)
        assert status == 200, answer
        return answer["choices"][0]

    def events(self, path: str, body: dict[str, Any]) -> Iterator[Any]:
        """Les objets d'un flux, et « [DONE] »."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(
                "POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            assert answer.status == 200 and answer.getheader("content-type").startswith("text/event-stream")
            for line in answer:
                if line.startswith(b"data: "):
                    data = line.removeprefix(b"data: ").decode().strip()
                    yield data if data == "[DONE]" else json.loads(data)

    def raw(self, content: bytes, *, closes: bool = True) -> bytes:
        """Ce que le serveur répond à ces octets-là, jusqu'à ce qu'il ferme ; sans `closes`, une réponse suffit."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as one:
            found = b""
            with contextlib.suppress(ConnectionError):  # il peut fermer avant d'avoir tout lu
                one.sendall(content)
                while part := one.recv(65536):
                    found += part
                    if not closes and _is_whole(found):
                        break
            return found


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    size = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return size is not None and len(body) >= int(size[1])


def gpt2_live(**options: Any) -> Live:
    """Un serveur dont le tokenizer est celui de GPT-2, et qui répond.

    Cinquante mille jetons tirés au sort en float32 : les arrondis en changent un, parfois. D'où float64.
    """
    model = tiny(50_257, dtype=torch.float64)
    return Live(tokenizers.gpt2(), model=model, template="texte", **options)


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Attend que `true()` le soit."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "trop long"
        time.sleep(0.005)
