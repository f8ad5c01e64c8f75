"""L'autre forme du modèle, pour écrire : mêmes logits, poids quantifiés qui valent leur matrice déquantifiée."""

import copy
import gc
import shutil
import weakref

import pytest
import torch

from gpt_lightning import Strategy, generate
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.cache import step_of
from gpt_lightning.model.fast.inference import (
    BITS,
    JoinedAttention,
    compile_for_inference,
    for_inference,
    is_supported,
)
from gpt_lightning.model.fast.products import Product
from gpt_lightning.model.fast.quantized import Int4Linear, quantize
from gpt_lightning.model.fast.sizes import input_sizes
from gpt_lightning.model.lora import LoRAConfig, adapt

OPTIONS = [
    {},
    {"qkv_bias": False, "bias": False},
    {"positions": "rope", "activation": "swiglu", "norm": "rmsnorm"},
    {"tie_weights": False, "vocab_padding": 64},
]


def model(**options) -> GPTModel:
    torch.manual_seed(0)
    shape = {"vocab_size": 101, "context_length": 32, "emb_dim": 32, "n_heads": 2, "n_layers": 2}
    return GPTModel(GPTConfig(**{**shape, **options})).eval()


def ids(rows=2, length=9):
    return torch.randint(101, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_joined_products_are_the_same_model(options):
    plain = model(**options)
    fast = for_inference(copy.deepcopy(plain))
    assert all(isinstance(block.att, JoinedAttention) for block in fast.trf_blocks.children())
    torch.testing.assert_close(fast(ids()), plain(ids()), atol=1e-5, rtol=1e-5)
    texts = [
        generate(one, ids(3, 5), strategy=Strategy(temperature=0), max_new_tokens=40, seed=0)
        for one in (plain, fast)
    ]
    assert torch.equal(*texts)


@pytest.mark.parametrize("dtype", ["fp32", *BITS])
def test_adapters_that_are_apart_are_not_dropped(dtype):
    adapted = adapt(model(), LoRAConfig(rank=2))
    with pytest.raises(UserError, match="adaptateurs à part"):
        for_inference(adapted, dtype)


def test_the_model_that_was_read_is_not_another():
    """`weights.load` rend le modèle sous ses noms ; seule la génération en prend l'autre forme."""
    plain = model()
    names = list(plain.state_dict())
    fast = for_inference(copy.deepcopy(plain))
    assert list(plain.state_dict()) == names and hasattr(fast.trf_blocks[0].att, "W_qkv")
    assert list(GPTModel(plain.config, draw=False).state_dict()) == names


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows, width", [(101, 32), (16, 64), (5, 96), (7, 88), (3072, 768)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_quantized_product_is_that_of_its_dequantized_matrix(bits, rows, width, biased):
    generator = torch.Generator().manual_seed(rows + bits)
    weight = torch.randn(rows, width, generator=generator)
    bias = torch.randn(rows, generator=generator) if biased else None
    layer = quantize(weight, bias, bits)
    # la matrice que cette couche multiplie vraiment : les noyaux savent seuls relire ce qu'ils ont rangé
    multiplied = quantize(weight, None, bits)
    matrix = multiplied(torch.eye(width, dtype=torch.bfloat16)).float().T.contiguous()
    for shape in ((width,), (3, width), (2, 5, width)):
        x = torch.randn(shape, generator=generator).bfloat16().float()
        wanted = x @ matrix.T + (0 if bias is None else bias)
        torch.testing.assert_close(layer(x), wanted, atol=0.02 * wanted.abs().max().item(), rtol=0.02)
    # et cette matrice est celle d'origine, à une demi-marche près ; en int4, une part de l'étendue peut suffire
    step = weight.abs().amax(1, keepdim=True) / 127
    if bits == 4:
        groups = torch.nn.functional.pad(weight, (0, -width % 32)).view(rows, -1, 32)
        span = (groups.amax(-1) - groups.amin(-1)).repeat_interleave(32, dim=1)[:, :width]
        step = span * (1 / 15 + 0.15)
        assert (matrix - weight).square().mean() <= (span / 15).square().mean() / 12 + 0.003
    assert ((matrix - weight).abs() <= 0.5 * step + 0.01 * weight.abs() + 0.02).all()


@pytest.mark.parametrize("width", [96, 88])
def test_int4_rounds_better_what_large_inputs_multiply(width):
    generator = torch.Generator().manual_seed(width)
    weight = torch.randn(48, width, generator=generator)
    sizes = 10 ** (2 * torch.randn(width, generator=generator))  # quelques entrées mille fois plus grandes

    def matrix(sizes=None):
        eye = torch.eye(width, dtype=torch.bfloat16)
        return quantize(weight, None, 4, sizes)(eye).float().T

    plain, aware = (((made - weight).square() * sizes).sum(1) for made in (matrix(), matrix(sizes)))
    assert (aware < plain).float().mean() > 0.9 and aware.sum() < 0.5 * plain.sum()
    flat = (matrix() - weight).square().mean()
    for same in (torch.full((width,), 7.0), torch.zeros(width)):  # des entrées égales, ou jamais vues
        assert (matrix(same) - weight).square().mean() == pytest.approx(flat.item(), rel=1e-3)


def test_int4_keeps_exactly_what_is_already_on_its_grid():
    """Un fichier quantifié en Q4_1 : son échelle et son plus petit poids tiennent en bf16."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 16, (32, 3, 32), generator=generator)
    levels[..., 0], levels[..., 1] = 0, 15  # tout l'intervalle
    scale = 2.0 ** torch.randint(-6, 0, (32, 3, 1), generator=generator)
    weight = (scale * (levels - 8)).flatten(1)
    sizes = torch.rand(96, generator=generator)
    for given in (None, sizes):
        made = quantize(weight, None, 4, given)(torch.eye(96, dtype=torch.bfloat16)).float().T
        assert torch.equal(made, weight)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_sizes_of_inputs_are_those_that_the_layers_receive(options):
    read = model(**options)
    sizes = input_sizes(read)
    first = read.trf_blocks[0]
    drawn = torch.randint(101, (1, 32), generator=torch.Generator().manual_seed(0))
    x = read.tok_emb(drawn) + read.pos_emb(torch.arange(32))
    wanted = first.norm1(x).square().mean((0, 1))
    torch.testing.assert_close(sizes[first.att.W_query], wanted)
    linear = {layer for layer in read.modules() if isinstance(layer, torch.nn.Linear)}
    assert set(sizes) == linear - {read.out_head}
    assert not any(layer._forward_pre_hooks for layer in linear)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_quantized_model_stays_close_and_keeps_its_embedding(dtype, options):
    assert is_supported(dtype)
    plain = model(**options)
    found = for_inference(copy.deepcopy(plain), dtype)
    assert torch.equal(found.tok_emb.weight, plain.tok_emb.weight)
    assert isinstance(found.out_head, Product) and not isinstance(found.out_head, Int4Linear)
    assert not any(isinstance(one, torch.nn.Linear) for one in found.modules())
    a, b = found(ids()).float(), plain(ids())
    assert a.shape == b.shape
    assert ((a - b).norm() / b.norm()) < (0.05 if dtype == "int8" else 0.25)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize(
    "strategy", [Strategy(temperature=0), Strategy(temperature=0, num_beams=3), Strategy(top_p=0.9)]
)
def test_a_quantized_model_writes_the_same_with_and_without_cache(dtype, strategy):
    found = for_inference(model(), dtype)
    short = generate(found, ids(2, 4), strategy=strategy, max_new_tokens=12, seed=3)
    alone = [
        generate(found, ids(2, 4)[r : r + 1], strategy=strategy, max_new_tokens=12, seed=3) for r in range(2)
    ]
    if strategy.greedy:
        assert torch.equal(short, torch.cat(alone))
    assert short.shape == (2, 16)


@pytest.mark.parametrize("dtype", ["fp32", *BITS])
def test_a_model_ready_to_write_is_measured(dtype):
    """La perte par `score` est celle de ses logits."""
    from gpt_lightning.model.score import score

    found = for_inference(model(), dtype)
    tokens = torch.randint(101, (65,), generator=torch.Generator().manual_seed(2))
    measured = score(found, tokens.tolist(), 100, max_length=16, stride=16, batch_size=2).loss
    x, y = tokens[:64].view(4, 16), tokens[1:].view(4, 16)
    wanted = torch.nn.functional.cross_entropy(found(x).float().flatten(0, 1), y.flatten()).item()
    assert measured == pytest.approx(wanted, rel=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile demande un compilateur C++")
@pytest.mark.parametrize("dtype", ["fp32", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_compiled_step_writes_the_same_texts_from_one_graph(dtype):
    plain = for_inference(model(n_layers=1), dtype)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fast = compile_for_inference(for_inference(model(n_layers=1), dtype, pack=False))

    def graphs() -> int:
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    assert graphs() == 1
    strategies = (Strategy(temperature=0), Strategy(top_p=0.9), Strategy(temperature=0, lookup_ngram=2))
    for strategy in strategies:
        for length, new in ((3, 10), (9, 40), (40, 5)):  # la longueur du cache change, la fenêtre glisse
            texts = [
                generate(one, ids(1, length), strategy=strategy, max_new_tokens=new, seed=0)
                for one in (plain, fast)
            ]
            assert torch.equal(*texts)
    assert graphs() == 1
    for rows in (2, 3, 7):
        texts = [
            generate(one, ids(rows, 5), strategy=strategies[1], max_new_tokens=9, seed=0, num_samples=2)
            for one in (plain, fast)
        ]
        assert torch.equal(*texts)
    assert graphs() == 2  # plusieurs lignes : un second graphe, quel que soit leur nombre


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile demande un compilateur C++")
def test_a_compiled_step_does_not_keep_its_model():
    fast = compile_for_inference(for_inference(model(n_layers=1), pack=False))
    assert step_of(fast) != fast.next_logits
    held = weakref.ref(fast)
    del fast
    gc.collect()
    assert held() is None


def test_the_step_of_a_model_that_is_not_compiled_is_its_own():
    plain = for_inference(model())
    assert step_of(plain) == plain.next_logits


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 3])
def test_a_cuda_graph_writes_the_same_texts(rows):
    plain = for_inference(model().cuda())
    fast = compile_for_inference(for_inference(model().cuda()))
    for strategy in (Strategy(temperature=0), Strategy(top_p=0.9), Strategy(temperature=0, num_beams=3)):
        for length in (3, 9, 40):
            texts = [
                generate(one, ids(rows, length).cuda(), strategy=strategy, max_new_tokens=40, seed=0)
                for one in (plain, fast)
            ]
            assert torch.equal(*texts)
