"""Les préfixes : le même texte avec et sans eux, quels que soient l'ordre, les lots, les types ; les octets comptés."""

import random
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning.decoding import Strategy, batching, stream
from gpt_lightning.decoding.batching import Arrival, Batch, Row
from gpt_lightning.decoding.context import Reader
from gpt_lightning.decoding.prefixes import BLOCK, EVERYONE, PrefixCache
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.cache import KVCache
from gpt_lightning.model.fast.inference import compile_for_inference, for_inference
from tests.decoding.test_batching import STRATEGIES

CONTEXT, SIZE, EOS = 96, 24, 3
GREEDY = Strategy(temperature=0)
PLENTY = 1 << 30
# deux fois l'arrondi d'un produit en bf16 (2**-8), sur des logits d'une dizaine : ce qui sépare deux ordres de calcul
ROUNDING = {"fp32": 1e-3, "bf16": 0.15, "int8": 0.15, "int4": 0.15}


def build(dtype: str = "fp32", pack: bool = True, **options) -> GPTModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": SIZE, "context_length": CONTEXT, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    one = GPTModel(GPTConfig(**sizes, **options))
    with torch.no_grad():  # des distributions qui ne sont pas plates
        for parameter in one.parameters():
            parameter.mul_(3 if parameter.dim() == 2 else 1)
    kind = "fp32" if dtype == "bf16" else dtype
    return for_inference(one.bfloat16() if dtype == "bf16" else one, kind, pack=pack)


LLAMA = {"positions": "rope", "n_kv_heads": 2, "norm": "rmsnorm", "activation": "swiglu"}
SHAPES = {"apprises": build(), "rope, têtes partagées": build(**LLAMA)}
every_shape = pytest.mark.parametrize("one", SHAPES.values(), ids=SHAPES)


class Counted:
    """Compte les jetons que le modèle lit."""

    def __init__(self, one: GPTModel, monkeypatch) -> None:
        self.tokens, read = 0, one.hidden

        def hidden(ids, *rest):
            self.tokens += ids.numel()
            return read(ids, *rest)

        monkeypatch.setattr(one, "hidden", hidden, raising=False)


def texts_of(draw: random.Random, count: int) -> list[list[int]]:
    """Des textes qui se suivent, se coupent ou divergent : ce que sont les demandes d'une conversation."""
    texts = [[draw.randrange(SIZE) for _ in range(draw.randint(1, CONTEXT))]]
    while len(texts) < count:
        start = list(draw.choice(texts))[: draw.randint(0, CONTEXT)]
        more = [draw.randrange(SIZE) for _ in range(draw.choice((0, 1, BLOCK, draw.randint(1, 40))))]
        texts.append((start + more)[:CONTEXT] or [0])
    return texts


def alone(one: GPTModel, row: Row) -> tuple[list[int], list[float]]:
    """Ce que la ligne écrit sans rien de gardé, et les log-probabilités."""
    most = min(row.max_new_tokens, CONTEXT + 1 - len(row.ids))
    how = {"strategy": row.strategy, "max_new_tokens": most, "seed": row.seed, "eos_id": row.eos_id}
    tokens = [step[0] for step in stream(one, [row.ids], first_row=row.rank, logprobs=True, **how)]
    return [token.id for token in tokens], [token.logprob for token in tokens]


def same_until_a_tie(one: GPTModel, row: Row, wanted: list[int], rounding: float) -> bool:
    """Vrai si deux textes greedy sont le même, ou se séparent sur deux jetons à un arrondi l'un de l'autre."""
    pairs = list(zip(row.new, wanted, strict=False))
    where = next((place for place, (mine, its) in enumerate(pairs) if mine != its), None)
    if where is None:
        return True
    logits = one(torch.tensor([[*row.ids, *wanted[:where]]]))[0, -1]
    return abs(float(logits[row.new[where]] - logits[wanted[where]])) < rounding


def write(
    batch: Batch, groups: list[list[Row]], draw: random.Random
) -> tuple[dict[Row, list[float]], set[Row]]:
    """Écrit ces complétions, qui entrent, et parfois s'en vont, au hasard : leurs log-probabilités, et les parties."""
    waiting, traces, gone = list(groups), {row: [] for group in groups for row in group}, set()
    while waiting or batch.rows or batch.arriving:
        while waiting and len(waiting[0]) <= batch.free and draw.random() < 0.6:
            batch.join(Arrival(list(waiting.pop(0))))
        for written in batch.step():
            traces[written.row].append(written.scored.logprob)
        present = [*batch.rows, *(row for arrival in batch.arriving for row in arrival.rows)]
        if present and draw.random() < 0.1:
            gone.add(leaving := draw.choice(present))
            batch.leave(leaving)
        check_memory(batch.prefixes)
    return traces, gone


