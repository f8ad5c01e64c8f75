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


SPREADS = (0.5, 3.0, 20.0)  # presque plate : le noyau est grand ; très pointue : un ou deux jetons


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.999, 0.99999999, 1.0])
@pytest.mark.parametrize("spread", SPREADS)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, spread):
    logits = rows(spread=spread)
    probas = logits.softmax(-1)
    for row, original in zip(filters.keep_top_p(logits, p) > NEVER, probas, strict=True):
        inside, outside = original[row], original[~row]
        assert len(inside) >= 1 and inside.sum() >= p - 1e-6
        assert len(inside) == 1 or inside.sum() - inside.min() < p + 1e-6
        assert not len(outside) or outside.max() <= inside.min()


def test_equal_tokens_share_their_fate():
    logits = torch.zeros(1, 1000)
    logits[0, :3] = 2.0
    assert (filters.keep_top_p(logits, 0.01) > NEVER).sum() == 3
    assert (filters.keep_top_p(logits, 0.5) > NEVER).all()


@pytest.mark.parametrize("p", [0.05, 0.3, 1.0])
def test_min_p_keeps_what_is_p_times_as_likely_as_the_first(p):
    probas = rows().softmax(-1)
    kept = filters.keep_min_p(rows(), p) > NEVER
    ratio = probas / probas.amax(-1, keepdim=True)
    assert kept[ratio > p * 1.0001].all() and not kept[ratio < p * 0.9999].any() and kept.any(-1).all()


@pytest.mark.parametrize("p", [0.2, 0.9])
def test_typical_p_keeps_the_closest_to_the_entropy(p):
    log_probas = rows().double().log_softmax(-1)
    entropy = -(log_probas.exp() * log_probas).sum(-1, keepdim=True)
    distance = (log_probas + entropy).abs()
    kept = filters.keep_typical_p(rows(), p) > NEVER
    for inside, far, probas in zip(kept, distance, log_probas.exp(), strict=True):
        assert far[inside].max() <= far[~inside].min() + 1e-6
        assert probas[inside].sum() >= p - 1e-6
        assert probas[inside].sum() - probas[inside & (far >= far[inside].max() - 1e-6)].sum() < p


def test_repetition_penalty_lowers_what_was_written_and_nothing_else():
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.5]])
    changed = filters.penalise_repetitions(logits, torch.tensor([[-1, 0, 1, 1]]), 4.0)
    assert changed.tolist() == [[0.5, -8.0, 1.0, 0.5]]


@pytest.mark.parametrize("start, counted", [(None, [0, 1, 3]), (3, [0, 1, 1]), (5, [0, 0, 0])])
def test_presence_and_frequency_count_what_was_written(start, counted):
    ids, logits = torch.tensor([[-1, 2, 2, 1, 2]]), torch.zeros(1, 3)
    changed = decoding.Strategy(presence_penalty=1.5, frequency_penalty=0.25).penalise(logits, ids, start)
    assert changed.tolist() == [[-(1.5 * (n > 0) + 0.25 * n) for n in counted]]


def test_a_repeated_ngram_is_forbidden():
    ids = torch.tensor([[1, 2, 3, 1, 2], [-1, -1, 5, 1, 2]])
    kept = filters.forbid_repeated_ngrams(torch.zeros(2, 6), ids, 3) > NEVER
    assert kept[0].tolist() == [True, True, True, False, True, True] and kept[1].all()
    single = filters.forbid_repeated_ngrams(torch.zeros(2, 6), ids, 1) > NEVER
    assert single.tolist() == [
        [True, False, False, False, True, True],
        [True, False, False, True, True, False],
    ]
    everything = torch.arange(6)[None]
    assert (filters.forbid_repeated_ngrams(torch.zeros(1, 6), everything, 1) == 0).all()


KEEP = {
    "top_k": lambda x: filters.keep_top_k(x, 5),
    "top_p": lambda x: filters.keep_top_p(x, 0.7),
    "min_p": lambda x: filters.keep_min_p(x, 0.1),
    "typical_p": lambda x: filters.keep_typical_p(x, 0.7),
}


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
@pytest.mark.parametrize("spread", SPREADS)
def test_one_row_does_not_change_another(keep, spread):
    logits = rows(spread=spread)
    alone = torch.cat([keep(row[None]) for row in logits])
    torch.testing.assert_close(keep(logits), alone)


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_no_filter_empties_a_row_or_changes_what_it_keeps(keep):
    for logits in (rows(), keep(rows()), torch.zeros(2, 50), filters.keep_top_k(rows(), 1)):
        kept = keep(logits)
        assert (kept > NEVER).any(-1).all()
        assert torch.equal(kept[kept > NEVER], logits[kept > NEVER])


def test_filters_of_one_threshold_commute():
    for first, second in (("top_k", "min_p"), ("min_p", "top_k")):
        torch.testing.assert_close(KEEP[first](KEEP[second](rows())), KEEP[second](KEEP[first](rows())))


def processors():
    from transformers.generation import logits_process as hf

    return {
        "temperature": (lambda g: g.uniform(0.1, 3), hf.TemperatureLogitsWarper, filters.with_temperature),
        "top_k": (lambda g: g.randint(1, 60), hf.TopKLogitsWarper, filters.keep_top_k),
        "top_p": (lambda g: g.uniform(0.01, 0.99), hf.TopPLogitsWarper, filters.keep_top_p),
        "min_p": (lambda g: g.uniform(0.01, 0.99), hf.MinPLogitsWarper, filters.keep_min_p),
        "typical_p": (lambda g: g.uniform(0.05, 0.99), hf.TypicalLogitsWarper, filters.keep_typical_p),
    }


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "typical_p"])
def test_two_hundred_random_cases_equal_transformers(name):
    import random

    value_of, theirs, ours = processors()[name]
    draw, generator = random.Random(5), torch.Generator().manual_seed(5)
    for _ in range(200):
        value, size = value_of(draw), draw.choice([50, 400, 3000])
        logits = draw.choice([0.3, 2.0, 10.0]) * torch.randn(3, size, generator=generator)
        torch.testing.assert_close(
            ours(logits, value), theirs(value)(None, logits.clone()), msg=f"{name}={value}"
        )


@pytest.mark.parametrize("name", ["repetition_penalty", "no_repeat_ngram"])
def test_two_hundred_random_texts_equal_transformers(name):
    import random

    from transformers.generation import logits_process as hf

    draw, generator = random.Random(6), torch.Generator().manual_seed(6)
    for _ in range(200):
        size, length = draw.randint(20, 80), draw.randint(1, 60)
        ids = torch.randint(0, min(size, 9), (3, length), generator=generator)
        logits = 3 * torch.randn(3, size, generator=generator)
        if name == "repetition_penalty":
            value = draw.uniform(0.5, 2)
            theirs = hf.RepetitionPenaltyLogitsProcessor(value)(ids, logits.clone())
            ours = filters.penalise_repetitions(logits, ids, value)
        else:
            value = draw.randint(1, 4)
            theirs = hf.NoRepeatNGramLogitsProcessor(value)(ids, logits.clone())
            ours = filters.forbid_repeated_ngrams(logits, ids, value)
        torch.testing.assert_close(ours, theirs, msg=f"{name}={value}")


@pytest.mark.parametrize("keep", [filters.keep_top_p, filters.keep_typical_p])
def test_a_sum_that_rounding_never_reaches_keeps_nearly_everything(keep):
    logits = 0.5 * torch.randn(2, 50_257, generator=torch.Generator().manual_seed(7))
    assert ((keep(logits, 0.9999999999) > NEVER).sum(-1) > 49_000).all()
