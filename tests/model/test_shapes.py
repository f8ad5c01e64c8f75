"""Les formes d'après GPT-2 : chaque paire de valeurs, avec tout ce que le modèle sait faire.

Les lignes du tableau sont trouvées par une recherche gloutonne ; un essai vérifie qu'elles ont toutes les paires.
"""

import copy
import random
from dataclasses import asdict
from itertools import combinations

import pytest
import torch

from gpt_lightning import Strategy, generate
from gpt_lightning.decoding.row_cache import RowCache
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel, KVCache, cost
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.config import BEYOND_GPT2, DEFAULTS
from gpt_lightning.model.fast.inference import compile_for_inference, for_inference, is_supported
from gpt_lightning.model.lora import LoRAConfig, adapt, merge
from gpt_lightning.model.trainable import learn_only
from gpt_lightning.training.muon import MuonAdamW
from gpt_lightning.training.optim import OptimConfig, build_optimizer

VALUES = {
    "n_kv_heads": (None, 1, 2),
    "head_dim": (None, 6, 10),
    "hidden_dim": (None, 20),
    "qk_norm": (False, True),
    "rope_base": (10_000.0, 500.0),
    "norm_eps": (1e-5, 1e-2),
    "positions": ("learned", "rope"),
    "norm": ("layernorm", "rmsnorm"),
    "activation": ("gelu_tanh", "gelu", "swiglu"),
    "qkv_bias": (True, False),
    "bias": (True, False),
    "tie_weights": (True, False),
    "vocab_padding": (1, 16),
    "init": ("gpt2", "torch"),
}
SHAPE = {"vocab_size": 61, "context_length": 32, "emb_dim": 24, "n_heads": 4, "n_layers": 2}
Row = dict[str, object]


def is_possible(row: Row) -> bool:
    """rope_base ne sert qu'à rope : l'en priver est refusé, et un essai le dit."""
    return row.get("rope_base") != 500.0 or row.get("positions") == "rope"


def pairs_of(row: Row) -> set:
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


def every_pair() -> set:
    return {
        frozenset(((a, x), (b, y)))
        for a, b in combinations(VALUES, 2)
        for x in VALUES[a]
        for y in VALUES[b]
        if is_possible({"positions": "rope", a: x, b: y})
    }


def table() -> list[Row]:
    missing, rows, draw = every_pair(), [], random.Random(0)
    while missing:
        drawn = [{name: draw.choice(values) for name, values in VALUES.items()} for _ in range(400)]
        best = max(filter(is_possible, drawn), key=lambda row: len(pairs_of(row) & missing))
        missing -= pairs_of(best)
        rows.append(best)
    return rows


ROWS = table()
rows = pytest.mark.parametrize("row", ROWS, ids=[str(n) for n in range(len(ROWS))])


def model(row: Row, kind=GPTModel, *more, **options) -> GPTModel:
    torch.manual_seed(0)
    one = kind(GPTConfig(**{**SHAPE, **row, **options}), *more).eval()
    with torch.no_grad():
        for parameter in one.parameters():  # des normes et des biais qui comptent
            parameter.add_(0.05 * torch.randn_like(parameter))
    return one


def ids(count: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(61, (count, length), generator=torch.Generator().manual_seed(1))


def close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance * max(1.0, float(wanted.abs().max())), rtol=0)


def test_the_table_has_every_pair():
    assert every_pair() <= set().union(*map(pairs_of, ROWS)) and len(ROWS) < 40


@rows
def test_the_formulas_give_the_kernels_numbers_and_gradients(row):
    fused, formulas = model(row), model(row, kernels="reference")
    close(fused(ids()), formulas(ids()))
    losses = [one.train().loss(ids()[:, :-1], ids()[:, 1:]) for one in (fused, formulas)]
    close(*losses)
    gradients = [
        torch.autograd.grad(loss, one.parameters())
        for loss, one in zip(losses, (fused, formulas), strict=True)
    ]
    for found, wanted in zip(*gradients, strict=True):
        close(found, wanted)


