"""La porte : rien d'ailleurs n'entre, rien de malformé ne casse, rien de lent ne retient le serveur."""

import json
import re
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import tokenizers
from gpt_lightning.cli.composition import compose
from gpt_lightning.errors import UserError
from gpt_lightning.serving import addresses, guard, replies, server
from gpt_lightning.serving.openai.fields import Refused, parse
from tests.serving.live import Live

ROUTES = (
    "/v1/completions",
    "/v1/chat/completions",
    "/api/next",
    "/api/score",
    "/tokenize",
    "/detokenize",
)
KEY = "sk-une-clé".replace("é", "e")


@pytest.fixture(scope="module")
def live():
    with Live(tokenizers.ByteTokenizer(), template="texte", max_body=20_000) as one:
        yield one


@pytest.mark.parametrize(
    "headers, status, code",
    [
        ({"Host": "evil.example"}, 403, "host_not_allowed"),
        ({"Host": "evil.example:8000"}, 403, "host_not_allowed"),
        ({"Host": "127.0.0.1.evil.example"}, 403, "host_not_allowed"),
        ({"Host": ""}, 403, "host_not_allowed"),
        ({"Host": "localhost:1234"}, 200, None),
        ({"Host": "LOCALHOST"}, 200, None),
        ({"Host": "[::1]:8000"}, 200, None),
        ({"Origin": "http://evil.example"}, 403, "origin_not_allowed"),
        ({"Origin": "null"}, 403, "origin_not_allowed"),
        ({"Origin": "http://localhost:1", "Host": "localhost:2"}, 403, "origin_not_allowed"),
        ({"Origin": "http://localhost:2", "Host": "localhost:2"}, 200, None),
        # un proxy a changé Host : le navigateur, lui, sait que la page vient de là où elle écrit
        ({"Origin": "https://exemple.fr", "Sec-Fetch-Site": "same-origin"}, 200, None),
        ({"Origin": "https://exemple.fr", "Sec-Fetch-Site": "same-site"}, 403, "origin_not_allowed"),
        ({"Origin": "http://a.fr", "Sec-Fetch-Site": "same-origin", "Host": "a.fr"}, 403, "host_not_allowed"),
        ({"Content-Type": "text/plain"}, 415, None),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, None),
        ({"Content-Type": "application/json; charset=utf-8"}, 200, None),
        ({"Content-Encoding": "identity"}, 200, None),
        ({"Content-Encoding": "gzip"}, 415, None),
        ({"Content-Encoding": "identity, br"}, 415, None),
        ({"Host": "localhost.:8000"}, 200, None),
    ],
    ids=str,
)
def test_who_may_ask(headers, status, code, live):
    found, answer = live.ask("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers=headers)
    assert found == status, answer
    if status != 200:
        assert answer["error"]["code"] == code and answer["error"]["message"]


def test_no_page_of_elsewhere_reads_an_answer(live):
    live.ask("/v1/models", method="GET")
    assert not any(name.lower().startswith("access-control") for name in live.headers)
    status, _ = live.ask("/v1/completions", method="OPTIONS", headers={"Origin": "http://evil.example"})
    assert status == 403


def test_a_page_that_is_named_may_ask():
    page = "https://exemple.fr"
    with Live(tokenizers.ByteTokenizer(), origins=(page,)) as live:
        asks = {"Origin": page, "Access-Control-Request-Method": "POST"}
        asks["Access-Control-Request-Headers"] = (
            "authorization,content-type,x-stainless-lang"  # le client de JavaScript
        )
        status, _ = live.ask("/v1/completions", method="OPTIONS", headers=asks)
        assert status == 200 and live.headers["access-control-allow-origin"] == page
        status, _ = live.ask("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers={"Origin": page})
        assert status == 200 and live.headers["access-control-allow-origin"] == page
        status, _ = live.ask("/v1/completions", {"prompt": "a"}, headers={"Origin": "https://autre.fr"})
        assert status == 403


def test_a_page_that_is_named_may_ask_from_the_internet():
    """Chrome demande d'abord si une page d'Internet peut écrire à un serveur du réseau privé."""
    page, asks = "https://exemple.fr", {"Access-Control-Request-Method": "POST"}
    asks["Access-Control-Request-Private-Network"] = "true"
    with Live(tokenizers.ByteTokenizer(), origins=(f"{page}/",)) as live:
        assert live.ask("/v1/completions", method="OPTIONS", headers={"Origin": page, **asks})[0] == 200
        assert live.headers["access-control-allow-private-network"] == "true"
        status, _ = live.ask(
            "/v1/completions", method="OPTIONS", headers={"Origin": "https://autre.fr", **asks}
        )
        assert status == 400 and "access-control-allow-origin" not in live.headers


def test_a_compressed_body_is_told_which_header_to_drop(live):
    _, answer = live.ask("/v1/completions", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert "Content-Encoding: gzip" in answer["error"]["message"]
    assert live.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("slashes", ["/{}/", "/{}//", "//{}"])
def test_a_slash_too_many_is_no_other_route_and_no_redirection(slashes, live):
    for route in ("health", "metrics", "v1/models", "v1/models/gpt_lightning", "api/model", "page/app.js"):
        assert live.ask(slashes.format(route), method="GET") == live.ask(f"/{route}", method="GET") or (
            route == "metrics"
        )
    for route in ("v1/completions", "api/tokens"):
        body = {"prompt": "a", "max_tokens": 1} if route.startswith("v1") else {"text": "a"}
        assert live.ask(slashes.format(route), body)[0] == 200
    assert 'route="/v1/completions",status="200"' in live.ask("/metrics/", method="GET")[1]


def test_a_slash_too_many_opens_no_door():
    with Live(tokenizers.ByteTokenizer(), key=KEY) as live:
        assert live.ask("/health/", method="GET")[0] == 200
        for path in ("/v1/models/", "//v1/models", "/metrics/", "/health/../metrics", "/page/../metrics"):
            assert live.ask(path, method="GET")[0] in (401, 404), path


def test_a_body_may_have_a_byte_order_mark(live):
    assert live.ask("/v1/completions", b'\xef\xbb\xbf{"prompt": "a", "max_tokens": 1}')[0] == 200


@pytest.mark.parametrize(
    "said, origin, status",
    [
        ({}, "http", 200),
        ({}, "https", 200),
        ({"X-Forwarded-Proto": "https"}, "https", 200),
        ({"X-Forwarded-Proto": "https"}, "http", 403),
        ({"X-Forwarded-Proto": "HTTPS, http"}, "https", 200),
        ({"X-Forwarded-Proto": "http"}, "https", 403),
        ({"X-Forwarded-Proto": "autre"}, "https", 200),
    ],
    ids=str,
)
def test_a_proxy_says_the_scheme(said, origin, status, live, proxied):
    headers = {"Host": "machine:8443", "Origin": f"{origin}://machine:8443", **said}
    body = {"prompt": "a", "max_tokens": 1}
    assert proxied.ask("/v1/completions", body, headers=headers)[0] == status
    headers |= {"Host": "localhost:1", "Origin": f"{origin}://localhost:1"}
    assert live.ask("/v1/completions", body, headers=headers)[0] == 200  # sans behind_proxy, il n'est pas cru


@pytest.fixture(scope="module")
def proxied():
    with Live(tokenizers.ByteTokenizer(), hosts=["machine:8443"], behind_proxy=True) as one:
        yield one


def test_a_connection_waits_as_long_as_told(live):
    assert live.server.config.timeout_keep_alive == 75 == compose("serve")["keep_alive"]
    with Live(tokenizers.ByteTokenizer(), keep_alive=0) as hurried:
        answer = hurried.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")  # lue jusqu'à ce qu'il ferme
        assert answer.endswith(b'{"status":"ok"}')


LINE_ENDS = [char for char in map(chr, range(0x110000)) if len(f"a{char}b".splitlines()) > 1]


def test_an_event_is_one_line_for_every_reader():
    text = "a".join(LINE_ENDS)
    for line in (replies.event({"text": text, text: 1}),):
        first, blank = line.splitlines()
        assert blank == "" and json.loads(first.removeprefix("data: ")) == {"text": text, text: 1}
    assert "é" in replies.event({"text": "é"})


HOSTS = {
    "machine:8765": "machine",
    "Machine.Local": "machine.local",
    "machine.local.": "machine.local",
    " machine ": "machine",
    "http://machine:8765/": "machine",
    "192.168.1.2:80": "192.168.1.2",
    "[FE80::0:1]:8000": "fe80::1",
    "fe80::1": "fe80::1",
    "été.fr": "xn--t-9fab.fr",
    "ma_machine": "ma_machine",
}
ORIGINS = {
    "https://exemple.fr/": "https://exemple.fr",
    "HTTPS://Exemple.FR": "https://exemple.fr",
    "https://exemple.fr:443": "https://exemple.fr",
    "http://exemple.fr:80/": "http://exemple.fr",
    "http://exemple.fr:443": "http://exemple.fr:443",
    "http://localhost:3000/": "http://localhost:3000",
    " http://[::1]:3000 ": "http://[::1]:3000",
    "https://été.fr": "https://xn--t-9fab.fr",
}


def test_hosts_and_origins_are_read_as_a_browser_sends_them():
    for typed, sent in HOSTS.items():
        assert addresses.read_host(typed) == sent == addresses.read_host(sent)
        assert guard.access_rules("127.0.0.1", [typed], ()).hosts[-1] == sent
        assert addresses.hostname(f"[{sent}]:1" if ":" in sent else f"{sent}:1") == sent
    for typed, sent in ORIGINS.items():
        assert addresses.read_origin(typed) == sent == addresses.read_origin(sent)


@pytest.mark.parametrize(
    "read, typed, words",
    [
        (addresses.read_host, "*", r"hosts=\*.*hosts=\[machine.local\].*sans hosts="),
        (addresses.read_host, "*.exemple.fr", "sans hosts="),
        (addresses.read_host, "", "hosts=\\[machine.local"),
        (addresses.read_host, "192.168.1.0/24", "hosts=\\[machine.local"),
        (addresses.read_host, "a b", "hosts=\\[machine.local"),
        (addresses.read_host, "machine:port", "hosts=\\[machine.local"),
        (addresses.read_host, "moi@machine", "hosts=\\[machine.local"),
        (addresses.read_origin, "exemple.fr", r"cors=\[https://exemple.fr\]"),
        (addresses.read_origin, "localhost:3000", r"cors=\[https://localhost:3000\]"),
        (addresses.read_origin, "http://exemple.fr/page", r"cors=\[http://exemple.fr\]"),
        (addresses.read_origin, "https://Autre.fr/?q=1", r"cors=\[https://autre.fr\]"),
        (addresses.read_origin, "https://*.exemple.fr", r"cors=\[https://exemple.fr\]"),
        (addresses.read_origin, "*", r"cors=\[https://exemple.fr\]"),
        (addresses.read_origin, "null", r"cors=\[https://"),
        (addresses.read_origin, "file:///page.html", r"cors=\[https://exemple.fr\]"),
        (addresses.read_origin, "https://", r"cors=\[https://exemple.fr\]"),
        (addresses.read_origin, "http://a:99999", r"cors=\[https://exemple.fr\]"),
    ],
)
def test_what_no_browser_sends_is_refused_with_what_to_type(read, typed, words):
    with pytest.raises(UserError, match=words) as seen:
        read(typed)
    assert "\n" not in str(seen.value)
    for advised in re.findall(r"(?:cors|hosts)=\[(.*?)\]", str(seen.value)):
        assert read(advised) == advised


@given(st.text(max_size=12) | st.text("ab.:/[]@*-%1é ", max_size=12))
def test_any_text_is_an_address_or_a_refusal(text):
    for read in (addresses.read_host, addresses.read_origin):
        try:
            sent = read(text)
        except UserError as error:
            assert str(error)
            continue
        assert read(sent) == sent and "*" not in sent


def test_a_key_closes_everything_but_the_door_bell():
    with Live(tokenizers.ByteTokenizer(), key=KEY) as live:
        good = {"Authorization": f"Bearer {KEY}"}
        for route in ROUTES:
            for headers in (
                {},
                {"Authorization": KEY},
                {"Authorization": "Bearer "},
                {"Authorization": f"Bearer {KEY}x"},
            ):
                status, answer = live.ask(route, {}, headers=headers)
                assert status == 401 and answer["error"]["code"] == "invalid_api_key"
                assert live.headers["www-authenticate"] == "Bearer"
        for route in ("/v1/models", "/metrics", "/tokenizer_info", "/nulle/part"):
            assert live.ask(route, method="GET")[0] == 401
        assert live.ask("/metrics", method="GET", headers=good)[0] == 200
        assert live.ask("/health", method="GET")[0] == 200
        assert live.ask("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers=good)[0] == 200


def test_a_host_on_the_network_takes_any_name_or_those_given():
    assert guard.access_rules("0.0.0.0", None, ()).hosts is None
    assert "moi.fr" in guard.access_rules("0.0.0.0", ["Moi.fr"], ()).hosts
    assert guard.access_rules("127.0.0.1", None, ()).hosts == (*guard.LOOPBACK, "127.0.0.1")
    assert guard.is_loopback("127.0.0.2") and not guard.is_loopback("192.168.1.2")


DEEP = b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}"
MALFORMED = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"5",
    b'"texte"',
    b"\xff\xfe\x00",
    b'{"prompt": "\xe9"}',
    b'{"prompt": "a",}',
    b"{'prompt': 'a'}",
    b'{"prompt": NaN}',
    b'{"temperature": NaN}',
    b'{"temperature": Infinity}',
    b'{"temperature": -Infinity}',
    b'{"temperature": 1e999}',
    b'{"temperature": -1e999}',
    b'{"max_tokens": 1e999}',
    b'{"max_tokens": ' + b"9" * 400 + b"}",
    b'{"max_tokens": ' + b"9" * 5000 + b"}",
    b'{"seed": ' + b"9" * 400 + b"}",
    b'{"n": -' + b"9" * 400 + b"}",
    b'{"prompt": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"stop": ["\\udfff"]}',
    b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
    DEEP,
    b'{"prompt": ' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}",
    b'{"prompt": [' + b"[1]," * 200 + b"[1]]}",
    b'{"prompt": [1.5]}',
    b'{"prompt": [true, false]}',
    b'{"prompt": {"role": "user"}}',
    b'{"stream": "yes"}',
    b'{"logprobs": [1]}',
    b'{"stop": {"a": 1}}',
    b'{"stop": [null]}',
    b'{"model": ["gpt_lightning"]}',
    b'{"model": "../../etc/passwd"}',
    b'{"top_k": "5"}',
    b'{"top_k": [5]}',
    b'{"min_p": {}}',
    b'{"user": 5}',
    b'{"stream_options": true}',
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[:30]))
@pytest.mark.parametrize("route", ROUTES)
def test_a_malformed_body_is_a_400_and_nothing_worse(route, body, live):
    status, answer = live.ask(route, body)
    assert status in (400, 404) and answer["error"]["message"] and len(answer["error"]["message"]) < 500, (
        answer
    )


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_an_object_or_a_refusal(body):
    try:
        assert isinstance(parse(body), dict)
    except Refused as refused:
        assert refused.status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "prompt",
        "messages",
        "temperature",
        "top_p",
        "n",
        "seed",
        "stop",
        "logprobs",
        "echo",
        "stream_options",
        "top_k",
    ]
    + ["text", "candidates", "max_tokens", "presence_penalty", "model", "logit_bias", "tools", "typical_p"]
)


