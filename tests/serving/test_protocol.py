"""Le protocole : ce que le client `openai` demande et reçoit, et les exemples de la documentation, en HTTP."""

import base64
import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch

from gpt_lightning import tokenizers
from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.decoding.batching import Batch
from gpt_lightning.decoding.text import prompt_ids
from gpt_lightning.serving import app
from gpt_lightning.serving.metrics import Metrics
from gpt_lightning.serving.openai import request
from tests.serving.live import CONTEXT, Live, gpt2_live, tiny, until

ASK = {"model": "gpt_lightning", "prompt": "Le chat", "seed": 3, "max_tokens": 12}
HELLO = [{"role": "user", "content": "Bonjour, ça va ?"}]


@pytest.fixture(scope="module")
def live():
    with gpt2_live() as one:
        yield one


@pytest.fixture(scope="module")
def client(live):
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="rien", max_retries=0)


def alone(live: Live, prompts: list[str], **options) -> list:
    """Les suites que generate.py écrirait."""
    given = {"strategy": Strategy(), "max_new_tokens": 12, "seed": 3, **options}
    found = TextStream(live.model, live.tokenizer, prompts, **given)
    for _ in found:
        pass
    return found.rows


def test_the_models(client, live):
    (one,) = client.models.list().data
    assert one.id == "gpt_lightning" and client.models.retrieve(one.id).id == one.id
    with pytest.raises(openai.NotFoundError, match="ce serveur a gpt_lightning"):
        client.models.retrieve("gpt-4")
    assert live.ask("/health", method="GET") == (200, {"status": "ok"})


STRATEGIES = [
    {},
    {"temperature": 0},
    {"temperature": 0.8, "top_p": 0.9},
    {"top_k": 5},
    {"min_p": 0.05},
    {"typical_p": 0.9},
    {"repetition_penalty": 1.3, "no_repeat_ngram": 3},
    {"presence_penalty": 1.0, "frequency_penalty": -0.5},
]


@pytest.mark.parametrize("how", STRATEGIES, ids=str)
def test_a_seed_gives_the_text_of_generate(how, client, live):
    ours = {key: value for key, value in how.items() if key not in ("temperature", "top_p")}
    theirs = {key: value for key, value in how.items() if key not in ours}
    answer = client.completions.create(**ASK, **theirs, extra_body=ours)
    (expected,) = alone(live, ["Le chat"], strategy=Strategy(**how))
    (choice,) = answer.choices
    assert choice.text == expected.text and choice.finish_reason == "length"
    assert answer.usage.completion_tokens == len(expected.ids) == 12
    assert answer.usage.prompt_tokens == len(live.tokenizer.encode("Le chat"))


def test_several_prompts_and_several_choices(client, live):
    prompts = ["Le chat", "", "Il était une fois"]
    answer = client.completions.create(**{**ASK, "prompt": prompts}, n=2)
    assert [one.index for one in answer.choices] == list(range(6))
    expected = alone(live, prompts, num_samples=2)
    assert [one.text for one in answer.choices] == [one.text for one in expected]
    ids = [prompt_ids(live.tokenizer, prompt) for prompt in prompts]
    again = client.completions.create(**{**ASK, "prompt": ids}, n=2)
    assert [one.text for one in again.choices] == [one.text for one in answer.choices]


@pytest.mark.parametrize(
    "more",
    [{}, {"n": 3}, {"echo": True}, {"logprobs": 3}, {"echo": True, "logprobs": 2, "n": 2}]
    + [{"prompt": ["é", "Le"], "echo": True, "logprobs": 0, "stop": ["e", "\n"]}],
    ids=str,
)
def test_a_stream_joined_is_the_answer(more, client):
    whole = client.completions.create(**{**ASK, **more})
    texts, traces, ends = {}, {}, {}
    for chunk in client.completions.create(**{**ASK, **more}, stream=True):
        for one in chunk.choices:
            texts[one.index] = texts.get(one.index, "") + one.text
            ends[one.index] = one.finish_reason
            if one.logprobs is not None:
                for key, values in one.logprobs.model_dump().items():
                    traces.setdefault(one.index, {}).setdefault(key, []).extend(values)
    for one in whole.choices:
        assert texts[one.index] == one.text and ends[one.index] == one.finish_reason
        assert (one.logprobs is None) == (one.index not in traces)
        if one.logprobs is not None:
            assert traces[one.index] == one.logprobs.model_dump()


