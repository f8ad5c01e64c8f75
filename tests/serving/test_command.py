"""La commande `serve`, comme on la tape : elle écoute, répond comme generate.py, et s'arrête proprement."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from gpt_lightning.commands.serve import api_key
from gpt_lightning.serving import server
from tests.conftest import ROOT, hearing_signals
from tests.resilience.faults import Zygote


@pytest.fixture(scope="module")
def start(forks, cache):
    return Zygote(forks, cache)


class Served:
    """`python -m gpt_lightning serve ...`, sur un port libre."""

    def __init__(self, cwd, *arguments: str, cache, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpt_lightning", "serve", "port=0", *arguments],
            cwd=cwd,
            env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hearing_signals,
        )
        self.said = ""
        while not (found := re.search(r"écoute http://[^ :]+:(\d+) ", self.said)):
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.port = int(found[1])

    def ask(self, path: str, body=None, **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        method = "GET" if body is None else "POST"
        sent = {"Content-Type": "application/json", **headers}
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def stopped(self, signum: int = signal.SIGINT, seconds: float = 20) -> tuple[int, str]:
        self.process.send_signal(signum)
        out, error = self.process.communicate(timeout=seconds)
        assert out == ""
        return self.process.returncode, self.said + error

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_it_answers_as_generate_does_and_stops_with_zero(signum, finished_run, command, cache):
    cwd, *_ = finished_run
    with Served(cwd, cache=cache) as one:
        body = {"prompt": "Le chat", "max_tokens": 8, "seed": 4, "temperature": 0.8, "top_p": 0.9}
        status, answer = one.ask("/v1/completions", body)
        typed = [
            "prompt=Le chat",
            "max_new_tokens=8",
            "seed=4",
            "decoding.temperature=0.8",
            "decoding.top_p=0.9",
        ]
        expected = command("generate.py", *typed, cwd=cwd)
        assert status == 200 and expected.returncode == 0, expected.stderr
        assert "Le chat" + answer["choices"][0]["text"] == expected.stdout.rstrip("\n")
        status, answer = one.ask(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": "le chat"}]}
        )
        assert status == 400 and answer["error"]["code"] == "not_a_chat_model"
        code, said = one.stopped(signum)
        assert code == 0 and "Arrêt" in said and "Traceback" not in said
        assert str(cwd) not in json.dumps(answer)  # rien de cette machine ne sort


def test_ctrl_c_finishes_what_is_being_written(finished_run, cache):
    cwd, *_ = finished_run
    with Served(cwd, cache=cache) as one:
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=60)
        body = {"prompt": "Le chat", "max_tokens": 60, "n": 16, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.readline()
        one.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert answer.read().rstrip().endswith(b"data: [DONE]")
        assert one.process.wait(20) == 0 and time.monotonic() - began < 15


def test_a_second_ctrl_c_waits_for_nothing(finished_run, cache):
    cwd, *_ = finished_run
    with Served(cwd, "shutdown_timeout=60", cache=cache) as one:
        body = {"prompt": "Le chat", "max_tokens": 100, "n": 16, "stream": True}
        asked = [http.client.HTTPConnection("127.0.0.1", one.port, timeout=60) for _ in range(3)]
        for connection in asked:  # la file en a pour longtemps
            connection.request(
                "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
            )
        one.process.send_signal(signal.SIGINT)
        while "Arrêt" not in one.process.stderr.readline():  # il a entendu le premier
            assert one.process.poll() is None
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(15) == 0


def test_a_signal_after_the_end_is_not_a_failure():
    """Ctrl-C deux fois, et le second arrive quand tout est arrêté, ou quand rien n'a commencé."""
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    heard = []

    def ready():
        heard.append(signal.getsignal(signal.SIGINT))
        one.should_exit = True

    one = server.build(lambda *_: None, [], grace=0, ready=ready)
    one.abandon()
    one.force_exit = False
    try:
        server.serve(one, server.listen("127.0.0.1", 0))
        signal.raise_signal(signal.SIGINT)
        heard[0](signal.SIGINT, None)  # reçu juste avant, entendu juste après
    finally:
        for signum, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(signum, handler)


@pytest.mark.slow
def test_a_key_may_come_from_the_environment_or_a_file(finished_run, cache, tmp_path):
    cwd, *_ = finished_run
    (tmp_path / "clé.txt").write_text("sk-fichier\n")
    body = {"prompt": "Le chat", "max_tokens": 1}
    for typed, env, key in (
        ([], {"GPT_LIGHTNING_API_KEY": "sk-environnement"}, "sk-environnement"),
        ([f"api_key_file={tmp_path / 'clé.txt'}", "host=0.0.0.0"], {}, "sk-fichier"),
        (["api_key=sk-visible"], {}, "sk-visible"),
    ):
        with Served(cwd, *typed, cache=cache, **env) as one:
            assert one.ask("/v1/completions", body)[0] == 401
            assert one.ask("/v1/completions", body, Authorization=f"Bearer {key}")[0] == 200
            assert ("se voit dans la liste des processus" in one.said) == ("api_key=sk-visible" in typed)
            assert key not in one.said
            assert one.stopped()[0] == 0


