import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gpt_lightning.model import GPTConfig, GPTModel

GOLDEN = Path(__file__).parents[1] / "golden"


def model(**values) -> GPTModel:
    torch.manual_seed(0)
    small = {"vocab_size": 61, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 2}
    return GPTModel(GPTConfig(**{**small, **values}))


@pytest.mark.parametrize("name", ["original_tiny", "original_tiny_qkv_bias"])
def test_the_original_weights_give_the_original_logits(name, golden):
    expected = golden[name]
    saved = torch.load(GOLDEN / expected["file"], weights_only=True)["model_state_dict"]
    ours = GPTModel(GPTConfig(**expected["config"], tie_weights=False))
    ours.load_state_dict({k: v for k, v in saved.items() if not k.endswith("att.mask")})
    ours.eval()
    ids, targets = torch.tensor(expected["input_ids"]), torch.tensor(expected["target_ids"])
    logits = ours(ids)
    torch.testing.assert_close(logits[0, 0], torch.tensor(expected["logits_first_row"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[-1, -1], torch.tensor(expected["logits_last_row"]), atol=1e-5, rtol=0)
    assert ours.loss(ids, targets).item() == pytest.approx(expected["loss"], abs=1e-5)


def test_initialisation_is_that_of_gpt2():
    big = model(emb_dim=128, n_heads=4, n_layers=8, tie_weights=False)
    residual = 0.02 / math.sqrt(16)
    assert big.tok_emb.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert big.out_head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    block = big.trf_blocks[3]
    assert block.att.W_query.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.att.out_proj.weight.std().item() == pytest.approx(residual, rel=0.05)
    assert block.ff.layers[2].weight.std().item() == pytest.approx(residual, rel=0.05)
    assert not any(p.any() for name, p in big.named_parameters() if name.endswith(("bias", "shift")))


def test_torch_initialisation_is_left_alone():
    assert model(init="torch", tie_weights=False).tok_emb.weight.std().item() == pytest.approx(1.0, rel=0.1)


def test_first_loss_is_the_uniform_one():
    big = model(vocab_size=1000).eval()
    ids = torch.randint(1000, (4, 16))
    assert big.loss(ids, ids.roll(1)).item() == pytest.approx(math.log(1000), abs=0.1)


def test_tied_head_is_the_embedding():
    tied, untied = model(), model(tie_weights=False)
    assert tied.out_head.weight is tied.tok_emb.weight
    assert untied.out_head.weight is not untied.tok_emb.weight


def test_padded_rows_are_never_seen():
    padded = model(vocab_padding=64).eval()
    assert padded.tok_emb.weight.shape[0] == 64
    ids = torch.randint(61, (2, 8))
    before, loss = padded(ids), padded.loss(ids, ids)
    assert before.shape[-1] == 61
    with torch.no_grad():
        padded.tok_emb.weight[61:] += 100
    torch.testing.assert_close(padded(ids), before)
    torch.testing.assert_close(padded.loss(ids, ids), loss)


def test_too_long_a_text_is_refused():
    with pytest.raises(ValueError, match="contexte de 16"):
        model()(torch.zeros(1, 17, dtype=torch.long))


def test_next_logits_are_the_last_ones():
    one, ids = model().eval(), torch.randint(61, (3, 9))
    torch.testing.assert_close(one.next_logits(ids), one(ids)[:, -1])


def test_dropout_only_while_training():
    one, ids = model(drop_rate=0.5), torch.randint(61, (2, 9))
    assert not torch.equal(one(ids), one(ids))
    one.eval()
    assert torch.equal(one(ids), one(ids))


def test_compiling_in_place_keeps_the_keys():
    one = model()
    before = list(one.state_dict())
    one.compile()
    assert list(one.state_dict()) == before


def test_loss_is_the_cross_entropy_of_the_logits():
    one, ids = model(vocab_padding=8, tie_weights=False).eval(), torch.randint(61, (3, 16))
    targets = torch.randint(61, (3, 16))
    expected = F.cross_entropy(one(ids).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(one.loss(ids, targets), expected)


@pytest.mark.parametrize(
    "options", [{}, {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope"}], ids=str
)
def test_half_precision_logits_point_the_same_way(options):
    one, ids = model(emb_dim=64, n_heads=4, **options).eval(), torch.randint(61, (4, 16))
    with torch.no_grad():
        exact = one(ids)
        half = one.bfloat16()(ids).float()
    assert F.cosine_similarity(exact, half, dim=-1).min() >= 0.999
