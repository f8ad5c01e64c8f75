import pytest
import torch
from torch import nn

from gpt_lightning.model import GPTConfig, reference
from gpt_lightning.model.gpt import FeedForward, LayerNorm
from gpt_lightning.model.variants import SwiGLU

X = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def config(**values) -> GPTConfig:
    return GPTConfig(**{"vocab_size": 3, "emb_dim": 12, "n_heads": 2, **values})


def drawn(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.double()


def test_layer_norm_without_bias_has_no_shift():
    assert [name for name, _ in LayerNorm(config(bias=False)).named_parameters()] == ["scale"]


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_feed_forward_is_two_matrices_around_gelu(activation):
    layer = drawn(FeedForward(config(activation=activation)))
    first, _, last = layer.layers
    assert first.weight.shape == (48, 12)
    hidden = getattr(reference, activation)(X @ first.weight.T + first.bias)
    torch.testing.assert_close(layer(X), hidden @ last.weight.T + last.bias)


def test_swiglu_is_its_formula():
    layer = drawn(SwiGLU(config(activation="swiglu", bias=False)))
    up, down = layer.layers["0"], layer.layers["2"]
    hidden = reference.silu(X @ layer.gate.weight.T) * (X @ up.weight.T)
    torch.testing.assert_close(layer(X), hidden @ down.weight.T)
