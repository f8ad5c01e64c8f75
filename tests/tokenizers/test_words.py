import pytest

from gpt_lightning import tokenizers
from gpt_lightning.tokenizers import SimpleTokenizerV1, SimpleTokenizerV2


def test_v1_is_the_original(golden, verdict):
    expected = golden["word_tokenizers"]
    tokenizer = SimpleTokenizerV1().fit([verdict])
    ids = tokenizer.encode(expected["v1_text"])
    assert tokenizer.vocab_size == expected["vocab_size_v1"]
    assert ids == expected["v1_ids"]
    assert tokenizer.decode(ids) == expected["v1_decoded"]


def test_v2_is_the_original(golden, verdict):
    expected = golden["word_tokenizers"]
    tokenizer = SimpleTokenizerV2().fit([verdict])
    ids = tokenizer.encode(expected["v2_text"], special=True)
    assert tokenizer.vocab_size == expected["vocab_size_v2"]
    assert ids == expected["v2_ids"]
    assert tokenizer.decode(ids) == expected["v2_decoded"]


def test_v1_refuses_an_unknown_word_by_its_name():
    with pytest.raises(ValueError, match="« zèbre »"):
        SimpleTokenizerV1().fit(["un chat"]).encode("un zèbre")


def test_v2_special_tokens_only_on_demand():
    tokenizer = SimpleTokenizerV2().fit(["un chat"])
    assert tokenizer.encode("<|endoftext|>", special=True) == [tokenizer.eos_id]
    assert tokenizer.eos_id not in tokenizer.encode("un <|endoftext|> chat")


@pytest.mark.parametrize("kind", [SimpleTokenizerV1, SimpleTokenizerV2])
def test_state_comes_back(kind):
    tokenizer = kind().fit(["un chat, un chien"])
    again = tokenizers.from_state(tokenizer.state())
    assert type(again) is kind and again.encode("un chien") == tokenizer.encode("un chien")


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="inconnu"):
        tokenizers.from_state({"kind": "os.system"})
