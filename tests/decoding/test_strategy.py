import pytest
import torch

from gpt_lightning.decoding import Strategy
from gpt_lightning.decoding.strategy import check_numbers


def logits(n=6, size=50) -> torch.Tensor:
    return 3 * torch.randn(n, size, generator=torch.Generator().manual_seed(2))


def draw(strategy: Strategy, n=200) -> torch.Tensor:
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(3))
    return strategy.pick(logits(1).expand(n, -1), uniforms)


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(temperature=0),
        Strategy(top_k=1),
        Strategy(top_p=0),
        Strategy(temperature=1e-4),
        Strategy(top_p=1e-9),
        Strategy(min_p=1),
    ],
)
def test_limits_are_greedy(strategy):
    chosen = strategy.pick(logits(), torch.rand(6))
    assert chosen.tolist() == logits().argmax(-1).tolist()


def test_identities():
    for strategy in (
        Strategy(),
        Strategy(top_k=50),
        Strategy(top_p=1.0),
        Strategy(top_k=10**6, top_p=1, min_p=0, typical_p=1),
    ):
        torch.testing.assert_close(strategy(logits()), logits())


def test_probabilities_sum_to_one():
    for strategy in (
        Strategy(temperature=0.3),
        Strategy(top_k=7),
        Strategy(temperature=2, top_k=30, top_p=0.8),
    ):
        torch.testing.assert_close(strategy(logits()).softmax(-1).sum(-1), torch.ones(6))


DRAWN = {
    "top_k": Strategy(temperature=1.5, top_k=8),
    "top_p": Strategy(temperature=4.0, top_p=0.5),
    "min_p": Strategy(temperature=2.0, min_p=0.2),
    "typical_p": Strategy(temperature=4.0, typical_p=0.4),
}


@pytest.mark.parametrize("strategy", DRAWN.values(), ids=DRAWN)
def test_draws_follow_the_distribution(strategy):
    n = 100_000
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(4))
    row = logits(1)
    expected = strategy(row).softmax(-1)[0] * n
    counts = torch.bincount(strategy.pick(row.expand(n, -1), uniforms), minlength=50)
    assert not counts[expected == 0].any()
    inside = expected > 0
    chi2 = ((counts[inside] - expected[inside]) ** 2 / expected[inside]).sum()
    freedom = int(inside.sum()) - 1
    assert (
        freedom >= 3 and chi2 < freedom + 3.1 * (2 * freedom) ** 0.5 + 6
    )  # dépassé moins d'une fois sur mille


def test_extreme_uniforms_give_a_possible_token():
    strategy = Strategy(top_k=3)
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    possible = strategy(logits()) > float("-inf")
    for uniform in (torch.zeros(6), largest.expand(6)):
        chosen = strategy.pick(logits(), uniform)
        assert possible[torch.arange(6), chosen].all()


def test_nan_is_said():
    with pytest.raises(ValueError, match="NaN"):
        check_numbers(torch.full((1, 4), float("nan")))


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -1},
        {"temperature": "chaud"},
        {"temperature": None},
        {"top_k": -2},
        {"top_k": False},
        {"top_k": 2.5},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"min_p": 2},
        {"typical_p": -0.1},
        {"repetition_penalty": 0},
        {"repetition_penalty": None},
        {"no_repeat_ngram": -2},
        {"lookup_ngram": -2, "temperature": 0},
        {"num_beams": 0},
        {"num_beams": 2, "temperature": 0.5},
        {"length_penalty": "longue"},
        {"lookup_ngram": 2, "temperature": 1.0},
        {"lookup_ngram": 2, "temperature": 0, "num_beams": 2},
    ],
)
def test_impossible_values_are_refused_by_name(values):
    with pytest.raises(ValueError, match=f"decoding.{next(iter(values))}"):
        Strategy(**values)


@pytest.mark.parametrize("name", ["top_k", "no_repeat_ngram", "lookup_ngram"])
@pytest.mark.parametrize("count", [0, -1])
def test_a_count_of_nothing_is_off(name, count):
    assert Strategy(temperature=0, **{name: count}) == Strategy(temperature=0)


@pytest.mark.parametrize("temperature", [0.0, -0.0, 1e-8, 1e-300, 5e-324])
def test_a_temperature_of_almost_nothing_is_greedy(temperature):
    assert (
        Strategy(temperature=temperature) == Strategy(temperature=0)
        and Strategy(temperature=temperature).greedy
    )
    assert Strategy(temperature=temperature, num_beams=2, lookup_ngram=0).num_beams == 2


def test_filters_come_in_the_order_of_the_fields():
    """La température vient avant le noyau : plus elle est haute, plus le noyau est grand."""
    sizes = [(Strategy(temperature=t, top_p=0.5)(logits()) > float("-inf")).sum().item() for t in (0.5, 1, 3)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]


def test_a_strategy_that_rereads_asks_for_the_text():
    with pytest.raises(ValueError, match="jetons"):
        Strategy(repetition_penalty=1.2)(logits())
    ids = logits().argmax(-1)[:, None]
    greedy = Strategy(temperature=0, repetition_penalty=1e6)
    assert (greedy.pick(logits(), torch.rand(6), ids) != ids[:, 0]).all()
