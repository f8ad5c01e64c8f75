"""L'évaluation : égale au calcul direct, jeton par jeton."""

import math

import pytest
import torch

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.score import Score, score


def model() -> GPTModel:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=50, context_length=16, emb_dim=24, n_heads=2, n_layers=2, vocab_padding=64)
    return GPTModel(config).eval()


@torch.no_grad()
def directly(one: GPTModel, ids: list[int], max_length: int, stride: int) -> float:
    """Chaque jeton prédit à part, dans la fenêtre où il paraît le premier."""
    total = 0.0
    for target in range(1, len(ids)):
        start = 0
        while start + max_length < target:
            start += stride
        logits = one(torch.tensor([ids[start:target]]))[0, -1]
        total -= float(logits.log_softmax(-1)[ids[target]])
    return total / (len(ids) - 1)


@pytest.mark.parametrize("max_length, stride", [(16, 16), (16, 4), (16, 1), (8, 8), (5, 3)])
@pytest.mark.parametrize("n_tokens", [2, 16, 17, 18, 53])
def test_it_equals_the_direct_computation(max_length, stride, n_tokens):
    one = model()
    ids = torch.randint(0, 50, (n_tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    found = score(one, torch.tensor(ids), 99, max_length=max_length, stride=stride, batch_size=3)
    assert found.loss == pytest.approx(directly(one, ids, max_length, stride), rel=1e-5)
    assert found.tokens == n_tokens - 1 and found.bytes == 99


def test_bits_per_byte_and_perplexity():
    found = Score(loss=math.log(2), tokens=30, bytes=60)
    assert found.bits_per_byte == pytest.approx(0.5) and found.perplexity == pytest.approx(2)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"max_length": 17, "stride": 4}, "contexte"),
        ({"max_length": 8, "stride": 9}, "stride"),
        ({"max_length": 8, "stride": 0}, "stride"),
    ],
)
def test_windows_that_do_not_fit_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        score(model(), torch.arange(20), 1, **values)


def test_a_text_without_anything_to_predict_is_refused():
    with pytest.raises(ValueError, match="deux jetons"):
        score(model(), torch.tensor([1]), 1, max_length=8, stride=8)
