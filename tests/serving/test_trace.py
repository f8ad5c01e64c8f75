"""L'onglet « D'où vient-ce » : ce que la route répond, à qui, et ce que la page en montre dans un vrai Chromium."""

import http.client
import json
import threading
import time

import pytest

from gpt_lightning import tokenizers
from gpt_lightning.commands.serve import is_private
from gpt_lightning.errors import Stopped, UserError
from tests.conftest import TEXT
from tests.serving.live import Live
from tests.serving.test_command import Served
from tests.serving.test_page import Seen, browser  # noqa: F401

JSON = {"Content-Type": "application/json"}
LOCAL = {"behind_proxy": False, "hosts": None, "cors": None}


@pytest.mark.parametrize(
    "settings, key, local, private",
    [
        ({}, None, True, True),
        ({}, None, False, False),
        ({"behind_proxy": True}, None, True, False),
        ({"hosts": ["exemple.fr"]}, None, True, False),
        ({"cors": ["https://exemple.fr"]}, None, True, False),
        ({"behind_proxy": True, "cors": ["https://exemple.fr"]}, "sk-x", False, True),
    ],
)
def test_the_corpus_is_only_for_this_machine_or_who_has_the_key(settings, key, local, private):
    assert is_private({**LOCAL, **settings}, key, local) == private


def test_a_closed_corpus_is_said():
    with Live(tokenizers.gpt2()) as one:
        status, body = one.ask("/api/trace", {"text": "le chat"})
        assert status == 403 and "corpus_closed" in str(body)


def test_what_the_route_reads_and_refuses():
    def explain(text: str, least: int | None, is_stopped) -> dict:
        if text == "absent":
            raise UserError("Le corpus n'est plus là.")
        return {"share": 0.5, "covered": 0.5, "passages": [], "least": least, "shown": least}

    with Live(tokenizers.gpt2(), explain=explain) as one:
        status, body = one.ask("/api/trace", {"text": "l'été"})
        assert status == 200 and "0.5" in str(body)
        assert one.ask("/api/trace", {"text": "a", "least": 4})[1]["least"] == 4
        assert one.ask("/api/trace", {"text": "a", "least": 0})[0] == 400
        for text in (None, 3, [1, 2], "a" * 30_000, "absent"):
            status, body = one.ask("/api/trace", {"text": text})
            assert status == 400 and "Traceback" not in str(body), text
        assert "plus là" in str(body)


def test_a_search_that_nobody_waits_for_stops_and_no_other_request_waits():
    began, stopped = threading.Event(), threading.Event()

    def explain(text: str, least: int | None, is_stopped) -> dict:
        if text == "longue":
            began.set()
            while not is_stopped():
                time.sleep(0.001)
            stopped.set()
            raise Stopped
        return {"passages": []}

    with Live(tokenizers.gpt2(), explain=explain) as one:
        leaving = [http.client.HTTPConnection("127.0.0.1", one.port, timeout=60) for _ in range(4)]
        for connection in leaving:
            connection.request("POST", "/api/trace", json.dumps({"text": "longue"}), JSON)
        assert began.wait(30)
        assert one.ask("/api/tokens", {"text": "le chat"})[0] == 200  # les autres n'attendent pas
        for connection in leaving:
            connection.close()
        assert stopped.wait(30)
        assert one.ask("/api/trace", {"text": "courte"})[0] == 200


def test_a_search_has_its_time_and_no_more():
    def explain(text: str, least: int | None, is_stopped) -> dict:
        while not is_stopped():
            time.sleep(0.001)
        raise Stopped

    with Live(tokenizers.gpt2(), explain=explain, seconds=0.1) as one:
        status, body = one.ask("/api/trace", {"text": "longue"})
        assert status == 504 and "pris plus de temps" in str(body)


@pytest.fixture(scope="module")
def served(finished_run, cache):
    with Served(finished_run[0], cache=cache) as one:
        yield one


def test_the_page_shows_where_a_passage_comes_from(browser, served):  # noqa: F811
    text = "le chien veille, et la nuit 😀 passe. Il était une fois un loup"
    with Seen(browser, f"http://127.0.0.1:{served.port}/") as page:
        page.click("#tab-trace")
        page.fill("#text", text)
        page.fill("#least", "2")
        page.locator("#traced", has_text=text).wait_for()
        assert "%" in page.locator("#share-copied").text_content()
        status, result = served.ask("/api/trace", {"text": text, "least": 2})
        assert status == 200
        shown = page.locator("#traced button").all_text_contents()
        assert shown == [passage["text"] for passage in result["passages"]] and shown
        page.locator("#traced button").first.click()
        origin = page.locator("#origin").text_content()
        assert shown[0] in TEXT and shown[0] in origin and "document 1" in origin
        assert page.locator("#origin mark").text_content() == shown[0]
        assert page.locator("#settings").is_hidden()


@pytest.mark.slow
def test_corpus_false_closes_the_tab(browser, finished_run, cache):  # noqa: F811
    with (
        Served(finished_run[0], "corpus=false", cache=cache) as one,
        Seen(browser, f"http://127.0.0.1:{one.port}/") as page,
    ):
        assert page.locator("#tab-trace").is_hidden()
        assert one.ask("/api/trace", {"text": "le chat"})[0] == 403
