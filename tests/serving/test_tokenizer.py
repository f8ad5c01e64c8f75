"""Les trois routes d'un tokenizer, et ce que le harnais de mesure (lm-eval) attend des log-probabilités."""

import json

import pytest
import torch

from gpt_lightning import tokenizers
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import HuggingFaceTokenizer
from gpt_lightning.weights.exporting import export
from tests.serving.live import CONTEXT, Live, gpt2_live
from tests.tokenizers.test_huggingface import MADE

TEXTS = ["", "Le chat dort.", "licorne :", "é😀\n\tà", "<|endoftext|>Un<|endoftext|>"]
KINDS = ["gpt2", "bytes", "chatml", "metaspace"]


def made(kind: str):
    if kind == "metaspace":
        fast, options = MADE[kind]()
        return HuggingFaceTokenizer(fast.to_str(), options["eos_token"], "<s>")
    base = tokenizers.gpt2() if kind == "gpt2" else tokenizers.ByteTokenizer()
    return tokenizers.ChatTokenizer(base) if kind == "chatml" else base


@pytest.fixture(scope="module", params=KINDS)
def live(request):
    with Live(made(request.param), template="texte") as one:
        yield one


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_text_and_its_tokens(live, text):
    body = {"prompt": text, "add_special_tokens": False, "return_token_strs": True}
    status, answer = live.ask("/tokenize", body)
    ids = live.tokenizer.encode(text, special=True)
    assert status == 200 and answer["tokens"] == ids and answer["count"] == len(ids)
    assert answer["max_model_len"] == CONTEXT and len(answer["token_strs"]) == len(ids)
    assert live.ask("/detokenize", {"tokens": ids}) == (200, {"prompt": live.tokenizer.decode(ids)})
    opening = getattr(live.tokenizer, "bos_id", None)
    begun = live.ask("/tokenize", {"prompt": text})[1]["tokens"]
    assert begun == ([] if opening is None else [opening]) + ids


def test_the_special_tokens_it_names_are_theirs(live):
    """Le harnais les encode, et prend le premier jeton : c'est la fin d'un texte, ou son début."""
    _, info = live.ask("/tokenizer_info", method="GET")
    ask = {"prompt": info["eos_token"], "add_special_tokens": False}
    assert info["model_max_length"] == CONTEXT and info["chat_template"]
    if live.tokenizer.eos_id is None:
        assert info["eos_token"] is None
        return
    assert live.ask("/tokenize", ask)[1]["tokens"] == [live.tokenizer.eos_id]


def test_what_it_says_is_what_the_export_says(tmp_path):
    tokenizer = made("gpt2")
    with Live(tokenizer, template="texte") as live:
        _, info = live.ask("/tokenizer_info", method="GET")
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size, context_length=CONTEXT, emb_dim=8, n_heads=1, n_layers=1
    )
    export(GPTModel(config), tokenizer, tmp_path / "hf", "hf")
    said = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())
    del info["chat_template"]
    assert info == said


def test_a_conversation_is_what_the_chat_reads(live):
    messages = [{"role": "user", "content": "Bonjour"}]
    status, answer = live.ask("/tokenize", {"messages": messages, "add_generation_prompt": True})
    _, chat = live.ask("/v1/chat/completions", {"messages": messages, "max_tokens": 1})
    assert status == 200 and answer["count"] == chat["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    "route, body",
    [
        ("tokenize", {}),
        ("tokenize", {"prompt": "a", "messages": []}),
        ("tokenize", {"prompt": 5}),
        ("tokenize", {"prompt": "a", "model": "un-autre"}),
        ("detokenize", {}),
        ("detokenize", {"tokens": "a"}),
        ("detokenize", {"tokens": [10**9]}),
        ("detokenize", {"tokens": [-1]}),
        ("detokenize", {"tokens": [True]}),
    ],
)
def test_what_cannot_be_read_is_refused(route, body, live):
    status, answer = live.ask(f"/{route}", body)
    assert status in (400, 404) and answer["error"]["param"]


@pytest.mark.parametrize("ends", [False, True])
def test_one_token_more_than_the_text_is_always_measured(ends):
    """Le harnais écarte la mesure du dernier jeton, celui qui s'écrit : fin de texte ou non, il faut qu'elle y soit."""
    with gpt2_live() as live:
        if ends:
            with torch.no_grad():
                live.model.final_norm.scale.zero_()
                live.model.final_norm.shift.copy_(live.model.tok_emb.weight[live.tokenizer.eos_id] * 50)
        texts = ["Le chat dort, et la nuit passe.", "licorne : un cheval"]
        prompts = [live.tokenizer.encode(text) for text in texts]
        body = {"model": "gpt_lightning", "prompt": prompts, "temperature": 0, "max_tokens": 1}
        status, answer = live.ask("/v1/completions", {**body, "logprobs": 1, "seed": 1234, "echo": True})
        assert status == 200, answer
        for ids, choice in zip(prompts, answer["choices"], strict=True):
            trace = choice["logprobs"]
            expected = live.model(torch.tensor([ids]))[0].log_softmax(-1)
            own = [float(expected[place, index]) for place, index in enumerate(ids[1:])]
            assert {len(part) for part in trace.values()} == {len(ids) + 1}
            assert trace["token_logprobs"][1:-1] == pytest.approx(own, abs=1e-4)
            greedy = [
                value == max(best.values())
                for value, best in zip(
                    trace["token_logprobs"][1:-1], trace["top_logprobs"][1:-1], strict=True
                )
            ]
            assert greedy == [int(row.argmax()) == i for row, i in zip(expected, ids[1:], strict=False)]
            assert (choice["finish_reason"] == "stop") == ends
            assert choice["text"].startswith(live.tokenizer.decode(ids))


def test_the_shortest_of_two_lengths_is_written():
    """Une tâche du harnais dit max_new_tokens, et lui max_tokens : la tâche l'emporte, si elle est plus courte."""
    with gpt2_live() as live:
        for lengths, written in (((5, 3), 3), ((3, 5), 3), ((None, 4), 4), ((None, None), 16)):
            names = dict(zip(("max_tokens", "max_new_tokens"), lengths, strict=True))
            choice = live.completed(prompt="Le chat", seed=1, logprobs=0, **names)
            assert len(choice["logprobs"]["tokens"]) == written
