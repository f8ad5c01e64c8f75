"""Beaucoup de clients à la fois : chacun reçoit ce qu'il aurait seul, la file est bornée, et rien ne s'accumule."""

import gc
import http.client
import json
import resource
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from gpt_lightning import tokenizers
from gpt_lightning.decoding import Strategy
from gpt_lightning.decoding.batching import Row
from gpt_lightning.serving.choice import Choice
from gpt_lightning.serving.openai.fields import Refused
from gpt_lightning.serving.worker import Job
from tests.serving.live import CONTEXT, SOME, Live, until
from tests.serving.test_protocol import STRATEGIES

LONG = {"prompt": "a", "max_tokens": CONTEXT - 1, "temperature": 1.2, "logprobs": 0}


def bytes_live(**options) -> Live:
    return Live(tokenizers.ByteTokenizer(), **options)


def many(live: Live, bodies: list[dict], path: str = "/v1/completions", clients: int = 64) -> list:
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda body: live.ask(path, body), bodies))


def test_eight_clients_get_what_each_gets_alone():
    """Jeton pour jeton, en float32 : huit stratégies, huit graines, des arrêts, des longueurs."""
    bodies = [
        {"prompt": "Le chat " * (rank + 1), "max_tokens": 40 + rank, "seed": rank, "logprobs": 1, **how}
        for rank, how in enumerate(STRATEGIES)
    ]
    bodies[3]["stop"] = ["e", "z"]
    with bytes_live(rows=1) as live:
        alone = [live.completed(**body) for body in bodies]
    with bytes_live(rows=8) as live:
        for _ in range(3):
            for (status, answer), one in zip(many(live, bodies), alone, strict=True):
                (choice,) = answer["choices"]
                assert status == 200 and choice["logprobs"]["tokens"] == one["logprobs"]["tokens"]
                assert (choice["text"], choice["finish_reason"]) == (one["text"], one["finish_reason"])


def test_two_hundred_clients_are_served_or_told_to_come_back():
    with bytes_live(rows=4, queue=20) as live, ThreadPoolExecutor(200) as pool:
        live.gate.hold()

        def clients(ranks: range) -> list[Future]:
            bodies = [{"prompt": "x", "max_tokens": 20, "seed": rank} for rank in ranks]
            return [pool.submit(live.ask, "/v1/completions", body) for body in bodies]

        asked = clients(range(1))
        until(lambda: live.worker.running)
        asked += clients(range(1, 4))
        until(lambda: len(live.worker.waiting) == 3)
        live.gate.let(1)  # les quatre lignes sont prises
        until(lambda: len(live.worker.running) == 4)
        asked += clients(range(4, 200))
        until(lambda: sum(one.done() for one in asked) == 176)  # vingt attendent, et tous les autres savent
        live.gate.open()
        found = [one.result(60) for one in asked]
        served = [answer for status, answer in found if status == 200]
        refused = [answer for status, answer in found if status == 429]
        assert len(served) + len(refused) == 200 and len(served) >= 24 and refused
        assert all(answer["error"]["code"] == "queue_full" for answer in refused)
        assert live.completed(prompt="x", max_tokens=3, seed=0)  # et le serveur va bien
        assert not live.worker.waiting and not live.worker.running


def test_a_full_queue_says_when_to_come_back():
    with bytes_live(rows=1, queue=1, grace=0) as live:
        live.gate.hold()
        streams = [threading.Thread(target=live.ask, args=("/v1/completions", LONG)) for _ in "ab"]
        streams[0].start()
        until(lambda: live.worker.running)
        streams[1].start()
        until(lambda: live.worker.waiting)
        status, _ = live.ask("/v1/completions", LONG)
        assert status == 429 and live.headers["retry-after"] == "1"
        live.server.should_exit = True  # et l'on n'attend pas la fin
        live.gate.open()
        for one in streams:
            one.join(30)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("waits", [False, True], ids=["en cours", "en attente"])
def test_a_client_that_leaves_frees_its_row(stream, waits):
    with bytes_live(rows=1) as live:
        live.gate.hold()
        leaving = []
        for _ in range(1 + waits):
            one = http.client.HTTPConnection("127.0.0.1", live.port)
            body = json.dumps({**LONG, "stream": stream})
            one.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            until(lambda: live.worker.running)
            leaving.append(one)
        if waits:
            until(lambda: live.worker.waiting)
        jobs = [*live.worker.running, *live.worker.waiting]
        for one in reversed(leaving):
            one.sock.close()
        until(lambda: all(job.cancelled for job in jobs))
        live.gate.open()
        until(lambda: not live.worker.running and not live.worker.waiting)
        assert live.worker.batch.free == 1
        assert live.completed(prompt="b", max_tokens=5, seed=1)["finish_reason"] == "length"