@rows
@pytest.mark.parametrize("dtype", ["plain", "joined"])
def test_a_cache_changes_nothing_and_holds_the_shared_heads_alone(row, dtype):
    one = model(row)
    one = for_inference(copy.deepcopy(one)) if dtype == "joined" else one
    cache = KVCache.empty(one.config, batch_size=3, capacity=16)
    assert cache.keys[0].shape == (3, one.config.kv_heads, 16, one.config.head_width)
    with torch.no_grad():
        close(torch.cat([one(part, cache) for part in ids().split([5, 1, 1, 5], 1)], 1), model(row)(ids()))


@rows
def test_uneven_prompts_and_rows_of_a_server_give_what_each_gives_alone(row):
    one, texts = model(row), [ids(1, n) for n in (9, 4, 1)]
    padded = torch.cat([torch.cat((torch.zeros(1, 9 - t.shape[1], dtype=torch.long), t), 1) for t in texts])
    cache = KVCache.empty(one.config, batch_size=3, capacity=12, pads=torch.tensor([0, 5, 8]))
    server = RowCache(one, 4, None, torch.float32)
    with torch.no_grad():
        logits = one(padded, cache)[:, -1]
        for place in range(3):
            server.enter(cache, place)
        following = one.next_logits(ids(3, 1), server)
        for place, text in enumerate(texts):
            close(logits[place], one(text)[0, -1])
            close(following[place], one(torch.cat((text, ids(3, 1)[place : place + 1]), 1))[0, -1])


@rows
def test_packed_texts_do_not_see_each_other(row):
    one, texts = model(row), [ids(1, 7), ids(2, 5)[1:]]
    segments = torch.tensor([[0] * 7 + [1] * 5])
    with torch.no_grad():
        hidden = one.hidden(torch.cat(texts, 1), segments=segments)
        close(hidden[:, :7], one.hidden(texts[0]))
        close(hidden[:, 7:], one.hidden(texts[1]))


@rows
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_a_model_ready_to_write_stays_close_and_writes(row, dtype):
    if dtype in ("int8", "int4") and not is_supported(dtype):
        pytest.skip("ce torch n'a pas ces noyaux")
    plain = model(row)
    ready = copy.deepcopy(plain).to(torch.bfloat16) if dtype == "bf16" else copy.deepcopy(plain)
    ready = for_inference(ready, dtype if dtype.startswith("int") else "fp32")
    with torch.no_grad():
        found, wanted = ready(ids()).float(), plain(ids())
    least = {"fp32": 0.99999, "bf16": 0.995, "int8": 0.99, "int4": 0.9}[dtype]
    assert torch.cosine_similarity(found.flatten(), wanted.flatten(), 0) > least
    texts = [
        generate(ready, part, strategy=Strategy(temperature=0), max_new_tokens=6, seed=0)
        for part in (ids(2, 4), ids(1, 4))
    ]
    assert texts[0].shape == (2, 10) and texts[1].shape == (1, 10)


@rows
@pytest.mark.parametrize("modules", [("all",), ("W_query", "W_value")])
def test_adapters_start_from_nothing_and_merge(row, modules):
    config = LoRAConfig(rank=3, modules=modules)
    one, plain = adapt(model(row), config), model(row)
    assert torch.equal(one(ids()), plain(ids()))
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.2)
    plain.load_state_dict(merge(one.state_dict(), config))
    assert (one(ids()) - model(row)(ids())).abs().max() > 1e-3
    close(plain(ids()), one(ids()))


@rows
@pytest.mark.parametrize("what", ["all", "last_block", "head"])
def test_a_classifier_learns_what_it_is_told(row, what):
    one = learn_only(model(row, GPTClassifier, 3), what)
    close(
        one.classify(ids(), torch.tensor([3, 16, 30])),
        one.class_head(one.hidden(ids()).flatten(0, 1)[[3, 16, 30]]),
    )
    one.classify(ids(), torch.tensor([11, 23, 35])).logsumexp(-1).sum().backward()
    learning = {name for name, parameter in one.named_parameters() if parameter.requires_grad}
    graded = {name for name, parameter in one.named_parameters() if parameter.grad is not None}
    assert graded <= learning and "class_head.weight" in graded


