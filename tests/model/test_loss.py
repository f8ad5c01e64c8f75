import pytest
import torch

from gpt_lightning.model import linear_cross_entropy, reference
from gpt_lightning.model.fast import cross_entropy


@pytest.mark.parametrize("n_rows", [1, 7, 64, 65, 200])
@pytest.mark.parametrize("padding", [0, 3])
def test_loss_and_gradients_are_those_of_cross_entropy(n_rows, padding, monkeypatch):
    monkeypatch.setattr(cross_entropy, "LOGITS", 64 * 37 * 4)
    monkeypatch.setattr(cross_entropy, "PIECE", 8 * 37 * 4)
    generator = torch.Generator().manual_seed(n_rows)
    x = torch.randn(n_rows, 16, generator=generator, requires_grad=True)
    weight = torch.randn(37 + padding, 16, generator=generator, requires_grad=True)
    targets = torch.randint(37, (n_rows,), generator=generator)
    expected = reference.cross_entropy(x @ weight[:37].T, targets)
    wanted = torch.autograd.grad(3 * expected, (x, weight))
    ours = linear_cross_entropy(x, weight, targets, 37)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * ours, (x, weight)), wanted)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(x, weight, targets, 37), expected)


def test_huge_logits_do_not_overflow():
    x = torch.full((2, 4), 1e4, requires_grad=True)
    weight = torch.eye(4, requires_grad=True)
    value = linear_cross_entropy(x, weight, torch.tensor([0, 3]), 4)
    value.backward()
    assert value.isfinite() and x.grad.isfinite().all()


def test_half_precision_stays_close():
    x = torch.randn(50, 16, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(37, 16, requires_grad=True)
    targets = torch.randint(37, (50,))
    ours = linear_cross_entropy(x, weight, targets, 37)
    expected = reference.cross_entropy(x.float() @ weight.T, targets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, atol=0.05, rtol=0.02)
    ours.backward()
    assert x.grad.dtype == torch.bfloat16 and weight.grad.dtype == torch.float32
