import pytest
import torch

from gpt_lightning import decoding
from gpt_lightning.decoding import filters

NEVER = float("-inf")


@pytest.fixture
def logits(golden) -> torch.Tensor:
    return torch.tensor(golden["decoding"]["logits"])


def test_original_temperatures(golden, logits):
    for temperature, expected in golden["decoding"]["temperature"].items():
        found = decoding.softmax_avec_temperature(logits, float(temperature))
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "kind, function", [("top_k", decoding.top_k_sampling), ("top_p", decoding.top_p_sampling)]
)
def test_original_filters(kind, function, golden, logits):
    for name, expected in golden["decoding"][kind].items():
        amount, temperature = (float(part.split("=")[1]) for part in name.split(","))
        found = function(logits, int(amount) if kind == "top_k" else amount, temperature)
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=1e-5, msg=name)


def test_original_draw(logits):
    probas = decoding.top_k_sampling(logits, 2)
    drawn = {int(decoding.echantillonner_multinomial(probas)) for _ in range(50)}
    assert drawn == {3, 7}


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_original_functions_refuse_a_null_temperature(logits, temperature):
    for call in (
        lambda: decoding.softmax_avec_temperature(logits, temperature),
        lambda: decoding.top_k_sampling(logits, 2, temperature),
        lambda: decoding.top_p_sampling(logits, 0.5, temperature),
    ):
        with pytest.raises(ValueError, match="temperature"):
            call()


def rows(n=20, size=300, spread=3.0) -> torch.Tensor:
    return spread * torch.randn(n, size, generator=torch.Generator().manual_seed(1))


def test_top_k_keeps_the_k_largest():
    kept = filters.keep_top_k(rows(), 7) > NEVER
    assert (kept.sum(-1) == 7).all()
    assert (rows().masked_fill(~kept, NEVER).amax(-1) == rows().amax(-1)).all()
    torch.testing.assert_close(filters.keep_top_k(rows(), 10_000), rows())


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("first", [1, 16, 300])
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, first):
    logits = rows()
    kept = filters.keep_top_p(logits, p, first=first)
    probas = logits.softmax(-1)
    for row, original in zip(kept, probas, strict=True):
        inside = original[row > NEVER]
        assert len(inside) >= 1 and inside.sum() >= p - 1e-6
        assert len(inside) == 1 or inside.sum() - inside.min() < p + 1e-6
        outside = original[row == NEVER]
        assert not len(outside) or outside.max() <= inside.min()


def test_one_row_does_not_change_another():
    logits = rows()
    for keep in (lambda x: filters.keep_top_k(x, 5), lambda x: filters.keep_top_p(x, 0.7)):
        alone = torch.cat([keep(row[None]) for row in logits])
        torch.testing.assert_close(keep(logits), alone)
