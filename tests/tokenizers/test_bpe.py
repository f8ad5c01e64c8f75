import hashlib
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import tokenizers

TOKENIZER = tokenizers.gpt2()


def test_merges_are_the_published_file():
    content = files("gpt_lightning.tokenizers").joinpath("gpt2/vocab.bpe").read_bytes()
    expected = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    assert hashlib.sha256(content).hexdigest() == expected


def test_known_encoding(golden, verdict):
    assert TOKENIZER.encode("Hello, world") == [15496, 11, 995]
    assert len(TOKENIZER.encode(verdict)) == golden["windows"]["all_tokens"]


def test_vocabulary_and_end_of_text():
    assert (TOKENIZER.vocab_size, TOKENIZER.eos_id) == (50257, 50256)


def test_special_tokens_only_on_demand():
    assert TOKENIZER.eos_id not in TOKENIZER.encode("a<|endoftext|>b")
    assert TOKENIZER.encode("a<|endoftext|>b", special=True) == [64, 50256, 65]


@settings(deadline=None)
@given(st.text())
def test_decoding_is_lossless(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_state_comes_back_and_fingerprint_follows_it():
    again = tokenizers.from_state(TOKENIZER.state())
    assert again.encode("déjà vu") == TOKENIZER.encode("déjà vu")
    assert tokenizers.fingerprint(again) == tokenizers.fingerprint(TOKENIZER)


@pytest.mark.parametrize(
    "text",
    [
        " " * 3_000_000,
        "\n" * 3_000_000 + "fin",
        "\t " * 1_500_000,
        "a" * 2_000_000,
        "é" * 1_000_000,
        "\0" * 100_000,
    ],
    ids=["espaces", "lignes", "tabulations", "a", "é", "nuls"],
)
def test_no_text_is_too_long_or_too_strange(text):
    tokenizer = TOKENIZER
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_to_numpy(text).tolist() == ids == tokenizer.encode(text, special=True)


def test_a_long_blank_is_cut_where_it_changes_nothing():
    tokenizer = TOKENIZER
    for text in ("a" + " " * 25_000 + "fin", " " * 10_000, "a b\n" * 9_000, "a" * 9_999 + "  b"):
        assert tokenizer.encode(text) == tokenizer._encoding.encode_ordinary(text)
