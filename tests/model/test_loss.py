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


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("rows", [1, 4, 12])
def test_pieces_of_another_type_add_up_to_the_same_gradient(rows, padding, monkeypatch):
    """bf16 : le premier morceau se copie, les suivants s'ajoutent, les lignes en trop restent à zéro."""
    monkeypatch.setattr(cross_entropy, "_rows_at_once", lambda *_: rows)
    torch.manual_seed(0)
    x, weight = torch.randn(12, 8), torch.randn(20 + padding, 8, requires_grad=True)
    targets = torch.randint(0, 20, (12,))
    with torch.autocast("cpu", torch.bfloat16):
        cross_entropy.linear_cross_entropy(x, weight, targets, 20).backward()
    expected = torch.autograd.grad(
        torch.nn.functional.cross_entropy((x.bfloat16() @ weight.bfloat16().T).float()[:, :20], targets),
        weight,
    )[0]
    assert torch.equal(weight.grad[20:], torch.zeros(padding, 8))
    assert torch.allclose(weight.grad, expected, atol=2e-3)
