"""Ce qui est annoncé en bf16 se calcule en bf16 : aucun produit de matrices ne reste en float32 sans le dire."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpt_lightning import Strategy
from gpt_lightning.decoding import TextStream
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.fast.attention import causal_attention
from gpt_lightning.model.fast.kernels import KERNELS
from gpt_lightning.tokenizers import ByteTokenizer

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "scaled_dot_product", "flash_attention", "addmm_")


class Seen(TorchDispatchMode):
    """Note le type des opérandes de chaque produit de matrices."""

    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, torch.dtype]] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        if any(one in name for one in PRODUCTS):
            tensors = [one for one in arguments if isinstance(one, torch.Tensor) and one.dim() > 1]
            self.found += [(name, one.dtype) for one in tensors if one.is_floating_point()]
        return function(*arguments, **(options or {}))


def model(**values) -> GPTModel:
    torch.manual_seed(0)
    shape = {"vocab_size": 257, "context_length": 32, "emb_dim": 32, "n_heads": 2, "n_layers": 2}
    return GPTModel(GPTConfig(**shape, **values))


def batch():
    ids = torch.randint(257, (2, 17), generator=torch.Generator().manual_seed(0))
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize(
    "values", [{}, {"drop_rate": 0.1}, {"positions": "rope", "activation": "swiglu"}], ids=str
)
@pytest.mark.parametrize("what", ["entraînement", "validation"])
def test_every_product_of_a_bf16_step_is_in_bf16(values, what):
    net, seen = model(**values).train(what == "entraînement"), Seen()
    with seen:
        with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(what == "entraînement"):
            loss = net.loss(*batch())
        if what == "entraînement":
            loss.backward()
    assert loss.dtype == torch.float32
    assert len(seen.found) > 10 and {dtype for _, dtype in seen.found} == {torch.bfloat16}, set(seen.found)


def test_a_float32_step_stays_in_float32():
    net, seen = model().train(), Seen()
    with seen:
        net.loss(*batch()).backward()
    assert {dtype for _, dtype in seen.found} == {torch.float32}


def test_a_sample_of_a_bf16_run_is_in_bf16():
    seen = Seen()
    with seen, torch.autocast("cpu", torch.bfloat16):
        stream = TextStream(model().eval(), ByteTokenizer(), ["un"], strategy=Strategy(), max_new_tokens=4)
        for _ in stream:
            pass
    assert {dtype for _, dtype in seen.found} == {torch.bfloat16}


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float64, 1e-9)]
)
def test_attention_by_products_is_the_formula(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 9, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]
    grad = torch.randn(2, 3, 9, 8, generator=generator).to(dtype)
    exact = [one.detach().double().requires_grad_() for one in inputs]
    found = causal_attention(*inputs, 0.0)
    wanted = KERNELS["reference"].attention(*exact, None, 0.0)
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=tolerance)
    gradients = torch.autograd.grad(found, inputs, grad), torch.autograd.grad(wanted, exact, grad.double())
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=tolerance, rtol=tolerance)


def test_attention_drops_what_it_says_and_its_gradient_knows():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 64, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def attention(q, k, v):
        torch.manual_seed(7)
        return causal_attention(q, k, v, 0.5)

    assert torch.autograd.gradcheck(attention, (q[:, :, :6], k[:, :, :6], v[:, :, :6]))
    ones = torch.ones_like(v)
    mean = torch.stack([causal_attention(q, k, ones, 0.5) for _ in range(200)]).mean()
    assert mean.item() == pytest.approx(1, abs=0.02)  # la moyenne des poids gardés reste un


def test_the_fused_and_the_reference_models_agree_in_bf16():
    losses = []
    for kernels in ("fused", "reference"):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(model(kernels=kernels).train().loss(*batch()))
    torch.testing.assert_close(*losses, atol=5e-3, rtol=2e-3)