def test_measures_are_the_model_s(client, live):
    (one,) = client.completions.create(**ASK, echo=True, logprobs=4).choices
    trace, ids = one.logprobs, live.tokenizer.encode(one.text)
    assert (
        "".join(trace.tokens) == one.text
        and trace.token_logprobs[0] is None
        and trace.top_logprobs[0] is None
    )
    assert [
        one.text[at:].startswith(token) for at, token in zip(trace.text_offset, trace.tokens, strict=True)
    ]
    expected = live.model(torch.tensor([ids]))[0].log_softmax(-1)
    if [live.tokenizer.decode([i]) for i in ids] == trace.tokens:
        for place, value in enumerate(trace.token_logprobs[1:]):
            assert value == pytest.approx(float(expected[place, ids[place + 1]]), abs=1e-3)
    for best, value in zip(trace.top_logprobs[1:], trace.token_logprobs[1:], strict=True):
        assert len(best) in (4, 5) and value in best.values() and max(best.values()) >= value - 1e-6


def test_echo_alone_measures_a_text(client, live):
    """Ce que lm-eval demande : rien à écrire, et la log-probabilité du texte donné."""
    text = "Le chat dort, et la nuit passe."
    answer = client.completions.create(
        model="gpt_lightning", prompt=text, max_tokens=0, echo=True, logprobs=1
    )
    trace, ids = answer.choices[0].logprobs, live.tokenizer.encode(text)
    assert answer.choices[0].text == text and answer.usage.completion_tokens == 0
    expected = live.model(torch.tensor([ids]))[0].log_softmax(-1)
    for place, value in enumerate(trace.token_logprobs[1:]):
        assert value == pytest.approx(float(expected[place, ids[place + 1]]), abs=1e-4)
    assert client.completions.create(model="gpt_lightning", prompt="é", max_tokens=0).choices[0].text == ""


@pytest.mark.parametrize("stop", ["e", ["zzz", "a"], ["\n", " "]], ids=str)
def test_a_stop_is_not_in_the_text(stop, client, live):
    listed = [stop] if isinstance(stop, str) else stop
    (one,) = client.completions.create(**{**ASK, "max_tokens": 60}, stop=stop, logprobs=1).choices
    (expected,) = alone(live, ["Le chat"], max_new_tokens=60, stop=listed)
    assert one.text == expected.text and not any(word in one.text for word in listed)
    assert one.finish_reason == ("stop" if expected.reason == "stop" else "length")
    assert len("".join(one.logprobs.tokens)) >= len(one.text)
    assert all(at < len(one.text) for at in one.logprobs.text_offset)


def test_a_text_stops_where_the_context_is_full(live):
    text = "un " * (CONTEXT - 20)
    room = CONTEXT - len(live.tokenizer.encode(text))
    one = live.completed(**{**ASK, "prompt": text, "max_tokens": 500, "logprobs": 0})
    assert one["finish_reason"] == "length" and len(one["logprobs"]["tokens"]) == room + 1
    status, answer = live.ask("/v1/completions", {**ASK, "prompt": "un " * 4 * CONTEXT})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded"


