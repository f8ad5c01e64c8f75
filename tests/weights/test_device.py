import pytest
import torch

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.weights import load_for_inference, to_device


def model() -> GPTModel:
    return GPTModel(GPTConfig(vocab_size=10, context_length=4, emb_dim=4, n_heads=1, n_layers=1))


def test_a_model_is_placed_in_a_precision():
    assert next(to_device(model(), "cpu", "auto").parameters()).dtype == torch.float32
    assert next(to_device(model(), "cpu", "bf16").parameters()).dtype == torch.bfloat16


def test_rope_keeps_its_angles_in_float32():
    """Des positions en bf16 se confondraient dès la 257e."""
    config = GPTConfig(vocab_size=10, context_length=512, emb_dim=8, n_heads=1, n_layers=1, positions="rope")
    torch.manual_seed(0)
    exact = GPTModel(config).eval()
    rotary, x = exact.trf_blocks[0].att.rotary, torch.randn(1, 1, 512, 8)
    expected = rotary(x, torch.arange(512))
    found = to_device(exact, "cpu", "bf16").trf_blocks[0].att.rotary(x.bfloat16(), torch.arange(512))
    torch.testing.assert_close(found.float(), expected, atol=0.06, rtol=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="ce test est celui d'une machine sans GPU")
@pytest.mark.parametrize(
    "device, dtype", [("cuda", "auto"), ("tpu", "auto"), ("cpu", "fp8"), ("cuda:1", "auto")]
)
def test_what_is_not_there_is_refused(device, dtype):
    with pytest.raises(ValueError, match="device=|dtype="):
        to_device(model(), device, dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="demande une carte CUDA")
def test_auto_takes_the_gpu_in_bf16():
    placed = next(to_device(model()).parameters())
    assert placed.is_cuda and placed.dtype in (torch.bfloat16, torch.float32)


def test_a_source_without_a_tokenizer_is_refused(tmp_path):
    path = tmp_path / "gpt-model.pt"
    config = GPTConfig(vocab_size=97, context_length=4, emb_dim=64, n_heads=1, n_layers=1, tie_weights=False)
    torch.save(GPTModel(config).state_dict(), path)
    with pytest.raises(ValueError, match="tokenizer"):
        load_for_inference(str(path))
