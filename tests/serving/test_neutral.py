"""La valeur neutre d'un champ est acceptée, et `param` nomme celui qui ne va pas : deux lois, sur tous les champs."""

import json

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai.types import completion_create_params
from openai.types.chat import (
    chat_completion_assistant_message_param,
    chat_completion_user_message_param,
)
from openai.types.chat import (
    completion_create_params as chat_create_params,
)

from gpt_lightning.decoding import Strategy
from gpt_lightning.serving.openai.fields import Refused, parse
from gpt_lightning.serving.openai.neutral import NEUTRAL, UNFELT, asks_nothing
from gpt_lightning.serving.openai.request import CHAT, COMPLETION, Request, ServedModel, chat, completion
from gpt_lightning.tokenizers import ByteTokenizer
from gpt_lightning.tokenizers.template import template_for

TEMPLATE = template_for("texte", ByteTokenizer())
MODEL = ServedModel("gpt_lightning", TEMPLATE.tokenizer, 256, 8, TEMPLATE)
HELLO = [{"role": "user", "content": "Bonjour"}]
ROUTES = {"completion": (completion, {"prompt": "Le chat"}), "chat": (chat, {"messages": HELLO})}
LOGITS = (
    torch.randn(1, 50, generator=torch.Generator().manual_seed(0)),
    torch.zeros(1, 1, dtype=torch.long),
    1,
)
either = pytest.mark.parametrize("route", ROUTES)


def asked(route: str, **more) -> Request:
    """La demande que le serveur lit sur cette route, du corps à ses complétions."""
    reader, body = ROUTES[route]
    return reader(parse(json.dumps({**body, **more}).encode()), MODEL)


def meaning(request: Request) -> list:
    """Ce qu'une demande fait écrire, son numéro et son heure à part."""
    rows = [
        (one.row.strategy, one.row.max_new_tokens, one.row.seed, one.row.top, one.row.scope)
        for one in request.choices
    ]
    stops = [one._grown.stop for one in request.choices]
    return [rows, stops, request.prompts, request.n, request.stream, request.usage, request.echoed]


@either
def test_every_field_of_the_client_is_read_or_has_a_neutral_value(route):
    module = completion_create_params if route == "completion" else chat_create_params
    readable = COMPLETION if route == "completion" else CHAT
    named = set(module.CompletionCreateParamsBase.__annotations__)
    assert len(named) > 15 and not named - {*readable, *NEUTRAL, *UNFELT}


@either
def test_a_neutral_value_changes_nothing(route):
    bare = meaning(asked(route))
    for name, values in NEUTRAL.items():
        for value in (None, *values):
            assert meaning(asked(route, **{name: value})) == bare, (name, value)
    assert meaning(asked(route, **dict.fromkeys(UNFELT, "x"))) == bare


@either
def test_a_value_that_asks_is_refused_by_name(route):
    readable = COMPLETION if route == "completion" else CHAT
    for name in NEUTRAL.keys() - readable.keys():
        for value in ({"autre": 1}, [5], 12345, "autre"):
            with pytest.raises(Refused) as seen:
                asked(route, **{name: value})
            assert (seen.value.error["param"], seen.value.error["code"]) == (name, "unsupported_parameter")


OFF = {
    "temperature": (1, 1.0),
    "top_p": (1, 1.0),
    "top_k": (0, -1),
    "min_p": (0, 0.0),
    "typical_p": (1,),
    "repetition_penalty": (1, 1.0),
    "no_repeat_ngram": (0, -1),
    "presence_penalty": (0,),
    "frequency_penalty": (0.0,),
    "n": (1,),
    "seed": (-1,),
    "stop": ([], "", [""]),
    "stream": (False,),
    "stream_options": ({}, {"include_usage": False, "continuous_usage_stats": False}),
    "model": ("", "gpt_lightning"),
    "user": ("",),
    "cache_prompt": (True,),
    "cache_salt": ("",),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "continue_final_message": (False,),
    "logit_bias": ({}, [], {"5": 0, "6": 0.0}),
    "response_format": ({"type": "text", "json_schema": None},),
    "unknown_to_all": (None, "", [], {}),
}