@pytest.mark.parametrize(
    "typed, words",
    [
        (["host=0.0.0.0"], "ouvre ce serveur au réseau"),
        (["host=nulle.part.invalid", "open=true"], "ne se trouve pas"),
        (["host=192.0.2.1", "open=true"], "n'est pas libre"),
        (["port=99999"], "port=99999"),
        (["port=abc"], "port=abc"),
        (["max_batch_size=0"], "max_batch_size=0"),
        (["max_queue=-1"], "max_queue=-1"),
        (["request_timeout=0"], "request_timeout=0"),
        (["shutdown_timeout=-1"], "shutdown_timeout=-1"),
        (["api_key_file=absent"], "api_key_file=absent ne se lit pas"),
        (["api_key='a b'"], "La clé du serveur"),
        (["open=oui"], "open="),
        (["hosts=moi.fr,*"], "hosts=[machine.local]"),
        (["host=localhost:8000"], "host=localhost port=8000"),
        (["host=http://[::1]:80/"], "host=::1 port=80"),
        (["host=[::1]"], "host=::1"),
        (["port=1,2"], "serve n'en prend qu'une"),
        (["cors=5"], "cors=5"),
        (["cors=['*']"], "cors=*"),
        (["cors=[https://exemple.fr/page]"], "cors=[https://exemple.fr]"),
        (["cors=exemple.fr"], "cors=[https://exemple.fr]"),
        (["cors=[localhost:3000]"], "cors=[https://localhost:3000]"),
        (["hosts=[*]"], "hosts=[machine.local]"),
        (["hosts=[a/b]"], "hosts=a/b"),
        (["keep_alive=-1"], "keep_alive=-1"),
        (["behind_proxy=oui"], "behind_proxy=oui"),
        (["name="], "name="),
        (["dtype=fp8"], "dtype=fp8"),
        (["ckpt_path=absent"], "absent"),
        (["temperature=1"], "temperature"),
    ],
    ids=str,
)
def test_a_mistake_gets_one_sentence(typed, words, start, finished_run):
    cwd, *_ = finished_run
    done = start("commands.serve", *typed, cwd=cwd)
    assert done["rc"] == 1 and words in done["said"].strip().splitlines()[-1], done["said"]
    assert "Traceback" not in done["said"]


MARKS = {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}


@pytest.mark.parametrize("encoding", MARKS)
def test_a_key_file_may_have_a_byte_order_mark(encoding, tmp_path, monkeypatch):
    path = tmp_path / "clé.txt"
    path.write_bytes(MARKS[encoding] + "sk-fichier\r\n".encode(encoding))
    assert api_key({"api_key_file": str(path), "api_key": None}) == "sk-fichier"
    monkeypatch.setenv("GPT_LIGHTNING_API_KEY", "\ufeffsk-environnement ")
    assert api_key({"api_key_file": None, "api_key": None}) == "sk-environnement"


@pytest.mark.slow
def test_what_a_proxy_needs(finished_run, cache):
    cwd, *_ = finished_run
    typed = ["hosts=[Machine:8765]", "cors=[https://exemple.fr/]", "behind_proxy=true", "keep_alive=0"]
    body = {"prompt": "Le chat", "max_tokens": 1, "temperature": 1e-8, "top_k": -1, "no_repeat_ngram": 0}
    with Served(cwd, *typed, cache=cache) as one:
        for origin, status in (
            ("https://exemple.fr", 200),
            ("https://machine", 200),
            ("http://machine", 403),
        ):
            headers = {"Host": "machine", "Origin": origin, "X-Forwarded-Proto": "https"}
            assert one.ask("/v1/completions/", body, **headers)[0] == status
        with socket.create_connection(("127.0.0.1", one.port), timeout=60) as line:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while line.recv(65536):  # jusqu'à ce qu'il ferme
                pass


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_before_the_model_is_read(finished_run, command, cache):
    cwd, *_ = finished_run
    with Served(cwd, cache=cache) as one:
        done = command("gpt_lightning", "serve", f"port={one.port}", cwd=cwd)
        assert done.returncode == 1 and f"port={one.port + 1}" in done.stderr


@pytest.mark.slow
def test_nothing_is_left_behind(finished_run, cache, tmp_path):
    cwd, folder, _ = finished_run
    with Served(tmp_path, f"ckpt_path={folder}", cache=cache) as one:
        one.stopped()
    assert list(tmp_path.iterdir()) == []