def test_half_a_character_is_bytes_and_never_shown():
    with Live(tokenizers.ByteTokenizer()) as live:
        one = live.completed(prompt="é", max_tokens=60, seed=1, logprobs=1, temperature=1.5)
        raw = bytes(
            b
            for token in one["logprobs"]["tokens"]
            for b in (
                bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
                if token.startswith("bytes:")
                else token.encode()
            )
        )
        assert any(token.startswith("bytes:\\x") for token in one["logprobs"]["tokens"])
        assert one["text"] == raw.decode("utf-8", "replace")
        events = list(
            live.events("/v1/completions", {"prompt": "é", "max_tokens": 60, "seed": 1, "temperature": 1.5})
        )
        joined = "".join(event["choices"][0]["text"] for event in events[:-1])
        assert joined == one["text"] and events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation(stream, client, live):
    asked = {"model": "gpt_lightning", "messages": HELLO, "seed": 1, "max_completion_tokens": 15}
    ids = live.service.model.template.opening([("user", HELLO[0]["content"])])
    (expected,) = alone(live, [""], ids=[ids], max_new_tokens=15, seed=1)
    if stream:
        chunks = list(
            client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        )
        assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices == []
        assert chunks[-1].usage.prompt_tokens == len(ids) and chunks[-1].usage.completion_tokens == 15
        text = "".join(one.choices[0].delta.content or "" for one in chunks[:-1])
        assert chunks[-2].choices[0].finish_reason == "length" and all(
            one.usage is None for one in chunks[:-1]
        )
    else:
        answer = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
        (one,) = answer.choices
        text = one.message.content
        assert one.message.role == "assistant" and len(one.logprobs.content) == 15
        assert b"".join(bytes(x.bytes) for x in one.logprobs.content).decode("utf-8", "replace") == text
        assert all(len(x.top_logprobs) == 2 for x in one.logprobs.content)
    assert text == expected.text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_began_is_continued(stream, live):
    """La réponse ne contient que ce qui suit, et le modèle lit une conversation qui s'arrête au bout de ce début."""
    talk = [*HELLO, {"role": "assistant", "content": "Oui,\r\n"}, {"role": "assistant", "content": "merci "}]
    template = live.service.model.template
    ids = template.opening([("user", HELLO[0]["content"]), ("assistant", "Oui,\n\nmerci")])
    assert ids[-1] != template.eos_id and live.tokenizer.decode(ids).endswith("Oui,\n\nmerci")
    (expected,) = alone(live, [""], ids=[ids], max_new_tokens=15, seed=1)
    body = {"messages": talk, "seed": 1, "max_tokens": 15}
    if stream:
        events = list(live.events("/v1/chat/completions", body))
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    else:
        status, answer = live.ask("/v1/chat/completions", body)
        assert status == 200 and answer["usage"]["prompt_tokens"] == len(ids)
        text = answer["choices"][0]["message"]["content"]
    assert text == expected.text


def test_a_word_that_continues_an_answer_has_its_space():
    """Un tokenizer par mots ne dit pas l'espace qui précède un mot : ce qui suit un début en a une."""
    words = tokenizers.SimpleTokenizerV2().fit(["le chat dort et la nuit passe"])
    chat = tokenizers.template.template_for("chatml", words).tokenizer
    with Live(chat, template="chatml") as live:
        talk = [{"role": "user", "content": "le chat dort"}]
        begun = [*talk, {"role": "assistant", "content": "le chat"}]
        body = {"temperature": 0, "max_tokens": 4, "logprobs": True}
        for messages, blank in ((talk, False), (begun, True)):
            status, answer = live.ask("/v1/chat/completions", {"messages": messages, **body})
            text = answer["choices"][0]["message"]["content"]
            assert status == 200 and text.startswith(" ") == blank, text


def test_the_messages_of_a_conversation_are_rendered_by_the_template(live):
    parts = [{"type": "text", "text": "Bon"}, {"type": "text", "text": "jour"}]
    talk = [
        {"role": "developer", "content": "Sois bref."},
        {"role": "user", "content": parts, "name": "moi"},
        {"role": "assistant", "content": "Oui ?"},
        {"role": "user", "content": "Qui es-tu ?"},
    ]
    status, answer = live.ask("/v1/chat/completions", {"messages": talk, "max_tokens": 3})
    same = [("system", "Sois bref."), ("user", "Bonjour"), ("assistant", "Oui ?"), ("user", "Qui es-tu ?")]
    assert status == 200
    assert answer["usage"]["prompt_tokens"] == len(live.service.model.template.opening(same))


def test_a_model_that_never_learned_to_answer_says_so():
    with Live(tokenizers.ByteTokenizer()) as live:
        status, answer = live.ask("/v1/chat/completions", {"messages": HELLO})
        assert status == 400 and answer["error"]["code"] == "not_a_chat_model"
        assert "/v1/completions" in answer["error"]["message"]


def test_a_conversation_ends_with_its_end_token():
    chat = tokenizers.template.template_for("chatml", tokenizers.ByteTokenizer()).tokenizer
    with Live(chat, template="chatml") as live:
        with torch.no_grad():  # toujours la fin
            live.model.final_norm.scale.zero_()
            live.model.final_norm.shift.copy_(live.model.tok_emb.weight[chat.eos_id] * 50)
        body = {"messages": HELLO, "logprobs": True, "max_tokens": 9, "temperature": 0}
        status, answer = live.ask("/v1/chat/completions", body)
        (one,) = answer["choices"]
        assert one["finish_reason"] == "stop" and one["message"]["content"] == ""
        assert one["logprobs"]["content"] == [] and answer["usage"]["completion_tokens"] == 1