@either
@pytest.mark.parametrize("name", OFF)
def test_the_neutral_value_of_a_field_that_is_read(route, name):
    none, *others = [meaning(asked(route, **{name: value})) for value in (None, *OFF[name])]
    for other in others:
        if name in ("min_p", "typical_p"):  # 0 et 1 sont un filtre, qui garde tout
            assert all(row[0](*LOGITS).equal(Strategy()(*LOGITS)) for row in other[0])
            continue
        assert other == none


LLAMA = {
    "n_predict": -1, "max_tokens": -1, "seed": -1, "top_k": 0, "min_p": 0, "typical_p": 1.0, "repeat_penalty": 1.0,
    "repeat_last_n": -1, "dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1,
    "xtc_probability": 0.0, "xtc_threshold": 0.1, "mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1,
    "dynatemp_range": 0.0, "dynatemp_exponent": 1.0, "grammar": "", "ignore_eos": False, "logit_bias": [],
    "n_probs": 0, "cache_prompt": True, "id_slot": -1, "samplers": [], "timings_per_token": False, "lora": [],
    "reasoning_format": "auto", "return_progress": False, "n_keep": 0, "min_keep": 0, "t_max_predict_ms": 0,
}  # fmt: skip
VLLM = {
    "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "length_penalty": 1.0, "stop_token_ids": [], "stop": [],
    "ignore_eos": False, "min_tokens": 0, "skip_special_tokens": True, "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False, "truncate_prompt_tokens": None, "prompt_logprobs": None, "bad_words": [],
    "use_beam_search": False, "add_special_tokens": False, "top_logprobs": 0, "logprobs": False, "priority": 0,
    "tool_choice": "none", "include_reasoning": True, "parallel_tool_calls": True, "documents": None,
    "chat_template_kwargs": {}, "continue_final_message": False, "request_id": "abc", "n": 1, "echo": False,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "temperature": 1.0, "top_p": 1.0, "max_tokens": 16,
    "stream_options": {"include_usage": None, "continuous_usage_stats": False}, "user": "moi", "seed": None,
}  # fmt: skip
TRANSFORMERS = {
    "generation_config": "{}", "do_sample": True, "num_beams": 1, "no_repeat_ngram_size": 0, "store": False,
    "max_completion_tokens": None, "metadata": None, "modalities": ["text"], "service_tier": "auto", "tools": [],
}  # fmt: skip


@either
@pytest.mark.parametrize("body", [LLAMA, VLLM, TRANSFORMERS], ids=["llama.cpp", "vLLM", "transformers"])
def test_the_defaults_of_the_neighbours_ask_nothing(route, body):
    assert (
        asked(route, **body)
        .choices[0]
        .row.strategy(*LOGITS)
        .equal(asked(route).choices[0].row.strategy(*LOGITS))
    )


@either
@pytest.mark.parametrize(
    "more",
    [
        {"best_of": 2, "n": 2},
        {"max_tokens": -1},
        {"max_tokens": 5, "max_completion_tokens": -1},
        {"logprobs": False},
    ],
    ids=str,
)
def test_two_fields_that_agree(route, more):
    assert asked(route, **more).n == more.get("n", 1)


def test_a_conversation_ends_as_it_says():
    begun = [*HELLO, {"role": "assistant", "content": "Oui"}]
    assert asked("chat", messages=begun, continue_final_message=True, add_generation_prompt=False)
    assert asked("chat", continue_final_message=False, add_generation_prompt=True)
    for messages, more in (
        (begun, {"continue_final_message": False}),
        (begun, {"add_generation_prompt": True}),
    ):
        with pytest.raises(Refused, match="continuée"):
            asked("chat", messages=messages, **more)