@settings(max_examples=150, deadline=None)
@given(route=st.sampled_from(ROUTES), body=st.dictionaries(NAMES, JSON, max_size=4))
def test_any_value_of_any_field_is_an_answer_or_a_400(route, body, live):
    asked = {"max_tokens": 1, **body} if route.startswith("/v1") else body
    if isinstance(asked.get("max_tokens"), int):
        asked["max_tokens"] = asked["max_tokens"] % 3
    status, answer = live.ask(route, json.dumps(asked).encode())
    assert status in (200, 400, 404), (asked, answer)


def test_a_body_that_is_too_long_is_a_413(live):
    long = {"prompt": "x" * 30_000}
    status, answer = live.ask("/v1/completions", long)
    assert status == 413 and answer["error"]["code"] == "request_too_large"
    parts = b"".join(b"3e8\r\n" + b"x" * 1000 + b"\r\n" for _ in range(40)) + b"0\r\n\r\n"
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = live.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + parts)
    assert answer.startswith(b"HTTP/1.1 413")
    answer = live.raw(head + b"Content-Length: 99999999999999999999999\r\n\r\n{")
    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


def test_half_a_body_is_waited_for_a_little():
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with Live(tokenizers.ByteTokenizer(), body_seconds=0.5) as live:
        answer = live.raw(head + b'Content-Length: 500\r\n\r\n{"prompt": "a')
        assert answer.startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", live.port)) as one:  # et qui raccroche avant la fin
            one.sendall(head + b'Content-Length: 500\r\n\r\n{"prom')
        assert live.completed(prompt="a", max_tokens=1)


