"""Chaque chemin rapide donne ce que donne le lent, dans chaque type ; et un texte ne dépend pas de ses voisins."""

import copy

import pytest
import torch

from benchmarks.regroup import regroup
from gpt_lightning.model import GPTConfig, GPTModel, KVCache
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.fast import inference, products
from gpt_lightning.model.fast.inference import for_inference
from gpt_lightning.model.fast.products import ACTIVATIONS, PackedLinear, PlainLinear, can_pack
from gpt_lightning.model.fast.quantized import Int4Linear, Int8Linear

SHAPES = {
    "gpt2": {},
    "sans biais, 7 têtes de 24": {"emb_dim": 56, "n_heads": 7, "head_dim": 24, "bias": False, "qkv_bias": False},
    "llama": {
        "positions": "rope", "norm": "rmsnorm", "activation": "swiglu", "n_kv_heads": 2, "bias": False,
        "qkv_bias": False,
    },
    "qwen2": {"positions": "rope", "norm": "rmsnorm", "activation": "swiglu", "n_kv_heads": 1, "bias": False},
    "qwen3": {
        "positions": "rope", "norm": "rmsnorm", "activation": "swiglu", "n_kv_heads": 2, "head_dim": 10,
        "qk_norm": True, "tie_weights": False, "bias": False, "qkv_bias": False,
    },
    "gelu exacte, tête complétée": {"activation": "gelu", "vocab_padding": 16, "hidden_dim": 20},
}  # fmt: skip
NEAR = {"fp32": 1e-5, "bf16": 3e-2, "int8": 3e-2, "int4": 3e-2}  # deux arrondis de bf16 par couche
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
dtypes = pytest.mark.parametrize("dtype", NEAR)
KINDS = (PlainLinear, PackedLinear, Int8Linear, Int4Linear)


def model(shape, kind=GPTModel, *more) -> GPTModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "context_length": 32, "emb_dim": 24, "n_heads": 4, "n_layers": 2}
    made = kind(GPTConfig(**{**sizes, **shape}), *more).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # des normes et des biais qui comptent
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def ready(shape, dtype) -> GPTModel:
    made = model(shape)
    return for_inference(made.bfloat16() if dtype != "fp32" else made, dtype)


def ids(rows: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(61, (rows, length), generator=torch.Generator().manual_seed(1))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).norm() / b.float().norm())


@shapes
@dtypes
@torch.inference_mode()
def test_the_unfolded_blocks_give_what_the_blocks_give(shape, dtype):
    fast = ready(shape, dtype)
    slow = copy.copy(fast)
    slow._modules = {**fast._modules, "trf_blocks": torch.nn.ModuleList(fast.trf_blocks.children())}
    assert len(list(fast.trf_blocks)) == 1 and len(slow.trf_blocks) == 2
    assert distance(fast(ids()), slow(ids())) < NEAR[dtype]
    segments = torch.tensor([[0] * 5 + [1] * 7] * 3)
    assert (
        distance(fast.hidden(ids(), segments=segments), slow.hidden(ids(), segments=segments)) < NEAR[dtype]
    )
    assert distance(fast.attention(ids(), 1), slow.attention(ids(), 1)) < NEAR[dtype]


@shapes
@dtypes
@torch.inference_mode()
def test_a_text_is_the_same_alone_in_a_batch_and_after_a_cached_prefix(shape, dtype):
    """Ses voisins, dont un dont les vecteurs sont vingt fois plus grands, n'y changent rien."""
    fast, texts = ready(shape, dtype), ids(3, 12)
    fast.tok_emb.weight.data[texts[1, 4:]] *= 20
    texts[0] = torch.where(torch.isin(texts[0], texts[1, 4:]), texts[0, 0], texts[0])
    alone = fast(texts[:1])
    assert distance(fast(texts)[:1], alone) < NEAR[dtype]
    kind = fast.tok_emb.weight.dtype
    for rows, lengths in ((1, [7, 5]), (3, [4, 1, 1, 6]), (3, [1] * 12)):
        cache = KVCache.empty(fast.config, batch_size=rows, capacity=12, dtype=kind)
        parts = [fast(part, cache)[:1] for part in texts[:rows].split(lengths, 1)]
        assert distance(torch.cat(parts, 1), alone) < NEAR[dtype]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biased", [True, False])
@torch.inference_mode()
def test_a_row_of_a_product_depends_on_itself_and_its_ends_on_nothing_else(kind, biased):
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(70, 52, generator=draw), torch.randn(5, 52, generator=draw)
    x[1] *= 20
    if kind is PackedLinear and not can_pack(torch.float32):
        pytest.skip("ce processeur n'a pas ce produit")
    layer = kind(weight, torch.randn(70, generator=draw) if biased else None)
    together = layer(x)
    for row in range(5):
        torch.testing.assert_close(layer(x[row : row + 1])[0], together[row], atol=1e-4, rtol=1e-4)
    assert (layer(torch.zeros(1, 52)) == (0 if layer.bias is None else layer.bias)).all()
    residual = torch.randn(5, 70, generator=draw)
    torch.testing.assert_close(layer.add_to(x, residual), residual + together, atol=1e-4, rtol=1e-4)
    for name, function in ACTIVATIONS.items():
        torch.testing.assert_close(layer.activate(x, name), function(together), atol=1e-3, rtol=1e-3)


@shapes
@torch.inference_mode()
def test_sorting_the_dimensions_of_a_model_changes_no_output(shape):
    plain = model(shape)
    other = regroup(copy.deepcopy(plain))
    assert not torch.equal(plain.tok_emb.weight, other.tok_emb.weight)
    assert (other.out_head.weight is other.tok_emb.weight) == plain.config.tie_weights
    torch.testing.assert_close(other(ids()), plain(ids()), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_classifier_is_sorted_with_its_head():
    plain = model({}, GPTClassifier, 3)
    where = torch.tensor([3, 16, 30])
    wanted = plain.classify(ids(), where)
    torch.testing.assert_close(regroup(plain).classify(ids(), where), wanted, atol=1e-4, rtol=1e-4)
    assert distance(for_inference(plain, "int8").classify(ids(), where), wanted) < 0.05


@shapes
@torch.inference_mode()
def test_a_processor_without_these_products_writes_too(shape, monkeypatch):
    """Sans oneDNN, les poids restent tels quels."""
    plain = model(shape)
    wanted = plain(ids())
    monkeypatch.setattr(inference, "can_pack", lambda dtype: False)
    other = for_inference(plain, "fp32")
    assert isinstance(other.out_head, PlainLinear) and distance(other(ids()), wanted) < 1e-5


def test_the_head_is_never_in_int4():
    made = ready({}, "int4")
    assert not isinstance(made.out_head, Int4Linear)
    assert isinstance(made.trf_blocks[0].att.out_proj, Int4Linear)


def test_a_type_that_onednn_refuses_is_not_packed(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("bf16 path needs the cpu support avx512bw")

    monkeypatch.setattr(products, "PackedLinear", refuse)
    can_pack.cache_clear()
    assert not can_pack(torch.bfloat16)
    can_pack.cache_clear()
