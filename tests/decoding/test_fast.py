"""Ce qui ne sert que la vitesse : filtrer sans tri, et les premiers candidats seulement, donne les mêmes jetons."""

import pytest
import torch

from gpt_lightning import Strategy
from gpt_lightning.decoding import fast, filters

STRATEGIES = [
    Strategy(top_k=1),
    Strategy(top_k=50, temperature=0.7),
    Strategy(top_p=0.9, temperature=0.8),
    Strategy(top_p=0.0),
    Strategy(top_k=40, top_p=0.5),
    Strategy(min_p=0.1),
    Strategy(top_k=100, top_p=0.95, min_p=0.01, temperature=1.3),
    Strategy(top_p=0.9, repetition_penalty=1.3, no_repeat_ngram=2),
]


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_candidates_suffice_or_are_not_used(strategy, sharpness, dtype, monkeypatch):
    generator = torch.Generator().manual_seed(int(sharpness * 10))
    logits = (sharpness * torch.randn(6, 3000, generator=generator)).to(dtype)  # en bf16, des ex æquo
    written = torch.randint(3000, (6, 8), generator=generator)
    uniforms = [torch.rand(6, generator=generator) for _ in range(20)] + [
        torch.zeros(6),
        torch.full((6,), 1 - 2**-24),
    ]
    found = [strategy.pick(logits, uniform, written) for uniform in uniforms]
    monkeypatch.setattr(fast, "FIRST", 10**9)
    wanted = [strategy.pick(logits, uniform, written) for uniform in uniforms]
    different = sum((a != b).sum().item() for a, b in zip(found, wanted, strict=True))
    assert different <= 1, different  # un nombre tombé à l'arrondi près sur une frontière


def test_they_are_used_when_the_nucleus_is_small(monkeypatch):
    logits = 12 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    seen = []
    whole = Strategy._filter
    monkeypatch.setattr(
        Strategy, "_filter", lambda self, x, *rest: seen.append(x.shape[-1]) or whole(self, x, *rest)
    )
    Strategy(top_p=0.9).pick(logits, torch.rand(2))
    assert seen == [fast.FIRST]


@pytest.mark.parametrize("name", ["keep_top_p", "keep_typical_p"])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("sharpness", [0.0, 0.1, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("size", [50, 3000, 50_257])
def test_without_sorting_the_same_tokens_are_kept(name, p, sharpness, size):
    """Plate, la distribution passe par l'histogramme ; pointue, par les premiers candidats."""
    logits = sharpness * torch.randn(3, size, generator=torch.Generator().manual_seed(size))
    assert torch.equal(getattr(fast, name)(logits, p), getattr(filters, name)(logits, p))