@rows
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, MuonAdamW])
def test_a_step_lowers_the_loss(row, optimizer):
    one = model(row).train()
    step = build_optimizer(one, OptimConfig(optimizer=optimizer, lr=1e-3))
    losses = []
    for _ in range(4):
        loss = one.loss(ids()[:, :-1], ids()[:, 1:])
        losses.append(float(loss.detach()))
        step.zero_grad()
        loss.backward()
        step.step()
    assert losses[-1] < losses[0]


@rows
def test_what_it_will_cost_is_what_it_costs(row):
    one = model(row)
    assert cost.n_parameters(one.config) == sum(parameter.numel() for parameter in one.parameters())
    without = sum(
        p.numel() for name, p in one.named_parameters() if "_emb" not in name and "out_head" not in name
    )
    assert cost.n_parameters_without_embeddings(one.config) == without


@rows
def test_the_heads_of_an_image_look_at_everything_once(row):
    weights = model(row).attention(ids(), 1)
    assert weights.shape == (3, 4, 12, 12)
    close(weights.sum(-1), torch.ones(3, 4, 12))


@rows
def test_a_configuration_is_written_and_read_without_what_gpt2_lacks(row):
    config = GPTConfig(**{**SHAPE, **row})
    written = config.to_dict()
    assert GPTConfig.from_dict(written) == config
    for name in BEYOND_GPT2:
        assert (name in written) == (getattr(config, name) != DEFAULTS[name])


def test_a_gpt2_says_nothing_more_than_before():
    assert not set(GPTConfig(**SHAPE).to_dict()) & set(BEYOND_GPT2)
    assert set(asdict(GPTConfig(**SHAPE))) - set(GPTConfig(**SHAPE).to_dict()) == {"kernels", *BEYOND_GPT2}


@pytest.mark.slow
@rows
def test_a_compiled_step_writes_the_same(row):
    torch._dynamo.reset()  # une commande ne compile qu'un modèle
    one = for_inference(model(row), pack=False)
    wanted = generate(one, ids(2, 4), strategy=Strategy(temperature=0), max_new_tokens=8, seed=0)
    compiled = compile_for_inference(one)
    found = generate(compiled, ids(2, 4), strategy=Strategy(temperature=0), max_new_tokens=8, seed=0)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    "values, why",
    [
        ({"n_kv_heads": 3}, "essayez model.n_kv_heads="),
        ({"n_kv_heads": 0}, "model.n_kv_heads=0"),
        ({"n_kv_heads": 8}, "essayez model.n_kv_heads=4"),
        ({"head_dim": 5, "positions": "rope"}, "dimension paire, pas 5"),
        ({"head_dim": 0}, "model.head_dim=0"),
        ({"hidden_dim": -1}, "model.hidden_dim=-1"),
        ({"qk_norm": 1}, "model.qk_norm=1"),
        ({"rope_base": 500.0}, "model.positions=rope"),
        ({"rope_base": 0, "positions": "rope"}, "model.rope_base=0"),
        ({"norm_eps": 0}, "model.norm_eps=0"),
        ({"norm_eps": float("nan")}, "model.norm_eps=nan"),
    ],
    ids=str,
)
def test_an_impossible_shape_is_refused_in_one_sentence(values, why):
    with pytest.raises(UserError, match=why):
        GPTConfig(**{**SHAPE, **values})


@pytest.mark.parametrize("n_heads, head_dim", [(7, 24), (5, 2), (4, 10)])
def test_a_head_may_have_any_width(n_heads, head_dim):
    config = GPTConfig(**{**SHAPE, "n_heads": n_heads, "head_dim": head_dim, "positions": "rope"})
    assert GPTModel(config).eval()(ids()).shape == (3, 12, 61)
