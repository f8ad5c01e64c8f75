import math

import torch
from torch import nn

from gpt_lightning.model import GELU, FeedForward, GPTConfig, LayerNorm, RMSNorm
from gpt_lightning.model.layers import SwiGLU

X = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_layer_norm_is_its_formula():
    layer = LayerNorm(12).double()
    nn.init.normal_(layer.scale), nn.init.normal_(layer.shift)
    mean, var = X.mean(-1, keepdim=True), X.var(-1, unbiased=False, keepdim=True)
    torch.testing.assert_close(layer(X), (X - mean) / torch.sqrt(var + 1e-5) * layer.scale + layer.shift)


def test_layer_norm_without_bias_has_no_shift():
    assert [name for name, _ in LayerNorm(12, bias=False).named_parameters()] == ["scale"]


def test_rms_norm_is_its_formula():
    layer = RMSNorm(12).double()
    nn.init.normal_(layer.scale)
    torch.testing.assert_close(layer(X), X / torch.sqrt((X**2).mean(-1, keepdim=True) + 1e-5) * layer.scale)


def test_gelu_is_its_formulas():
    tanh = 0.5 * X * (1 + torch.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))
    torch.testing.assert_close(GELU()(X), tanh)
    torch.testing.assert_close(GELU("none")(X), X * 0.5 * (1 + torch.erf(X / math.sqrt(2))))


def test_feed_forward_is_two_matrices_around_gelu():
    layer = FeedForward(GPTConfig(vocab_size=3, emb_dim=12, n_heads=2)).double()
    first, _, last = layer.layers
    assert first.weight.shape == (48, 12)
    hidden = GELU()(X @ first.weight.T + first.bias)
    torch.testing.assert_close(layer(X), hidden @ last.weight.T + last.bias)


def test_swiglu_is_its_formula():
    layer = SwiGLU(GPTConfig(vocab_size=3, emb_dim=12, n_heads=2, activation="swiglu", bias=False)).double()
    gate = X @ layer.gate.weight.T
    up, _, down = layer.layers
    hidden = gate * torch.sigmoid(gate) * (X @ up.weight.T)
    torch.testing.assert_close(layer(X), hidden @ down.weight.T)
