"""Servir GPT-2 124M (poids tirés au sort) à plusieurs clients : nous, en lot continu ou un par un, et transformers.

    python benchmarks/serve.py --clients 1 4 8 16 --tokens 32

Chaque client envoie une demande en flux, lit tout, et recommence. Les serveurs sont mesurés l'un après l'autre, sur la
même machine, tour après tour. Écrit un tableau : jetons par seconde de tous les clients ensemble, attente du premier
jeton (médiane et 95e centile), mémoire. Il faut l'environnement de « make bench ».
"""

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from gpt_lightning import tokenizers
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.inference import native_bf16

ROOT = Path(__file__).parents[1]
PROMPT = "Il était une fois, dans un pays lointain, un roi qui avait trois filles et pas un sou vaillant, "


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Served:
    """Un serveur, de son lancement à son arrêt."""

    def __init__(self, command: list[str], port: int, model: str) -> None:
        self.port, self.model, began = port, model, time.monotonic()
        env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=env, **quiet)  # type: ignore[call-overload]
        while not self.healthy():
            if self.process.poll() is not None or time.monotonic() - began > 180:
                raise SystemExit(f"{' '.join(command)} ne démarre pas")
            time.sleep(0.02)
        self.seconds = time.monotonic() - began

    def healthy(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def ask(self, tokens: int, seed: int) -> tuple[int, float]:
        """Les jetons d'une demande en flux, et l'attente du premier."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        body = {"model": self.model, "prompt": PROMPT, "max_tokens": tokens, "stream": True, "seed": seed}
        began = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        first = 0.0
        for line in answer:
            if line.startswith(b"data: {") and not first:
                first = time.monotonic() - began
        return tokens, first

    def together(self, clients: int, requests: int, tokens: int) -> tuple[float, list[float]]:
        """Jetons par seconde de `clients` qui envoient `requests` demandes chacun, et l'attente de chaque premier."""
        began = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(lambda seed: self.ask(tokens, seed), range(clients * requests)))
        seconds = time.monotonic() - began
        return sum(count for count, _ in answers) / seconds, [first for _, first in answers]

    def memory(self) -> float:
        """Mo en mémoire."""
        return (
            int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 1e6
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def candidates(folder: Path) -> dict[str, Any]:
    """{nom: ce qui lance le serveur sur un port, et le nom de son modèle}"""
    ours = [sys.executable, "-m", "gpt_lightning", "serve", f"ckpt_path={folder}"]
    theirs = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder), "--device", "cpu"]
    dtypes = ["fp32", "bf16", "int8"] if native_bf16(torch.device("cpu")) else ["fp32"]
    servers: dict[str, Any] = {
        f"nous, {dtype}": (lambda port, d=dtype: [*ours, f"dtype={d}", f"port={port}"], "gpt_lightning")
        for dtype in dtypes
    }
    best = dtypes[-2] if len(dtypes) > 1 else dtypes[0]
    alone = ["max_batch_size=1", f"dtype={best}"]
    servers[f"nous, {best}, un par un"] = (lambda port: [*ours, *alone, f"port={port}"], "gpt_lightning")
    kind = {"fp32": "float32", "bf16": "bfloat16"}[best]
    for title, more in (("", []), (", lot continu", ["--continuous-batching"])):
        servers[f"transformers serve, {best}{title}"] = (
            lambda port, more=more: [*theirs, "--dtype", kind, "--port", str(port), *more],
            str(folder),
        )
    return servers


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    for name, (command, model) in candidates(folder).items():
        if arguments.only and arguments.only not in name:
            continue
        port = free_port()
        try:
            server = Served(command(port), port, model)
            server.ask(4, 0)
            for clients in arguments.clients:
                before = server.memory()
                rates, firsts = [], []
                for _ in range(arguments.rounds):
                    rate, some = server.together(clients, arguments.requests, arguments.tokens)
                    rates.append(rate)
                    firsts += some
                firsts.sort()
                late = firsts[min(len(firsts) - 1, int(0.95 * len(firsts)))]
                more, middle = server.memory() - before, statistics.median(firsts)
                rate = statistics.median(rates)
                row = f"{rate:.1f} | {middle:.2f} | {late:.2f} | {more:+.0f} | {server.seconds:.1f}"
                print(f"| {name} | {clients} | {row} |", flush=True)
            server.stop()
        except (SystemExit, AssertionError, OSError) as error:
            print(f"| {name} | ne répond pas : {str(error)[:80]} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=32, help="jetons de chaque réponse")
    parser.add_argument("--requests", type=int, default=2, help="demandes de chaque client, par tour")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="les serveurs dont le nom contient ceci")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    sizes = {"vocab_size": 50257, "context_length": 1024, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
    model = GPTModel(GPTConfig(**sizes, tie_weights=True, qkv_bias=True, activation="gelu_tanh"))
    print(
        "| serveur | clients | jetons/s | premier jeton, médiane (s) | 95 % (s) | mémoire (Mo) | démarrage (s) |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        export(model, tokenizers.gpt2(), Path(folder) / "gpt2", "hf")
        measure(arguments, Path(folder) / "gpt2")


if __name__ == "__main__":
    main()
