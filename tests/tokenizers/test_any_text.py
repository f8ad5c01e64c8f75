"""Tous les tokenizers devant n'importe quel texte : des jetons qui redonnent le texte, ou une phrase."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt_lightning import tokenizers
from gpt_lightning.errors import UserError
from tests.tokenizers.test_huggingface import llama3

LEARNT = ["Le chat dort, l'été 😀 ; « oui » : 3 < 4. " * 20]
KINDS = {
    "gpt2": tokenizers.gpt2(),
    "bytes": tokenizers.ByteTokenizer(),
    "trained": tokenizers.TrainedTokenizer(size=300).fit(LEARNT),
    "characters": tokenizers.CharacterTokenizer().fit(LEARNT),
    "words_v1": tokenizers.SimpleTokenizerV1().fit(LEARNT),
    "words_v2": tokenizers.SimpleTokenizerV2().fit(LEARNT),
    "huggingface": tokenizers.HuggingFaceTokenizer(llama3()[0].to_str(), "<|end_of_text|>"),
}
LOSSLESS = ("gpt2", "bytes", "trained", "huggingface")
ODD = [
    "\0\x01\x7f\x85",
    "\ufeff\u200b\u200d\u2028\u2029",
    "e\u0301\u0301\u0301" * 50,
    "<|endoftext|><|unk|>",
    "👩‍👩‍👧‍👦🇫🇷",
    "\u202eà l'envers",
    "\U0010ffff\ue000",
    " " * 20_000,
    "\n" * 20_000,
    "a" * 20_000,
    "é" * 20_000,
    "1" * 20_000,
    " \t" * 20_000,
    "!?" * 20_000,
    "\u3000" * 20_000,
]


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text)[:12])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts(kind, text):
    one = KINDS[kind]
    try:
        ids = one.encode(text)
    except UserError as refused:
        assert kind not in LOSSLESS and len(str(refused)) < 500
        return
    assert all(0 <= token < one.vocab_size for token in ids)
    if kind in LOSSLESS:
        assert one.decode(ids) == text
        assert (
            one.eos_id is None or one.eos_id not in ids
        )  # jamais un jeton spécial pour le texte de quelqu'un


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@example("\ud83d")
@example("a\udc00")
@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_text_even_halves_of_characters(kind, text):
    one = KINDS[kind]
    try:
        ids = one.encode(text)
    except UserError:
        assert kind not in LOSSLESS
        return
    decoded = one.decode(ids)
    if kind in LOSSLESS:  # une moitié seule devient U+FFFD, le reste ne change pas
        assert decoded == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    decoded.encode("utf-8")
