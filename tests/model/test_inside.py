"""Ce que l'on voit d'un modèle est ce qu'il calcule ; ce que l'on éteint est éteint, et rien d'autre."""

import itertools

import pytest
import torch

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.fast.inference import for_inference
from gpt_lightning.model.inside import Ablation, Place, check, inside

SHAPES = {
    "gpt2": {},
    "qwen3": {
        "n_kv_heads": 2,
        "head_dim": 6,
        "qk_norm": True,
        "positions": "rope",
        "norm": "rmsnorm",
        "activation": "swiglu",
        "bias": False,
        "qkv_bias": False,
    },
    "formules": {"kernels": "reference"},
    "vocabulaire arrondi": {"vocab_padding": 64, "tie_weights": True},
}
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5]
PLACE = Place(layer=1, head=2, position=8)
OFF = {
    "tête": Ablation(layer=1, head=2),
    "couche": Ablation(layer=0),
    "position": Ablation(position=4),
}


def build(shape: str) -> GPTModel:
    torch.manual_seed(0)
    model = GPTModel(
        GPTConfig(
            **{
                "vocab_size": 31,
                "context_length": 16,
                "emb_dim": 16,
                "n_heads": 4,
                "n_layers": 3,
                **SHAPES[shape],
            }
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def look(model, *ablations, place=PLACE, ids=IDS, lens=3):
    *steps, seen = inside(model, ids, place, ablations, lens=lens)
    assert set(steps) == {None} and len(steps) > model.config.n_layers
    return seen


@pytest.mark.parametrize("ready", [False, True], ids=["entraîné", "prêt à écrire"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_seen_is_what_is_computed(shape, ready):
    model = build(shape)
    if ready:
        model = for_inference(model)
    seen, batch = look(model), torch.tensor([IDS])
    with torch.inference_mode():
        expected = model(batch)[0]
        torch.testing.assert_close(seen.logits, expected[8], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(seen.head.weights, model.attention(batch, 1)[0, 2], atol=1e-5, rtol=1e-5)
    assert torch.equal(seen.logits, seen.plain)
    torch.testing.assert_close(seen.lens.probabilities[-1, -1], expected[8].softmax(-1).topk(3).values)
    assert seen.lens.ids[-1].tolist() == expected.topk(3).indices.tolist()
    torch.testing.assert_close(seen.vectors.norm(dim=-1), seen.lengths[:, 8])
    torch.testing.assert_close(seen.head.rows[2], seen.head.weights[8])
    torch.testing.assert_close(seen.head.shares[2], seen.head.added[8], atol=1e-5, rtol=1e-4)
    assert (seen.place is None) == (model.config.positions == "rope")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def silenced(model: GPTModel, name: str) -> GPTModel:
    """Le même modèle, dont les poids eux-mêmes font taire cette pièce."""
    block, width = model.trf_blocks[OFF[name].layer], model.config.head_width
    with torch.no_grad():
        if name == "tête":
            block.att.out_proj.weight[:, 2 * width : 3 * width] = 0
        else:
            for layer in (block.att.out_proj, block.ff.get_submodule("layers.2")):
                for parameter in layer.parameters():
                    parameter.zero_()
    return model


@pytest.mark.parametrize("name", ["tête", "couche"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_piece_that_is_switched_off_is_one_whose_weights_are_zero(shape, name):
    seen = look(build(shape), OFF[name])
    expected = silenced(build(shape), name)(torch.tensor([IDS]))[0, 8]
    torch.testing.assert_close(seen.logits, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(seen.logits, seen.plain, atol=1e-3)
    added = seen.head.added if name == "tête" else seen.added[0]
    assert float(added.abs().max()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_hidden_position_changes_nothing_after_it(shape):
    """Quel que soit le jeton que l'on y met ; et ce qui la précède n'en sait rien non plus."""
    model, hidden = build(shape), OFF["position"]
    replaced = [*IDS[:4], 20, *IDS[5:]]
    ours, theirs = look(model, hidden), look(model, hidden, ids=replaced)
    torch.testing.assert_close(ours.logits, theirs.logits)
    assert not torch.allclose(ours.plain, theirs.plain, atol=1e-3)
    assert float(ours.head.weights[5:, 4].abs().max()) == 0 and float(ours.head.weights[4, 4]) > 0


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_quantised_weights_are_shown_for_what_they_compute(dtype):
    model = for_inference(build("qwen3"), dtype)
    batch = torch.tensor([IDS])
    for ablations in itertools.chain([()], ((off,) for off in OFF.values())):
        seen = look(model, *ablations)
        if not ablations:  # l'attention joint ses têtes autrement : l'arrondi de bf16 seul les sépare
            with torch.inference_mode():
                expected = model(batch)[0, 8]
            torch.testing.assert_close(seen.logits, expected, atol=0.03 * float(expected.abs().max()), rtol=0)
        else:
            assert not torch.allclose(seen.logits, seen.plain, atol=1e-3)


@pytest.mark.parametrize(
    "ablation",
    [
        {},
        {"head": 1},
        {"layer": 3},
        {"layer": 0, "head": 4},
        {"position": 9},
        {"layer": -1},
        {"layer": 0, "position": 1},
    ],
    ids=str,
)
def test_what_does_not_exist_is_refused(ablation):
    with pytest.raises(UserError, match="ablate"):
        check([Ablation(**ablation)], build("gpt2").config, len(IDS))


def test_one_token_is_enough():
    seen = look(build("gpt2"), ids=[3], place=Place(0, 0, 0))
    assert seen.lens.ids.shape == (4, 1, 3) and seen.head.weights.tolist() == [[1.0]]