def test_what_a_message_may_have_and_not_say():
    names = set()
    for module in (chat_completion_user_message_param, chat_completion_assistant_message_param):
        names |= {key for kind in vars(module).values() for key in getattr(kind, "__annotations__", ())}
    silent = dict.fromkeys(names - {"role", "content", "text", "type"})
    empty = {
        "tool_calls": [],
        "annotations": [],
        "audio": None,
        "refusal": "",
        "reasoning_content": "",
        "reasoning": "",
    }
    flags = {
        "prefix": False,
        "partial": False,
        "type": "message",
        "id": "msg_1",
        "weight": None,
        "train": None,
    }
    for more in (silent, empty, flags, {"name": ""}):
        assert meaning(asked("chat", messages=[HELLO[0] | more])) == meaning(asked("chat")), more
    for more in ({"tool_calls": [1]}, {"audio": {"id": "a"}}, {"prefix": True}):
        with pytest.raises(Refused) as seen:
            asked("chat", messages=[HELLO[0] | more])
        assert seen.value.error["param"] == "messages"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["\ud800", 1e-8, 0, -1, "auto", "none"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "type", "5"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@either
@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted({*COMPLETION, *CHAT, *NEUTRAL, *UNFELT, "autre"})), VALUES)
@example("max_tokens", -2)
@example("temperature", float("nan"))
@example("temperature", 1e999)
@example("prompt", "\ud800")
@example("messages", [[[[]]]])
@example("temperature", 3)
@example("repetition_penalty", 1e-300)
def test_a_refusal_names_the_field(route, name, value):
    try:
        asked(route, **{name: value})
    except Refused as refused:
        error = refused.error
        assert error["param"] == name and error["code"] != "not_a_chat_model", error
        assert "e+" not in error["message"].partition(" : ")[2] or "e+" in json.dumps(value), error


def test_limits_have_all_their_digits():
    for route, name, value, words in (
        ("completion", "max_tokens", -2, f"entre 0 et {2**63 - 1}"),
        ("completion", "n", 1e300, "entre 1 et 128"),
        ("chat", "seed", 2**63, f"entre {-(2**63)} et {2**63 - 1}"),
        ("chat", "repetition_penalty", 1e9, "entre 1e-06 et 1000000"),
    ):
        with pytest.raises(Refused, match=words):
            asked(route, **{name: value})


@pytest.mark.parametrize("name", ["n", "max_tokens", "seed", "best_of"])
@either
def test_a_whole_number_may_have_a_point(route, name):
    """JSON n'a qu'une sorte de nombres : 1.0 est 1."""
    assert meaning(asked(route, **{name: 1.0})) == meaning(asked(route, **{name: 1}))


@either
def test_a_length_beyond_any_context_goes_to_the_end(route):
    for most in (2**31 - 1, 2**63 - 1, 1e9):
        assert meaning(asked(route, max_tokens=most)) == meaning(asked(route, max_tokens=-1))


def test_a_number_of_a_thousand_digits_is_refused_by_its_field():
    with pytest.raises(Refused, match="max_tokens") as seen:
        parse(b'{"max_tokens": ' + b"9" * 5000 + b"}")
    assert seen.value.error["param"] == "max_tokens"


def test_what_a_client_sends_back_of_an_answer_asks_nothing():
    answer = {"role": "assistant", "content": "Oui", "reasoning": "...", "reasoning_content": None}
    answer |= {"provider_specific_fields": {"refusal": None, "citations": []}, "annotations": []}
    bare = [*HELLO, {"role": "assistant", "content": "Oui"}, *HELLO]
    assert meaning(asked("chat", messages=[*HELLO, answer, *HELLO])) == meaning(asked("chat", messages=bare))


@given(st.text(max_size=8), st.integers() | st.booleans())
def test_an_unknown_field_that_says_something_is_not_neutral(name, value):
    assert asks_nothing(f"x_{name}", None) and not asks_nothing(f"x_{name}", value)