def test_a_request_has_its_time_and_no_more():
    with bytes_live(rows=1, seconds=600) as live, ThreadPoolExecutor(1) as pool:
        live.gate.hold()
        asked = pool.submit(live.ask, "/v1/completions", LONG)
        until(lambda: live.worker.running)
        (job,) = live.worker.running
        assert 500 < job.deadline - time.monotonic() <= 600
        job.deadline = time.monotonic()  # tenu plus longtemps qu'il n'a
        live.gate.open()
        status, answer = asked.result(30)
        assert status == 504 and answer["error"]["code"] == "timeout"
        live.gate.hold(after=SOME)
        events = live.events("/v1/completions", {**LONG, "seed": 0})
        next(events)
        (job,) = live.worker.running
        job.deadline = time.monotonic()
        live.gate.open()
        assert list(events)[-1]["error"]["code"] == "timeout"  # commencé, il le dit dans le flux
        assert live.worker.batch.free == 1


def test_a_question_of_the_page_is_answered_between_two_tokens():
    with bytes_live(rows=1) as live, ThreadPoolExecutor(1) as pool:
        live.gate.hold(after=SOME)
        writing = live.events("/v1/completions", {**LONG, "seed": 0})
        next(writing)
        asked = pool.submit(live.ask, "/api/next", {"text": "abc"})
        until(lambda: asked.done() or live.worker.waiting)
        live.gate.let(2)  # la fin d'un pas, et la question
        status, answer = asked.result(30)
        assert status == 200 and live.worker.running  # l'autre écrit encore
        writing.close()


@pytest.mark.parametrize("writing", [0, 3])
def test_questions_that_wait_together_are_all_answered(writing):
    """Plusieurs onglets, un banc d'essai : des fonctions à appeler attendent, avec des textes à écrire."""
    with Live(tokenizers.gpt2(), rows=2) as one, ThreadPoolExecutor(12) as pool:
        one.gate.hold()
        held = pool.submit(one.ask, "/v1/completions", {"prompt": "a", "max_tokens": 1})
        until(lambda: one.worker.running)  # le fil est tenu : tout ce qui suit attend
        texts = [
            pool.submit(one.ask, "/v1/completions", {"prompt": "a", "max_tokens": 2}) for _ in range(writing)
        ]
        asked = [
            pool.submit(one.ask, path, {"text": "le chat"})
            for path in ("/api/next", "/api/score", "/api/next", "/api/attention")
        ]
        echoed = {"prompt": "le chat", "max_tokens": 0, "echo": True, "logprobs": 1}
        asked += [pool.submit(one.ask, "/v1/completions", echoed) for _ in range(3)]
        until(lambda: len(one.worker.waiting) == writing + 7)
        one.gate.open()
        assert [job.result(30)[0] for job in (held, *texts, *asked)] == [200] * (writing + 8)
        assert one.worker.is_alive and one.ask("/health", method="GET")[0] == 200


def test_a_server_whose_thread_is_dead_is_not_healthy():
    with Live(tokenizers.gpt2()) as one:
        one.worker.close(0)
        one.worker.join(30)
        assert one.ask("/health", method="GET")[0] == 503


def test_stopping_finishes_what_is_being_written_and_refuses_the_rest():
    with bytes_live(rows=1, grace=600) as live, ThreadPoolExecutor(3) as pool:
        live.gate.hold()
        running = pool.submit(live.ask, "/v1/completions", LONG)
        until(lambda: live.worker.running)
        waiting = pool.submit(live.ask, "/v1/completions", LONG)
        until(lambda: live.worker.waiting)
        live.server.should_exit = True
        status, answer = waiting.result(30)
        assert status == 503 and answer["error"]["code"] == "shutting_down"
        live.gate.open()
        status, answer = running.result(30)
        assert status == 200 and answer["usage"]["completion_tokens"] == CONTEXT - 1
        live.thread.join(10)
        assert not live.thread.is_alive()


