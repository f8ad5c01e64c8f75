"""Le lot continu : une suite y est la même que seule, quand qu'elle entre et quoi que fassent les autres."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning.decoding import Strategy, batching, stream
from gpt_lightning.decoding.batching import Arrival, Batch, Row
from gpt_lightning.decoding.logprobs import score_text, score_tokens
from gpt_lightning.decoding.row_cache import RowCache
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.cache import KVCache
from gpt_lightning.model.fast.inference import for_inference

CONTEXT, EOS, SIZE = 48, 7, 90
STRATEGIES = [
    Strategy(temperature=0),
    Strategy(temperature=0.8, top_p=0.9),
    Strategy(top_k=5),
    Strategy(min_p=0.05),
    Strategy(typical_p=0.8),
    Strategy(repetition_penalty=1.3, temperature=0.7),
    Strategy(presence_penalty=1.0, frequency_penalty=0.5),
    Strategy(temperature=0, no_repeat_ngram=2),
]


def model(**options) -> GPTModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": SIZE, "context_length": CONTEXT, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    one = GPTModel(GPTConfig(**sizes, **options))
    with torch.no_grad():  # des distributions qui ne sont pas plates
        for parameter in one.parameters():
            parameter.mul_(4 if parameter.dim() == 2 else 1)
    return for_inference(one)


LEARNED, ROPE = model(), model(positions="rope")


def alone(one, row: Row) -> list[int]:
    """La suite que `stream` écrit, arrêtée où le contexte est plein."""
    most = min(row.max_new_tokens, CONTEXT + 1 - len(row.ids))
    options = {"strategy": row.strategy, "max_new_tokens": most, "seed": row.seed, "eos_id": row.eos_id}
    return [tokens[0].id for tokens in stream(one, [row.ids], first_row=row.rank, **options)]


def written_together(one, rows: list[Row], *, size: int, draw: random.Random) -> dict[Row, str]:
    """Écrit `rows` dans un lot de `size` lignes, où chacune entre au hasard : pourquoi chacune finit."""
    batch, waiting, ended = Batch(one, size), list(rows), {}
    while waiting or batch.rows or batch.arriving:
        while waiting and batch.free and draw.random() < 0.6:
            batch.join(Arrival([waiting.pop(0)]))
        ended |= {one.row: one.reason for one in batch.step() if one.reason}
        assert len(batch.rows) == len(batch.cache.lengths) <= size
    return ended


@pytest.mark.parametrize("one", [LEARNED, ROPE], ids=["apprises", "rope"])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 6))
def test_company_changes_no_text(one, seed, size):
    draw = random.Random(seed)
    rows = [
        Row(
            [draw.randrange(SIZE) for _ in range(draw.randint(1, CONTEXT))],
            draw.choice(STRATEGIES),
            draw.randint(1, 60),
            eos_id=EOS,
            seed=draw.randrange(100),
            rank=draw.randrange(5),
        )
        for _ in range(10)
    ]
    ended = written_together(one, rows, size=size, draw=draw)
    for row in rows:
        assert row.new == alone(one, row), row.strategy
        assert ended[row] == ("eos" if row.new[-1] == EOS else "length")


@pytest.mark.parametrize("dtype", ["bf16", "int8", "int4"])
def test_every_precision_writes(dtype):
    """Seule dans le lot, une suite est celle de `stream` ; à plusieurs, les arrondis peuvent en changer les jetons."""
    torch.manual_seed(0)
    sizes = {"vocab_size": SIZE, "context_length": CONTEXT, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    one = GPTModel(GPTConfig(**sizes))
    one = for_inference(one.bfloat16() if dtype == "bf16" else one, "fp32" if dtype == "bf16" else dtype)
    row = Row([1, 2, 3], Strategy(), 12, seed=1, top=2)
    written_together(one, [row], size=1, draw=random.Random(0))
    assert row.new == alone(one, row)
    rows = [Row([rank + 1] * (rank + 1), Strategy(), 12, seed=rank) for rank in range(5)]
    ended = written_together(one, rows, size=3, draw=random.Random(0))
    assert set(ended.values()) == {"length"} and all(len(row.new) == 12 for row in rows)


def test_one_reading_serves_several_choices():
    rows = [Row([1, 2, 3], Strategy(), 12, seed=5, rank=rank) for rank in range(4)]
    batch = Batch(LEARNED, 4)
    batch.join(Arrival(rows))
    while batch.rows or batch.arriving:
        batch.step()
    options = {"strategy": Strategy(), "max_new_tokens": 12, "seed": 5, "num_samples": 4}
    together = [[] for _ in rows]
    for tokens in stream(LEARNED, [[1, 2, 3]], **options):
        for token in tokens:
            together[token.row].append(token.id)
    assert [row.new for row in rows] == together


def test_a_long_opening_is_read_between_the_tokens_of_others(monkeypatch):
    monkeypatch.setattr(batching, "CHUNK", 8)
    draw = random.Random(3)
    long = Row([draw.randrange(SIZE) for _ in range(40)], Strategy(temperature=0), 5)
    short = Row([1, 2], Strategy(temperature=0), 20)
    batch = Batch(LEARNED, 2)
    batch.join(Arrival([short]))
    batch.step()
    batch.join(Arrival([long]))
    for rank in range(1, 5):
        batch.step()
        assert len(short.new) == rank + 1 and not long.new  # l'autre n'attend pas
    while batch.rows or batch.arriving:
        batch.step()
    assert long.new == alone(LEARNED, long) and short.new == alone(LEARNED, short)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_row_that_leaves_frees_its_place_and_moves_no_other(seed):
    draw = random.Random(seed)
    rows = [Row([rank + 1], Strategy(), 25, seed=rank) for rank in range(5)]
    batch = Batch(LEARNED, 5)
    for row in rows:
        batch.join(Arrival([row]))
    gone = set()
    while batch.rows or batch.arriving:
        batch.step()
        if batch.rows and draw.random() < 0.15:
            gone.add(leaving := draw.choice(batch.rows))
            before = batch.free
            batch.leave(leaving)
            assert batch.free == before + 1
    for row in rows:
        expected = alone(LEARNED, row)
        assert row.new == expected[: len(row.new)] and (row in gone or len(row.new) == len(expected))


def test_leaving_before_being_read_is_leaving():
    rows = [Row([1, 2], Strategy(), 5) for _ in range(3)]
    batch = Batch(LEARNED, 3)
    batch.join(Arrival(rows[:2]))
    batch.join(Arrival(rows[2:]))
    batch.leave(rows[0])
    batch.leave(rows[2])
    batch.leave(rows[2])
    assert batch.free == 2 and len(batch.arriving) == 1
    assert {one.row for one in batch.step()} == {rows[1]}


def test_a_stop_and_measures_are_each_row_s_own():
    rows = [
        Row([1], Strategy(temperature=0), 9, top=3),
        Row([1], Strategy(temperature=0), 9),
        Row([1], Strategy(temperature=0), 9, until=lambda token: True, top=0),
    ]
    batch = Batch(LEARNED, 3)
    for row in rows:
        batch.join(Arrival([row]))
    found = {row: [] for row in rows}
    while batch.rows or batch.arriving:
        for one in batch.step():
            found[one.row].append(one)
    assert len(found[rows[2]]) == 1 and found[rows[2]][0].reason == "stop"
    assert found[rows[2]][0].scored.top == ()
    assert all(one.scored is None for one in found[rows[1]])
    text = [1, *rows[0].new]
    expected = score_text(LEARNED, text, top=3)
    for one, other in zip(found[rows[0]], expected, strict=True):
        assert one.scored.id == other.id and one.scored.rank == other.rank == 1
        assert one.scored.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [index for index, _ in one.scored.top] == [index for index, _ in other.top]


def test_what_has_no_place_or_no_text_is_refused():
    batch = Batch(LEARNED, 1)
    with pytest.raises(UserError, match="vide"):
        batch.join(Arrival([Row([], Strategy(), 5)]))
    with pytest.raises(UserError, match="contexte"):
        batch.join(Arrival([Row([1] * (CONTEXT + 1), Strategy(), 5)]))
    batch.join(Arrival([Row([1], Strategy(), 5)]))
    with pytest.raises(AssertionError):
        batch.join(Arrival([Row([1], Strategy(), 5)]))


def test_logits_that_are_not_numbers_stop_everything():
    broken = model()
    with torch.no_grad():
        broken.final_norm.scale.fill_(float("nan"))
    batch = Batch(broken, 2)
    batch.join(Arrival([Row([1], Strategy(), 5)]))
    with pytest.raises(UserError, match="NaN"):
        batch.step()
    batch.clear()
    assert batch.free == 2 and batch.step() == []
    with pytest.raises(UserError, match="NaN"):
        score_text(broken, [1, 2, 3])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_rows_of_a_cache_hold_what_they_read(seed):
    """Des lignes entrent, avancent et sortent : chacune lit comme un cache à elle seule."""
    draw = random.Random(seed)
    config = ROPE.config
    cache = RowCache(ROPE, 4, None, None)
    texts: list[list[int]] = []
    with torch.inference_mode():
        for _ in range(12):
            if len(texts) < 4 and draw.random() < 0.6:
                text = [draw.randrange(SIZE) for _ in range(draw.randint(1, 10))]
                own = KVCache.empty(config, batch_size=1, capacity=len(text))
                ROPE.next_logits(torch.tensor([text]), own)
                cache.enter(own)
                texts.append(text)
            elif texts and draw.random() < 0.3:
                row = draw.randrange(len(texts))
                cache.leave(row)
                texts[row] = texts[-1]
                texts.pop()
            if texts:
                new = [draw.randrange(SIZE) for _ in texts]
                logits = ROPE.next_logits(torch.tensor(new)[:, None], cache)
                for text, token, found in zip(texts, new, logits, strict=True):
                    text.append(token)
                    expected = ROPE.next_logits(torch.tensor([text]))[0]
                    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            assert cache.lengths == [len(text) for text in texts]


@pytest.mark.parametrize("length", [1, 2, CONTEXT, CONTEXT + 1, 3 * CONTEXT + 5])
def test_every_token_but_the_first_is_measured_once(length):
    draw = torch.Generator().manual_seed(length)
    ids = torch.randint(SIZE, (length,), generator=draw).tolist()
    found = score_text(LEARNED, ids, top=4)
    assert [one.id for one in found] == ids[1:]
    for place, one in enumerate(found, start=1):
        if place <= CONTEXT:  # au-delà, la fenêtre a glissé
            before = torch.tensor([ids[max(0, place - CONTEXT) : place]])
            traces = LEARNED(before)[0, -1].log_softmax(-1)
            assert one.logprob == pytest.approx(float(traces[one.id]), abs=1e-4)
            assert one.rank == int((traces > traces[one.id]).sum()) + 1
        assert one.top[0][1] >= one.top[-1][1] >= -50 and len(one.top) == 4


def test_more_rivals_than_the_vocabulary_has_is_all_of_them():
    (one,) = score_tokens(torch.randn(1, 5), [2], 20)
    assert len(one.top) == 5
