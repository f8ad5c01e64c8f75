"""Les noyaux fusionnés de torch calculent les formules de reference.py, opération par opération et modèle entier."""

import pytest
import torch

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.fast.kernels import KERNELS, Kernels

FUSED, REFERENCE = KERNELS["fused"], KERNELS["reference"]
OPTIONS = [
    {},
    {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope", "tie_weights": False},
    {"activation": "gelu", "bias": False, "qkv_bias": False, "vocab_padding": 8},
]


def drawn(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


X = drawn(2, 5, 12)
Q, K, V = drawn(2, 3, 5, 4), drawn(2, 3, 7, 4), drawn(2, 3, 7, 8)
MASK = torch.ones(5, 7, dtype=torch.bool).tril(2)[None, None]
INPUTS = {
    "layer_norm": (X, drawn(12), drawn(13)[:12], 1e-5),
    "layer_norm sans décalage": (X, drawn(12), None, 1e-5),
    "rms_norm": (X, drawn(12), 1e-5),
    "gelu": (X,),
    "gelu_tanh": (X,),
    "silu": (X,),
    "attention": (Q, K[:, :, :5], V[:, :, :5], None, 0.0),
    "attention masquée": (Q, K, V, MASK, 0.0),
    "cross_entropy": (drawn(2, 5, 11), torch.arange(10).view(2, 5)),
}


def test_every_operation_is_compared():
    assert {name.split()[0] for name in INPUTS} | {"head_loss"} == set(Kernels._fields)


@pytest.mark.parametrize("name", INPUTS)
def test_a_kernel_is_its_formula_and_so_is_its_gradient(name):
    operation, inputs = name.split()[0], INPUTS[name]
    wanted, found = (getattr(kernels, operation)(*inputs) for kernels in (REFERENCE, FUSED))
    torch.testing.assert_close(found, wanted.to(found.dtype))
    leaves = [one for one in inputs if isinstance(one, torch.Tensor) and one.requires_grad]
    gradients = [torch.autograd.grad(value.sum(), leaves, retain_graph=True) for value in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_model_of_formulas_is_the_model_of_kernels(options):
    shape = {"vocab_size": 61, "context_length": 16, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
    models = []
    for kernels in ("fused", "reference"):
        torch.manual_seed(0)
        models.append(GPTModel(GPTConfig(**shape, **options, kernels=kernels)))
    assert list(models[0].state_dict()) == list(models[1].state_dict())
    ids, targets = torch.randint(61, (2, 3, 16), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(models[0](ids), models[1](ids), atol=1e-5, rtol=1e-5)
    losses = [model.loss(ids, targets) for model in models]
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    gradients = [
        torch.autograd.grad(loss, model.parameters()) for loss, model in zip(losses, models, strict=True)
    ]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_the_dropout_of_the_formula_keeps_the_mean():
    ones = torch.ones(1, 1, 64, 64)
    torch.manual_seed(0)
    out = torch.stack([REFERENCE.attention(ones, ones, ones, None, 0.3) for _ in range(20)])
    assert out.std() > 0.01 and abs(float(out.mean()) - 1) < 0.02
