import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import tokenizers
from gpt_lightning.tokenizers.trained import TrainedTokenizer, fast_merges, teaching_merges

pytest.importorskip("tokenizers")
TEXT = (
    "Le chat dort, le chien veille ; l'été, les chats dorment et les chiens veillent. " * 5
    + "déjà vu, déjà dit !"
)
TOKENIZER = TrainedTokenizer(300).fit([TEXT])


@pytest.mark.parametrize("n_merges", [1, 10, 43, 120])
def test_the_teaching_page_learns_the_same_merges(n_merges):
    assert teaching_merges(TEXT, n_merges) == fast_merges([TEXT], n_merges)


@settings(deadline=None)
@given(st.text())
def test_decoding_is_lossless(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_size_and_state():
    assert (TrainedTokenizer(300).vocab_size, TOKENIZER.vocab_size, TOKENIZER.eos_id) == (0, 300, 299)
    again = tokenizers.from_state(TOKENIZER.state())
    assert again.encode(TEXT) == TOKENIZER.encode(TEXT) and len(again.encode(TEXT)) < len(TEXT.encode()) / 2


def test_exported_files_encode_the_same(tmp_path):
    import tiktoken
    from tokenizers import Tokenizer

    json_path, ranks_path = TOKENIZER.save(tmp_path)
    assert Tokenizer.from_file(str(json_path)).encode(TEXT).ids == TOKENIZER.encode(TEXT)
    ranks = {base64.b64decode(t): int(r) for t, r in map(str.split, ranks_path.read_text().splitlines())}
    again = tiktoken.Encoding(
        "x", pat_str=tokenizers.bpe.GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    assert again.encode_ordinary(TEXT) == TOKENIZER.encode(TEXT)


@pytest.mark.parametrize("size", [256, "grand", None])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match="tokenizer.size"):
        TrainedTokenizer(size)


def test_an_exported_model_carries_its_tokenizer(tmp_path):
    from gpt_lightning import weights
    from gpt_lightning.model import GPTConfig, GPTModel
    from gpt_lightning.weights.exporting import export

    model = GPTModel(GPTConfig(vocab_size=300, context_length=8, emb_dim=8, n_heads=2, n_layers=1))
    files = export(model, TOKENIZER, tmp_path, "hf")
    assert {"tokenizer.json", "vocab.tiktoken", "vocab.json", "merges.txt"} <= set(files)
    assert weights.load(str(tmp_path))[1].encode(TEXT) == TOKENIZER.encode(TEXT)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert theirs.encode(TEXT) == TOKENIZER.encode(TEXT)
