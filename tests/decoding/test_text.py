import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import tokenizers
from gpt_lightning.decoding import Strategy, TextStream
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


def model(tokenizer=TOKENIZER) -> GPTModel:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=tokenizer.vocab_size, context_length=32, emb_dim=8, n_heads=1, n_layers=1)
    return GPTModel(config).eval()


def test_an_empty_prompt_starts_at_end_of_text():
    stream = TextStream(model(), TOKENIZER, [""], strategy=Strategy(top_k=50), max_new_tokens=5, seed=1)
    text = "".join(part for _, part in stream)
    (row,) = stream.rows
    assert text == row.text == TOKENIZER.decode(row.ids) and len(row.ids) == 5 and row.reason == "length"


def test_rows_are_those_of_each_prompt_alone():
    prompts, options = ["Il était", "Le chat dort, le chien", ""], {"max_new_tokens": 12, "seed": 4}
    strategy = Strategy(temperature=1.0, top_k=20)
    whole = TextStream(model(), TOKENIZER, prompts, strategy=strategy, num_samples=2, **options)
    parts = {}
    for row, text in whole:
        parts[row] = parts.get(row, "") + text
    assert [parts[row] for row in range(6)] == [row.text for row in whole.rows]
    for index, prompt in enumerate(prompts):
        alone = TextStream(
            model(), TOKENIZER, [prompt], strategy=strategy, num_samples=2, first_row=2 * index, **options
        )
        list(alone)
        assert [row.text for row in alone.rows] == [row.text for row in whole.rows[2 * index : 2 * index + 2]]


def test_a_stop_text_ends_its_row_and_is_not_shown():
    options = {"strategy": Strategy(temperature=1.0), "max_new_tokens": 30, "seed": 2}
    free = TextStream(model(), TOKENIZER, ["Un"], **options)
    list(free)
    stop = free.rows[0].text[20:23]
    stopped = TextStream(model(), TOKENIZER, ["Un"], stop=[stop], **options)
    text = "".join(part for _, part in stopped)
    assert stopped.rows[0].reason == "stop" and text == free.rows[0].text.partition(stop)[0]


def test_a_prompt_longer_than_the_context_keeps_its_end():
    long = "un deux trois quatre " * 30
    stream = TextStream(model(), TOKENIZER, [long], strategy=Strategy(temperature=0), max_new_tokens=3)
    list(stream)
    ids = TOKENIZER.encode(long)
    end = TextStream(
        model(), TOKENIZER, [TOKENIZER.decode(ids[-32:])], strategy=Strategy(temperature=0), max_new_tokens=3
    )
    list(end)
    assert stream.rows[0].unread == len(ids) - 32 and stream.rows[0].ids == end.rows[0].ids


def test_a_stopped_iteration_keeps_what_was_written():
    stream = TextStream(model(), TOKENIZER, ["a"], strategy=Strategy(top_k=5), max_new_tokens=50, seed=1)
    for _ in stream:
        break
    assert len(stream.rows[0].ids) >= 1 and stream.rows[0].reason is None


def test_nothing_to_write_is_said_to_be_finished():
    stream = TextStream(model(), TOKENIZER, ["a"], strategy=Strategy(), max_new_tokens=0)
    assert list(stream) == [] and stream.rows[0].reason == "length"
