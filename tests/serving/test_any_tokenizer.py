"""Servir avec un tokenizer de Hugging Face qui ajoute une espace et un jeton devant un texte : rien n'en paraît."""

import json

import openai
import pytest

from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.tokenizers import HuggingFaceTokenizer
from tests.serving.live import Live
from tests.tokenizers.test_huggingface import MADE

STARTS = {"llama3": "<|begin_of_text|>", "metaspace": "<s>", "unigram": None}
PROMPTS = ["", "Le chat", " ", "é"]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("llama3", "unigram")]


@pytest.fixture(scope="module", params=["metaspace", *SLOW])
def live(request):
    fast, options = MADE[request.param]()
    tokenizer = HuggingFaceTokenizer(fast.to_str(), options["eos_token"], STARTS[request.param])
    with Live(tokenizer, template="texte") as served:
        yield served


@pytest.fixture(scope="module")
def client(live):
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="rien", max_retries=0)


def bytes_of(content) -> bytes:
    return b"".join(bytes(token.bytes) for token in content)


@pytest.mark.parametrize("prompt", PROMPTS, ids=ascii)
def test_a_completion_is_that_of_generate_and_its_tokens_make_it(live, client, prompt):
    ask = {"model": "gpt_lightning", "prompt": prompt, "seed": 3, "max_tokens": 24}
    (choice,) = client.completions.create(**ask, logprobs=2).choices
    stream = TextStream(live.model, live.tokenizer, [prompt], strategy=Strategy(), max_new_tokens=24, seed=3)
    assert choice.text == "".join(text for _, text in stream)
    parts = [chunk.choices[0] for chunk in client.completions.create(**ask, logprobs=2, stream=True)]
    assert "".join(part.text for part in parts) == choice.text
    tokens = [token for part in parts for token in part.logprobs.tokens]
    assert tokens == choice.logprobs.tokens
    if not any(token.startswith("bytes:") for token in tokens):
        assert "".join(tokens) == choice.text
    (echo,) = client.completions.create(**ask, logprobs=2, echo=True).choices
    offsets = echo.logprobs.text_offset
    assert echo.text == prompt + choice.text and offsets == sorted(offsets)
    assert offsets[-1] <= len(echo.text) and offsets[-len(tokens)] == len(prompt)


def test_the_bytes_of_an_answer_are_its_text(live, client):
    for seed in range(6):
        ask = {"model": "gpt_lightning", "messages": [{"role": "user", "content": "Bonjour"}], "seed": seed}
        (choice,) = client.chat.completions.create(**ask, max_tokens=20, logprobs=True).choices
        raw = bytes_of(choice.logprobs.content)
        assert raw.decode("utf-8", "replace") == choice.message.content


def pieces(live, text):
    """Ce que la page a lu de `text`, et les morceaux qu'elle écrit."""
    status, raw = live.ask("/api/continue", {"text": text, "seed": 1, "max_tokens": 20})
    assert status == 200, raw
    return [json.loads(line.removeprefix("data: ")) for line in raw.split("\n\n") if line]


@pytest.mark.parametrize("prompt", PROMPTS, ids=ascii)
def test_the_page_shows_the_text_and_goes_on_from_its_tokens(live, prompt):
    read, *rest = pieces(live, prompt)
    tokens = [token for part in rest for token in part["tokens"]]
    assert "".join(token["text"] for token in tokens) == "".join(part["text"] for part in rest)
    if read["text"] != prompt:
        assert (
            not prompt.strip() or "Unigram" in live.tokenizer.file()
        )  # rien à lire, ou un caractère inconnu
        return
    assert read["faithful"] and "".join(token["text"] for token in read["tokens"]) == prompt
    ends = [rank for rank, token in enumerate(tokens[:6], 1) if token["text"]]  # un caractère y est entier
    kept = tokens[: max(ends, default=0)]
    again, *_ = pieces(live, [token["id"] for token in (*read["tokens"], *kept)])
    assert again["text"] == prompt + "".join(token["text"] for token in kept)
