import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import tokenizers
from gpt_lightning.tokenizers import ByteTokenizer, CharacterTokenizer

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(TEXTS.filter(bool))
def test_characters_are_lossless(text):
    tokenizer = CharacterTokenizer().fit([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text)) + 1
    assert tokenizers.from_state(tokenizer.state()).encode(text) == tokenizer.encode(text)


@settings(deadline=None)
@given(TEXTS)
def test_bytes_are_lossless(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text) == list(text.encode())


@pytest.mark.parametrize("tokenizer", [CharacterTokenizer().fit(["<|endoftext|> ab"]), ByteTokenizer()])
def test_special_tokens_only_on_demand(tokenizer):
    assert tokenizer.eos_id not in tokenizer.encode("a<|endoftext|>b")
    ids = tokenizer.encode("a<|endoftext|>b<|endoftext|>", special=True)
    assert ids.count(tokenizer.eos_id) == 2 and len(ids) == 4
    assert tokenizer.decode(ids) == "a<|endoftext|>b<|endoftext|>"


def test_an_unknown_character_is_named():
    with pytest.raises(ValueError, match="'é'"):
        CharacterTokenizer().fit(["abc"]).encode("été")


def test_incomplete_bytes_are_replaced():
    assert ByteTokenizer().decode([0xC3]) == "\ufffd"


def test_a_tiktoken_name_is_checked_and_offline_is_said(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="o200k_base"):
        tokenizers.named("rien")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    with pytest.raises(ValueError, match="TIKTOKEN_CACHE_DIR"):
        tokenizers.named("cl100k_base")
