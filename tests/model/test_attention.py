import torch

from gpt_lightning.model import GPTConfig, MultiHeadAttention, reference
from gpt_lightning.model.init import initialise
from gpt_lightning.model.variants import RotaryPositions


def attention(**values) -> MultiHeadAttention:
    torch.manual_seed(0)
    config = GPTConfig(**{"vocab_size": 3, "emb_dim": 24, "n_heads": 3, **values})
    layer = MultiHeadAttention(config)
    initialise(layer)
    return layer.double().eval()


def test_attention_is_its_formula():
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    for values in ({}, {"qkv_bias": False, "bias": False}):
        layer = attention(**values)
        q, k, v = (layer._heads(project(x)) for project in (layer.W_query, layer.W_key, layer.W_value))
        heads = reference.attention(q, k, v, None, 0.0)
        expected = layer.out_proj(heads.transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer(x, torch.arange(7)), expected)


def test_the_future_changes_nothing():
    layer, x = attention(), torch.randn(1, 8, 24, dtype=torch.float64)
    changed = x.clone()
    changed[:, 5:] = 9.0
    before, after = layer(x, torch.arange(8)), layer(changed, torch.arange(8))
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_weights_sum_to_one_and_explain_the_output():
    layer, x = attention(), torch.randn(2, 6, 24, dtype=torch.float64)
    weights = layer.weights(x, torch.arange(6))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 6, dtype=torch.float64))
    assert (weights.triu(1) == 0).all()
    context = weights @ layer._heads(layer.W_value(x))
    torch.testing.assert_close(layer.out_proj(context.transpose(1, 2).flatten(2)), layer(x, torch.arange(6)))


def test_rotation_depends_on_the_distance_only():
    rotary = RotaryPositions(GPTConfig(vocab_size=3, emb_dim=24, n_heads=3, positions="rope"))
    q, k = torch.randn(2, 1, 1, 1, 8)
    at = lambda p: torch.tensor([p])  # noqa: E731
    products = [(rotary(q, at(p + 4)) * rotary(k, at(p))).sum() for p in (0, 3, 50)]
    torch.testing.assert_close(products[0], products[1])
    torch.testing.assert_close(products[0], products[2], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(products[0], (rotary(q, at(5)) * rotary(k, at(0))).sum())


def test_rotation_is_a_complex_product():
    config = GPTConfig(vocab_size=3, emb_dim=8, n_heads=1, positions="rope")
    x, positions = torch.randn(1, 1, 5, 8), torch.arange(5)
    pairs = torch.complex(x[..., :4], x[..., 4:])
    angles = positions[:, None] * (10_000.0 ** (-torch.arange(4) / 4))
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(
        RotaryPositions(config)(x, positions), torch.cat((turned.real, turned.imag), -1)
    )
