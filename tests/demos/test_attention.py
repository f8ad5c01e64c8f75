import pytest
import torch

from gpt_lightning import tokenizers
from gpt_lightning.demos import attention
from gpt_lightning.model import GPTConfig, GPTModel


def model(**values) -> GPTModel:
    torch.manual_seed(0)
    return GPTModel(
        GPTConfig(vocab_size=50257, context_length=16, emb_dim=24, n_heads=3, n_layers=3, **values)
    ).eval()


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_weights_are_those_that_the_model_uses(layer):
    one = model()
    found = attention.compute(one, tokenizers.gpt2(), "un chat dort ici", layer=layer)
    seen = {}
    block = one.trf_blocks[layer]
    block.att.register_forward_hook(lambda module, args, out: seen.update(x=args[0], out=out))
    ids = torch.tensor([tokenizers.gpt2().encode("un chat dort ici")])
    one(ids)
    values = block.att._heads(block.att.W_value(seen["x"]))
    context = (found.weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block.att.out_proj(context), seen["out"])
    assert "".join(found.tokens) == "un·chat·dort·ici" and found.layer == layer % 3


def test_an_absent_layer_is_refused():
    with pytest.raises(ValueError, match="3 couches"):
        attention.compute(model(), tokenizers.gpt2(), "un", layer=3)


def test_the_picture_is_written(tmp_path):
    found = attention.compute(model(), tokenizers.gpt2(), "un chat", layer=0)
    paths = attention.render(found, tmp_path)
    assert [path.name for path in paths] == ["attention.pdf", "attention.png"]
    assert paths[0].read_bytes()[:4] == b"%PDF" and paths[1].read_bytes()[1:4] == b"PNG"