def test_stopping_waits_no_longer_than_it_says():
    with bytes_live(rows=1, grace=0.3) as live, ThreadPoolExecutor(2) as pool:
        live.server.config.timeout_graceful_shutdown = None  # uvicorn ne coupe rien avant nous
        live.gate.hold()
        running = pool.submit(live.ask, "/v1/completions", LONG)
        until(lambda: live.worker.running)
        live.server.should_exit = True
        until(lambda: live.worker._closing is not None and time.monotonic() > live.worker._closing)
        live.gate.let(1)  # la fin du pas, et le texte en est loin de la sienne
        status, answer = running.result(30)
        assert status == 503 and answer["error"]["code"] == "shutting_down"
        live.thread.join(10)
        assert not live.thread.is_alive()


def test_many_prompts_of_one_client_let_the_others_through():
    with bytes_live(rows=2) as live, ThreadPoolExecutor(3) as pool:
        live.gate.hold()
        body = {"prompt": ["a"] * 100, "max_tokens": 60}
        many = pool.submit(live.ask, "/v1/completions", body)
        until(lambda: live.worker.running)
        asked = pool.submit(live.ask, "/api/next", {"text": "abc"})
        completed = pool.submit(live.completed, prompt="b", max_tokens=3)
        until(lambda: len(live.worker.waiting) == 3)  # ses autres textes, et ces deux-là
        live.gate.let(1000)  # il lui en faut trois mille
        assert asked.result(60)[0] == 200
        assert completed.result(60)["finish_reason"] == "length"
        assert not many.done()  # ils n'ont pas attendu sa fin
        live.gate.open()
        assert many.result(60)[0] == 200


def test_a_sequence_that_fails_fails_alone(caplog):
    """Un filtre ou un texte qui échoue n'emporte ni les autres suites, ni le serveur."""
    with bytes_live(rows=4) as live, ThreadPoolExecutor(4) as pool:
        live.gate.hold()
        good = [pool.submit(live.ask, "/v1/completions", {**LONG, "seed": rank}) for rank in range(2)]
        until(lambda: len(live.worker.running | set(live.worker.waiting)) == 2)
        decode = live.tokenizer.decode
        live.tokenizer.decode = lambda ids: 1 / 0 if list(ids[:2]) == [98, 99] else decode(ids)
        live.gate.let(SOME)  # ils s'écrivent encore quand celle-ci a échoué
        status, answer = live.ask("/api/continue", {"text": [98, 99]})
        assert status == 500 and answer["error"]["code"] == "internal_error"
        live.tokenizer.decode = decode
        live.gate.open()
        strategy = Strategy(top_k=3)
        object.__setattr__(strategy, "top_k", "trois")
        row = Row([97], strategy, 5)
        failed: list = []
        live.worker.submit(
            Job(failed.append, deadline=time.monotonic() + 9, choices=[[Choice(0, row, decode)]])
        )
        until(lambda: failed)
        assert isinstance(failed[0], Refused) and failed[0].status == 500
        assert [one.result(60)[0] for one in good] == [200, 200] and "ZeroDivision" in caplog.text


def test_a_fault_of_the_server_is_a_500_and_it_goes_on(monkeypatch, caplog):
    with bytes_live() as live:
        monkeypatch.setattr(live.worker.batch, "_read", lambda *_: 1 / 0)
        status, answer = live.ask("/v1/completions", {"prompt": "a"})
        assert status == 500 and answer["error"]["type"] == "server_error"
        assert "ZeroDivisionError" not in answer["error"]["message"]  # dans le journal, pas chez le client
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.undo()
        assert live.completed(prompt="a", max_tokens=3)["finish_reason"] == "length"


@pytest.mark.slow  # deux mille demandes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="lit /proc")
def test_memory_is_flat_over_two_thousand_requests():
    with bytes_live(rows=8) as live:
        bodies = [
            {
                "prompt": "x" * (rank % 60 + 1),
                "max_tokens": rank % 7,
                "seed": rank,
                "n": rank % 3 + 1,
                "logprobs": 2,
            }
            for rank in range(250)
        ]

        def turn(times: int) -> int:
            for _ in range(times):
                assert {status for status, _ in many(live, bodies, clients=16)} == {200}
                for body in bodies[:10]:
                    list(live.events("/v1/completions", body))
            gc.collect()
            return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

        first, kept = turn(6), len(gc.get_objects())  # ce que chaque fil garde une fois est là
        assert turn(8) - first < 40e6
        assert len(gc.get_objects()) - kept < 500
        assert not live.worker.running and not live.worker.waiting and not live.worker._owner