def check_memory(prefixes: PrefixCache) -> None:
    """Les octets gardés sont ceux que l'on compte, et chaque bloc suit un bloc qui y est encore."""
    blocks = set(prefixes._blocks.values())
    storages = {block.state.untyped_storage().data_ptr(): block.state.untyped_storage() for block in blocks}
    assert sum(storage.nbytes() for storage in storages.values()) == prefixes.bytes
    assert prefixes.bytes <= prefixes.size * prefixes.block_bytes
    assert all(isinstance(before, str) or before in blocks for before, _ in prefixes._blocks)


@every_shape
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5), room=st.sampled_from((0, 2, 9, 1000)))
def test_what_is_reused_changes_no_text(one, seed, size, room):
    """Un lot, des départs qui se ressemblent, n > 1, des domaines, des annulations, peu ou pas de place."""
    draw = random.Random(seed)
    block = PrefixCache(one, PLENTY).block_bytes
    prefixes = PrefixCache(one, room * block)
    groups = []
    for ids in texts_of(draw, 12):
        how = {
            "strategy": draw.choice(STRATEGIES),
            "max_new_tokens": draw.randint(1, 40),
            "eos_id": EOS,
            "seed": draw.randrange(100),
            "scope": draw.choice((EVERYONE, EVERYONE, "à moi", None)),
            "top": 0,
        }
        groups.append([Row(ids, rank=rank, **how) for rank in range(draw.randint(1, min(3, size)))])
    traces, gone = write(Batch(one, size, prefixes), groups, draw)
    for row in traces:
        tokens, logprobs = alone(one, row)
        length = len(row.new) if row in gone else len(tokens)
        assert row.new == tokens[:length], row.strategy
        assert traces[row] == pytest.approx(logprobs[:length], abs=ROUNDING["fp32"])
        assert row.cached < len(row.ids) and (row.scope is not None or row.cached == 0)
    assert (room > 0) or not prefixes.bytes


@pytest.mark.parametrize("dtype", ["bf16", "int8", "int4"])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_greedy_text_is_the_same_in_every_precision(dtype, seed):
    """Seule une égalité que les arrondis départagent peut changer un texte : il n'y a pas d'autre différence."""
    draw = random.Random(seed)
    for options in ({}, LLAMA):
        one = build(dtype, **options)
        groups = [[Row(ids, GREEDY, 24, top=0)] for ids in texts_of(draw, 6)]
        traces, gone = write(Batch(one, 3, prefixes := PrefixCache(one, PLENTY)), groups, draw)
        assert prefixes.bytes  # le type du cache n'est pas toujours celui du modèle
        for row in traces:
            if row not in gone:
                tokens, logprobs = alone(one, row)
                assert same_until_a_tie(one, row, tokens, ROUNDING[dtype])
                assert traces[row][0] == pytest.approx(logprobs[0], abs=ROUNDING[dtype])


