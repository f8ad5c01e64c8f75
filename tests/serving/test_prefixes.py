"""Les préfixes du serveur : comptés, bornés, séparés ; et la réponse est la même que sans eux."""

import json

import pytest

from gpt_lightning import tokenizers
from tests.serving.live import Live, tiny

HELLO = [{"role": "user", "content": "Bonjour, qui es-tu ? Réponds-moi, je te prie."}]
TEXT = "Il était une fois un roi, une reine, et leur chat."  # 53 octets : trois blocs


def bytes_live(**options) -> Live:
    bytes_ = tokenizers.ByteTokenizer()
    return Live(bytes_, model=tiny(bytes_.vocab_size, 512), template="texte", **options)


@pytest.fixture(scope="module")
def live():
    with bytes_live() as one:
        yield one


@pytest.fixture(scope="module")
def bare():
    with bytes_live(prefix_cache_mb=0) as one:
        yield one


def cached(live: Live, path: str, **body) -> int:
    status, answer = live.ask(path, {"max_tokens": 4, "temperature": 0, **body})
    assert status == 200, answer
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def figures(live: Live) -> dict[str, float]:
    _, text = live.ask("/metrics", method="GET")
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


def test_a_turn_reads_only_what_is_new(live, bare):
    """Le texte de chaque tour est celui d'un serveur qui relit tout, et ce qui est déjà lu se compte."""
    messages, before = list(HELLO), figures(live).get('gpt_lightning_tokens_total{kind="cached"}', 0)
    seen = []
    for _ in range(5):
        body = {"messages": messages, "max_tokens": 6, "seed": 2, "temperature": 0.7}
        answers = [one.ask("/v1/chat/completions", body)[1] for one in (live, bare)]
        texts = [answer["choices"][0]["message"]["content"] for answer in answers]
        assert texts[0] == texts[1]
        usage = [answer["usage"] for answer in answers]
        assert usage[1].pop("prompt_tokens_details") == {"cached_tokens": 0}
        seen.append(usage[0].pop("prompt_tokens_details")["cached_tokens"])
        assert usage[0] == usage[1]
        messages += [{"role": "assistant", "content": texts[0]}, {"role": "user", "content": "Et ?"}]
    assert seen[0] == 0 and 0 < seen[1] < seen[2] < seen[3] < seen[4]
    assert figures(live)['gpt_lightning_tokens_total{kind="cached"}'] - before == sum(seen)
    assert 0 < figures(live)["gpt_lightning_prefix_bytes"] <= 64e6
    assert figures(bare)["gpt_lightning_prefix_bytes"] == 0


def test_the_end_of_a_stream_counts_them(live):
    body = {"prompt": TEXT + " a", "max_tokens": 2, "stream_options": {"include_usage": True}}
    usage = [list(live.events("/v1/completions", body))[-2]["usage"] for _ in "ab"]
    assert [one["prompt_tokens_details"]["cached_tokens"] for one in usage] == [0, 48]


def test_several_texts_and_several_choices_are_counted_once(live):
    prompts = [TEXT + " b", TEXT + " c"]
    assert cached(live, "/v1/completions", prompt=prompts, n=2) in (48, 96)
    assert cached(live, "/v1/completions", prompt=prompts, n=2) == 96


def test_who_wants_shares_nothing(live):
    ask = {"path": "/v1/completions", "prompt": "b" + TEXT}
    assert [cached(live, **ask, cache_prompt=False) for _ in "ab"] == [0, 0]
    assert [cached(live, **ask) for _ in "ab"] == [0, 48]  # rien n'en était resté
    assert [cached(live, **ask, cache_salt="moi") for _ in "ab"] == [0, 48]
    assert cached(live, **ask, cache_salt="toi") == cached(live, **ask, cache_prompt=False) == 0
    for name, value in (("cache_prompt", 3), ("cache_salt", 3)):
        status, answer = live.ask("/v1/completions", {"prompt": "a", name: value})
        assert (status, answer["error"]["param"]) == (400, name)


def test_the_page_reuses_and_says_the_same(live, bare):
    """Le jeton suivant et une branche d'un texte continué, avec les mêmes nombres."""
    for text in ("c" + TEXT, "c" + TEXT + " Il dort.", list(f"c{TEXT} Il".encode())):
        (_, mine), (_, its) = (one.ask("/api/next", {"text": text, "candidates": 5}) for one in (live, bare))
        assert [one["id"] for one in mine["candidates"]] == [one["id"] for one in its["candidates"]]
        assert [one["logprob"] for one in mine["candidates"]] == pytest.approx(
            [one["logprob"] for one in its["candidates"]], abs=1e-3
        )
    written = []
    for one in (live, bare):
        _, flow = one.ask("/api/continue", {"text": "c" + TEXT, "max_tokens": 9, "seed": 1})
        parts = [json.loads(line.removeprefix("data: ")) for line in flow.splitlines() if line]
        written.append([token["id"] for part in parts[1:] for token in part["tokens"]])
    assert written[0] == written[1]
    assert cached(live, "/v1/completions", prompt="c" + TEXT + " Il dort.") == 48  # /api/next l'avait lu
