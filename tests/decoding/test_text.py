import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import tokenizers
from gpt_lightning.decoding import Strategy, stream_text
from gpt_lightning.decoding.text import GrowingText
from gpt_lightning.model import GPTConfig, GPTModel

TOKENIZER = tokenizers.gpt2()


@settings(deadline=None)
@given(st.text(max_size=40))
def test_parts_make_the_text_and_are_never_half_characters(text):
    grown = GrowingText(TOKENIZER.decode)
    parts = [grown.push(token) for token in TOKENIZER.encode(text)]
    assert "".join(parts) + grown.finish() == text
    assert all("\ufffd" not in part for part in parts) or "\ufffd" in text


def test_a_character_on_two_tokens_waits_for_the_second():
    ids = TOKENIZER.encode("ẽ")
    assert len(ids) > 1
    grown = GrowingText(TOKENIZER.decode)
    assert [grown.push(token) for token in ids] == [""] * (len(ids) - 1) + ["ẽ"]


def test_a_beginning_of_stop_is_held_back_and_the_stop_never_shown():
    grown = GrowingText(lambda ids: "".join(map(chr, ids)), stop=["FIN"])
    parts = [grown.push(ord(c)) for c in "oF, FInal FIN encore"]
    assert "".join(parts) == "oF, FInal " and grown.stopped
    assert grown.finish() == ""


def test_held_back_text_is_shown_at_the_end():
    grown = GrowingText(lambda ids: "".join(map(chr, ids)), stop=["FIN"])
    assert "".join(grown.push(ord(c)) for c in "la FI") == "la "
    assert grown.finish() == "FI"


def test_stream_text_from_an_empty_prompt_starts_at_end_of_text():
    torch.manual_seed(0)
    model = GPTModel(GPTConfig(vocab_size=50257, emb_dim=8, n_heads=1, n_layers=1)).eval()
    summary = {}
    text = "".join(
        stream_text(
            model, TOKENIZER, "", strategy=Strategy(top_k=50), max_new_tokens=5, seed=1, summary=summary
        )
    )
    assert text and summary == {"tokens": 5, "reason": "length"}