REFUSED = [
    ({"suffix": "fin"}, "suffix"),
    ({"best_of": 3}, "best_of"),
    ({"logit_bias": {"5": 10}}, "logit_bias"),
    ({"prompte": "x"}, "prompte"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": True}, "n"),
    ({"prompt": ["a"] * 60, "n": 3}, "n"),
    ({"seed": 2**63}, "seed"),
    ({"repetition_penalty": 10**20}, "repetition_penalty"),
    ({"repetition_penalty": 1e-300}, "repetition_penalty"),
    ({"seed": 1.5}, "seed"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"echo": 1}, "echo"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": [50_257]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"stream_options": {"autre": 1}}, "stream_options"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
]


@pytest.mark.parametrize("more, name", REFUSED, ids=str)
def test_what_makes_no_sense_is_a_400_that_names_the_field(more, name, live):
    status, answer = live.ask("/v1/completions", {**ASK, **more})
    error = answer["error"]
    assert status == 400 and error["type"] == "invalid_request_error", answer
    assert error["param"] == name and len(error["message"]) > 10
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "more, words",
    [
        ({"messages": []}, "pas vide"),
        ({"messages": "Bonjour"}, "liste de messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "morceaux"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "tool_calls"),
        ({"messages": [{"role": "user", "content": "mot " * 400}]}, "complétion comprise"),
        ({"top_logprobs": 2}, "logprobs=true"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "l'un des deux"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
    ],
    ids=str,
)
def test_what_makes_no_sense_in_a_conversation(more, words, live):
    status, answer = live.ask("/v1/chat/completions", {"messages": HELLO, **more})
    assert status == 400 and words in answer["error"]["message"], answer


def test_what_asks_for_nothing_is_no_fault(live):
    neutral = {
        "suffix": None,
        "best_of": 1,
        "logit_bias": {},
        "user": "moi",
        "stop": None,
        "n": None,
        "logprobs": None,
    }
    assert live.completed(**ASK, **neutral)["text"] == live.completed(**ASK)["text"]
    more = {"stream_options": {"include_usage": None, "include_obfuscation": False}, "seed": -5}
    assert live.completed(**{**ASK, **more})["text"]
    neutral = {"tools": [], "response_format": {"type": "text"}, "store": False, "metadata": None}
    assert live.ask("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2, **neutral})[0] == 200


def test_another_model_is_not_here(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(**{**ASK, "model": "gpt-4o"})
    assert error.value.code == "model_not_found" and error.value.param == "model"


def test_an_error_has_the_protocol_s_type(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**ASK, temperature=7)
    assert error.value.param == "temperature"


def test_the_examples_of_the_documentation(live):
    """Ceux des pages « Create completion » et « Create chat completion », au nom du modèle près."""
    example = {"model": "gpt_lightning", "prompt": "Say this is a test", "max_tokens": 7, "temperature": 0}
    status, answer = live.ask("/v1/completions", example)
    assert status == 200 and answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert set(answer["choices"][0]) == {"text", "index", "logprobs", "finish_reason"}
    example = {
        "model": "gpt_lightning",
        "messages": [
            {"role": "developer", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello!"},
        ],
        "max_tokens": 9,
    }
    status, answer = live.ask("/v1/chat/completions", example)
    assert status == 200 and answer["object"] == "chat.completion" and answer["id"].startswith("chatcmpl-")
    assert answer["choices"][0]["message"]["role"] == "assistant"
    events = list(live.events("/v1/chat/completions", example))
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"} and events[-1] == "[DONE]"
    assert len({event["id"] for event in events[:-1]}) == 1


@pytest.mark.parametrize("how", STRATEGIES, ids=str)
def test_next_has_every_logit_and_the_filters_of_python(how, live):
    text = "Le chat dort. Le chat"
    status, answer = live.ask("/api/next", {"text": text, "candidates": 8, **how})
    assert status == 200
    logits = torch.frombuffer(bytearray(base64.b64decode(answer["logits"])), dtype=torch.float32)
    ids = torch.tensor([live.tokenizer.encode(text)])
    torch.testing.assert_close(logits, live.model.next_logits(ids)[0].float(), atol=1e-5, rtol=1e-5)
    expected = Strategy(**how)(logits[None], ids, ids.shape[1])[0].softmax(-1)
    traces = logits.log_softmax(-1)
    assert [one["id"] for one in answer["candidates"]] == logits.topk(8).indices.tolist()
    for one in answer["candidates"]:
        assert one["logit"] == pytest.approx(float(logits[one["id"]]))
        assert one["logprob"] == pytest.approx(float(traces[one["id"]]), abs=1e-5)
        assert one["filtered"] == pytest.approx(float(expected[one["id"]]), abs=1e-5)
        assert bytes(one["bytes"]) == live.tokenizer.token_bytes(one["id"])
    assert [one["id"] for one in answer["tokens"]] == ids[0].tolist()
    assert (answer["unread"], answer["vocabulary"], answer["faithful"]) == (0, 50_257, True)


def test_a_score_is_the_perplexity(live):
    text = "Le chat dort, et la nuit passe. " * 20  # plus long que le contexte
    status, answer = live.ask("/api/score", {"text": text, "candidates": 3})
    assert status == 200 and answer["tokens"][0]["logprob"] is None
    assert "".join(one["token"] for one in answer["tokens"]) == text
    values = [one["logprob"] for one in answer["tokens"][1:]]
    assert answer["loss"] == pytest.approx(-sum(values) / len(values))
    for one in answer["tokens"][1:]:
        assert one["rank"] >= 1 and len(one["candidates"]) == 3
        if one["rank"] == 1:
            assert one["candidates"][0]["id"] == one["id"]
    status, answer = live.ask("/api/score", {"text": [5]})
    assert status == 200 and answer["loss"] is None and len(answer["tokens"]) == 1
    status, answer = live.ask("/api/score", {"text": "mot " * 9 * CONTEXT})
    assert status == 400 and answer["error"]["param"] == "text"


@pytest.mark.parametrize("route", ["/api/next", "/api/score"])
@pytest.mark.parametrize("body", [{}, {"text": 5}, {"text": []}, {"text": ["a"]}, {"texte": "a"}], ids=str)
def test_a_bad_question_of_the_page_is_a_400(route, body, live):
    status, answer = live.ask(route, body)
    assert status == 400 and answer["error"]["param"] in ("text", "texte")


def test_words_a_tokenizer_does_not_know_are_a_400():
    words = tokenizers.SimpleTokenizerV1(["le", "chat", "dort", "."])
    with Live(words) as live:
        one = live.completed(prompt="le chat", max_tokens=3, seed=1)
        assert one["text"].startswith((" ", "."))
        for route, key in (("/v1/completions", "prompt"), ("/api/next", "text"), ("/api/score", "text")):
            status, answer = live.ask(route, {key: "le chien"})
            assert status == 400 and "chien" in answer["error"]["message"] and answer["error"]["param"] == key


def test_metrics_count_what_was_done():
    with gpt2_live() as live:
        live.completed(**ASK)
        live.ask("/v1/completions", {"n": 0})
        live.ask("/nulle/part", method="GET")
        status, text = live.ask("/metrics", method="GET")
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        found = {name: float(value) for name, value in lines}
        assert status == 200 and live.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert found['gpt_lightning_requests_total{route="/v1/completions",status="200"}'] == 1
        assert found['gpt_lightning_requests_total{route="/v1/completions",status="400"}'] == 1
        assert found['gpt_lightning_requests_total{route="autre",status="404"}'] == 1
        assert found['gpt_lightning_tokens_total{kind="completion"}'] == 12
        assert found["gpt_lightning_queue"] == found["gpt_lightning_running"] == 0
        assert math.isfinite(found["gpt_lightning_first_token_seconds_total"])


def test_every_figure_has_its_name_and_its_type():
    text = Metrics().text(0, Batch(tiny(8), 16))
    assert dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE")) == {
        "gpt_lightning_requests_total": "counter",
        "gpt_lightning_request_seconds_total": "counter",
        "gpt_lightning_tokens_total": "counter",
        "gpt_lightning_first_token_seconds_total": "counter",
        "gpt_lightning_first_tokens_total": "counter",
        "gpt_lightning_queue": "gauge",
        "gpt_lightning_running": "gauge",
        "gpt_lightning_rows": "gauge",
        "gpt_lightning_prefix_bytes": "gauge",
    }


def test_two_services_do_not_count_together():
    one, other = Metrics(), Metrics()
    one.count_prompt(12)
    assert 'kind="prompt"} 12' in one.text(0, Batch(tiny(8), 1))
    assert "kind=" not in other.text(0, Batch(tiny(8), 1))


def test_json_never_holds_what_is_not_a_number(live):
    status, answer = live.ask("/v1/completions", {**ASK, "echo": True, "logprobs": 5})
    assert "NaN" not in json.dumps(answer) and "Infinity" not in json.dumps(answer) and status == 200


def test_an_answer_that_is_blank_may_be_sent_back(live):
    talk = [*HELLO, {"role": "assistant", "content": " "}, {"role": "user", "content": ""}]
    assert live.ask("/v1/chat/completions", {"messages": talk, "max_tokens": 2})[0] == 200


def test_a_character_that_a_prompt_of_tokens_cuts_is_not_lost():
    """« Đ » est c4 90 : le départ finit au milieu, la suite le finit."""
    live = Live(tokenizers.ByteTokenizer())
    decode = request.decoder(live.tokenizer, None, [97, 0xC4])
    assert decode([0x90, 98]) == "Đb"
    decode = request.decoder(live.tokenizer, None, list("�".encode()))
    assert decode([98]) == "b"
    live.sock.close()


@pytest.mark.parametrize("route", ["/v1/completions", "/api/next", "/api/score", "/api/continue"])
def test_an_identifier_that_names_nothing_breaks_nothing(route):
    """Le vocabulaire du modèle peut avoir des trous que son tokenizer ne nomme pas."""

    class Holed(tokenizers.TiktokenTokenizer):
        def __init__(self):
            import tiktoken

            ranks = {bytes([one]): one for one in range(256)}
            state = {"kind": "trou"}
            super().__init__(
                tiktoken.Encoding(
                    "trou", pat_str=".", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 299}
                ),
                state,
            )

    with Live(Holed()) as live:
        assert live.tokenizer.vocab_size == 300
        key = "prompt" if route.startswith("/v1") else "text"
        for text in ("abc", [97, 280, 98]):
            status, answer = live.ask(
                route, {key: text, **({} if route == "/api/score" else {"temperature": 2})}
            )
            assert status == 200, answer


def test_one_deadline_for_a_whole_request(monkeypatch):
    """Le premier de vingt textes est tenu plus longtemps que la demande n'a : le deuxième n'a plus de temps."""
    jobs, going = [], threading.Event()
    score = app.score_text

    def held(*arguments):
        going.wait(60)
        return score(*arguments)

    monkeypatch.setattr(app, "score_text", held)
    with Live(tokenizers.ByteTokenizer(), seconds=0.5) as live, ThreadPoolExecutor(1) as pool:
        submit = live.worker.submit
        monkeypatch.setattr(live.worker, "submit", lambda job: (jobs.append(job), submit(job)))
        body = {"prompt": ["x"] * 20, "max_tokens": 0, "echo": True, "logprobs": 1}
        asked = pool.submit(live.ask, "/v1/completions", body)
        until(lambda: jobs and not live.worker.waiting and time.monotonic() > jobs[0].deadline)
        going.set()
        status, answer = asked.result(60)
        assert status == 504 and answer["error"]["code"] == "timeout"


def test_a_long_text_does_not_stop_the_others():
    """Lire et écrire se font à côté : /health répond pendant ce temps."""
    with (
        Live(tokenizers.gpt2(), model=tiny(50_257, 4096), max_body=1 << 20) as live,
        ThreadPoolExecutor(1) as pool,
    ):
        reading, going = threading.Event(), threading.Event()
        encode = live.tokenizer.encode

        def held(*arguments, **options):
            reading.set()
            going.wait(60)
            return encode(*arguments, **options)

        live.tokenizer.encode = held
        long = pool.submit(live.ask, "/api/tokens", {"text": " a" * 30_000})
        assert reading.wait(60)
        for _ in range(3):
            assert live.ask("/health", method="GET")[0] == 200
        assert not long.done()
        going.set()
        assert long.result(60)[0] == 200
        live.tokenizer.encode = encode
        status, answer = live.ask("/v1/completions", {"prompt": [""] * 200_000})
        assert status == 400 and answer["error"]["param"] == "n"