@every_shape
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), room=st.sampled_from((2, 9, 1000)))
def test_a_stream_reuses_the_ones_before(one, seed, room):
    """Des tours, interrompus ou non ; plusieurs textes, un faisceau, des jetons devinés, plus que le contexte."""
    draw = random.Random(seed)
    prefixes = PrefixCache(one, room * PrefixCache(one, PLENTY).block_bytes)
    for ids in texts_of(draw, 8):
        texts = [ids * draw.choice((1, 1, 3)), *([ids[: len(ids) // 2 + 1]] if draw.random() < 0.3 else [])]
        beam, guess = Strategy(temperature=0, num_beams=3), Strategy(temperature=0, lookup_ngram=2)
        how = {
            "strategy": draw.choice((GREEDY, beam, guess, Strategy(top_p=0.9))),
            "max_new_tokens": draw.randint(1, 40),
            "seed": draw.randrange(100),
            "num_samples": draw.randint(1, 2),
            "logprobs": True,
            "eos_id": EOS,
        }
        wanted = list(stream(one, texts, **how))
        steps = stream(one, texts, prefixes=prefixes, **how)
        written = [next(steps) for _ in wanted[: draw.randint(1, len(wanted))]]
        steps.close()  # parfois avant la fin
        for mine, its in zip(written, wanted, strict=False):
            assert [(token.row, token.id, token.reason) for token in mine] == [
                (token.row, token.id, token.reason) for token in its
            ]
            assert [token.logprob for token in mine] == pytest.approx(
                [token.logprob for token in its], abs=ROUNDING["fp32"]
            )
        check_memory(prefixes)


def check_turns(one: GPTModel) -> None:
    """Des tours qui se suivent écrivent ce qu'ils écrivent sans préfixes, et en reprennent."""
    prefixes, reused = PrefixCache(one, PLENTY), 0
    for ids in texts_of(random.Random(3), 6):
        for count in (1, 2):
            how = {"strategy": GREEDY, "max_new_tokens": 20, "num_samples": count}
            reused += prefixes.count(ids)
            mine, its = (list(stream(one, [ids], prefixes=some, **how)) for some in (prefixes, None))
            assert mine == its
    assert reused


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile demande un compilateur C++")
def test_a_compiled_model_reuses_them_too():
    check_turns(compile_for_inference(build(pack=False, **LLAMA)))


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_reuses_them_too(compiled):
    one = build(**LLAMA).cuda()
    check_turns(compile_for_inference(one) if compiled else one)


@every_shape
def test_what_was_read_is_not_read_again(one, monkeypatch):
    """Ce que le modèle lit d'un départ est ce qu'il n'en a pas lu, à un bloc près ; et la complétion d'avant en est."""
    draw = random.Random(1)
    counted, prefixes = Counted(one, monkeypatch), PrefixCache(one, PLENTY)
    batch = Batch(one, 2, prefixes)

    def read(ids: list[int], **options) -> Row:
        row, counted.tokens = Row(ids, GREEDY, options.pop("most", 1), **options), 0
        batch.join(Arrival([row]))
        while batch.rows or batch.arriving:
            batch.step()
        assert counted.tokens == len(ids) - row.cached + len(row.new) - 1
        return row

    first = read([draw.randrange(SIZE) for _ in range(40)], most=11)
    assert first.cached == 0
    history = [*first.ids, *first.new]  # 51 jetons, dont 50 lus
    assert read([*history, 5, 6, 7]).cached == 48
    assert read(history[:40]).cached == 32 and read(history[:33]).cached == 32
    assert read(history[:32]).cached == 16  # ses logits sont à calculer
    assert read([9, *history]).cached == 0  # toutes les positions changent
    assert read(history[1:]).cached == 0
    assert read(history, scope="autre").cached == 0 and read(history, scope="autre").cached == 48
    assert read(history, scope=None).cached == 0


def test_a_reader_that_leaves_gives_what_it_read(monkeypatch):
    """Un long départ, annulé au milieu de sa lecture : ce qui en est lu sert à celui qui revient."""
    monkeypatch.setattr(batching, "CHUNK", 32)
    one = SHAPES["apprises"]
    batch, ids = Batch(one, 1, PrefixCache(one, PLENTY)), list(range(20)) * 4
    row = Row(ids, GREEDY, 4)
    batch.join(Arrival([row]))
    assert batch.step() == [] and batch.leave(row) is None and batch.free == 1
    again = Row(ids, GREEDY, 4)
    batch.join(Arrival([again]))
    while batch.rows or batch.arriving:
        batch.step()
    assert again.cached == 32 and again.new == alone(one, again)[0]


def test_a_model_that_fails_leaves_nothing():
    one = build()
    batch = Batch(one, 2, PrefixCache(one, PLENTY))
    batch.join(Arrival([Row([1] * 40, GREEDY, 50)]))
    batch.step()
    assert batch.prefixes.bytes == 2 * batch.prefixes.block_bytes
    with torch.no_grad():
        one.final_norm.scale.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN"):
        batch.step()
    batch.clear()
    assert batch.prefixes.bytes == 0 and batch.free == 2


def test_the_least_recent_leaves_first():
    one = SHAPES["apprises"]
    prefixes = PrefixCache(one, 4 * PrefixCache(one, PLENTY).block_bytes)

    def read(token: int, blocks: int) -> int:
        reader = Reader(one, [[token] * (BLOCK * blocks + 1)], 0, prefixes)
        start = prefixes.count(reader.texts[0])
        with torch.inference_mode():
            reader.prefill()
        prefixes.keep(reader.texts[0], reader.cache)
        check_memory(prefixes)
        return start

    assert (read(1, 2), read(2, 2), read(1, 1), read(3, 1)) == (0, 0, BLOCK, 0)  # 1 perd sa fin
    assert read(2, 1) == BLOCK and prefixes.bytes == 4 * prefixes.block_bytes
    assert read(4, 5) == 0  # plus long que la place : son début seul
    assert prefixes.count([4] * CONTEXT) == 4 * BLOCK and prefixes.count([1] * CONTEXT) == 0
    assert read(4, 5) == 4 * BLOCK


def test_a_size_that_holds_nothing_is_refused():
    one = SHAPES["apprises"]
    with pytest.raises(UserError, match=r"prefix_cache_mb=0 .* donnez 1 au moins, ou 0"):
        PrefixCache(one, 5)
    assert PrefixCache(one, 0).size == 0


def test_another_type_or_another_model_shares_nothing():
    one, other = SHAPES.values()
    prefixes = PrefixCache(one, PLENTY)
    cache = KVCache.empty(one.config, batch_size=1, capacity=64, dtype=torch.float16)
    prefixes.keep(list(range(20)) * 2, cache)
    assert prefixes.bytes == 0
    for make in (lambda: Batch(other, 1, prefixes), lambda: Reader(other, [[1]], 1, prefixes)):
        with pytest.raises(AssertionError, match="autre modèle"):
            make()