def test_headers_that_never_end_are_cut(monkeypatch):
    monkeypatch.setattr(server, "HEADERS", 0.4)
    with Live(tokenizers.ByteTokenizer()) as live:
        for content in (b"", b"GET /health HTTP/1.1\r\nHost: local"):
            assert live.raw(content) == b""  # fermé : rien n'a attendu qu'elle finisse
        monkeypatch.setattr(server, "HEADERS", 60)  # une demande entière a son temps
        with socket.create_connection(("127.0.0.1", live.port), timeout=60) as one:  # même après une réponse
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            found = b""
            while not found.endswith(b'{"status":"ok"}'):
                part = one.recv(65536)
                assert part, found  # fermé trop tôt
                found += part
            monkeypatch.setattr(server, "HEADERS", 0.4)
            one.sendall(b"GET /health HT")
            assert one.recv(65536) == b""


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 3_000_000 + b"\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /page/..%2f..%2fserver.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=lambda one: repr(one[:40]),
)
def test_what_is_not_http_is_a_400_and_the_server_goes_on(content, live):
    answer = live.raw(content, closes=False)
    assert answer[:12] in (
        b"HTTP/1.1 400",
        b"HTTP/1.1 403",
        b"HTTP/1.1 404",
        b"HTTP/1.1 405",
        b"HTTP/1.1 415",
        b"",
    )
    assert b"root:" not in answer and b"import" not in answer
    assert live.ask("/health", method="GET")[0] == 200


def test_a_route_that_is_not_here_is_a_404_in_the_protocol_s_shape(live):
    status, answer = live.ask("/v1/embeddings", {})
    assert status == 404 and answer["error"]["type"] == "invalid_request_error"
    status, answer = live.ask("/v1/completions", method="GET")
    assert status == 405 and "GET" in answer["error"]["message"]
    assert live.ask("/v1/models", {}, method="POST")[0] == 405
    assert live.ask("/v1/completions", {}, method="DELETE")[0] == 405
