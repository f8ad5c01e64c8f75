"""Les lots de réponses : chaque ligne une fois, dans un ordre qui ne dépend que de la graine et de l'époque."""

import numpy as np
import pytest
import torch

from gpt_lightning.data.padded import AnswerDataset, AnswerLoader, AnswerOrder, EncodedConversation, pack


def dataset(n: int = 203, packed: int | None = None) -> AnswerDataset:
    draw = np.random.default_rng(0)
    rows = []
    for length in draw.integers(4, 40, n):
        learned = draw.random(length) < 0.3
        learned[-1] = True
        rows.append(EncodedConversation(draw.integers(0, 90, length).astype(np.int32), learned))
    return AnswerDataset(rows, pack([len(row.ids) - 1 for row in rows], packed) if packed else None)


@pytest.mark.parametrize("room", [40, 64, 300])
def test_packing_keeps_every_conversation_whole(room):
    lengths = np.random.default_rng(1).integers(1, 41, 500).tolist()
    bins = pack(lengths, room)
    assert sorted(index for one in bins for index in one) == list(range(500))
    sums = [sum(lengths[index] for index in one) for one in bins]
    assert max(sums) <= room and sum(lengths) / (len(bins) * room) > 0.9


@pytest.mark.parametrize("packed", [None, 64])
def test_a_batch_is_padded_on_the_right_and_learns_what_the_mask_says(packed):
    data = dataset(packed=packed)
    batch = data.batch([3, 0, 7])
    assert batch.ids.shape == (3, int(data.lengths[[3, 0, 7]].max()))
    expected = []
    for line, index in enumerate((3, 0, 7)):
        start = line * batch.ids.shape[1]
        for one in data.bins[index]:
            row = data.rows[one]
            size = len(row.ids) - 1
            assert batch.ids.flatten()[start : start + size].tolist() == row.ids[:-1].tolist()
            expected += [(start + i, int(row.ids[i + 1])) for i in range(size) if row.learned[i + 1]]
            start += size
    assert list(zip(batch.where.tolist(), batch.targets.tolist(), strict=True)) == expected
    assert (batch.segments is not None) == bool(packed)


@pytest.mark.parametrize("world, accumulate", [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_each_step_reads_the_same_rows_whatever_the_processes(world, accumulate):
    data = dataset()
    whole = AnswerOrder(data, batch_size=4 * world * accumulate, seed=5)
    orders = [
        AnswerOrder(data, batch_size=4, seed=5, world_size=world, rank=rank, accumulate=accumulate)
        for rank in range(world)
    ]
    for epoch in (0, 3):
        for one in (whole, *orders):
            one.epoch = epoch
        parts = [list(one) for one in orders]
        for step, rows in enumerate(whole):
            read = [part[step * accumulate + i] for part in parts for i in range(accumulate)]
            assert sorted(sum(read, [])) == sorted(rows)
    seen = sum(whole, [])
    assert len(seen) == len(set(seen)) == len(whole) * whole.per_step


def test_the_order_depends_on_the_seed_and_the_epoch_alone_and_groups_lengths():
    data = dataset(2000)
    one, other = AnswerOrder(data, batch_size=4, seed=5), AnswerOrder(data, batch_size=16, seed=5)
    assert (one.permutation(2) == other.permutation(2)).all()
    assert (one.permutation(2) != one.permutation(3)).any()
    assert (one.permutation(2) != AnswerOrder(data, batch_size=4, seed=6).permutation(2)).any()
    grouped = [data.lengths[rows] for rows in other]
    padding = sum((rows.max() - rows).sum() for rows in grouped) / sum(rows.sum() for rows in grouped)
    assert padding < 0.05


@pytest.mark.parametrize("tokens", [1, 100, 5000, 20000])
def test_the_steps_of_a_token_budget_are_the_fewest_that_reach_it(tokens):
    order = AnswerOrder(dataset(), batch_size=8, seed=1)
    steps = order.steps_for(tokens)
    read, place = [], (0, 0)
    for _ in range(steps):
        place = order.place(*place)
        read.append(order.step_tokens(*place)[0])
        place = place[0], place[1] + order.per_step
    assert sum(read) >= tokens > sum(read[:-1])


@pytest.mark.parametrize("world, accumulate", [(1, 1), (1, 3), (2, 2)])
def test_the_weights_of_a_step_add_up_to_one_token(world, accumulate):
    """Chaque jeton appris d'un pas pèse autant : 1 / leur nombre, une fois moyennés les processus et les lots."""
    data = dataset()
    loaders = [
        AnswerLoader(
            data, AnswerOrder(data, batch_size=4, seed=5, world_size=world, rank=rank, accumulate=accumulate)
        )
        for rank in range(world)
    ]
    batches = [list(loader) for loader in loaders]
    for start in range(0, len(batches[0]), accumulate):
        step = [one for part in batches for one in part[start : start + accumulate]]
        total = sum(len(one.targets) * one.share for one in step) / (world * accumulate)
        assert total == pytest.approx(1) and len({one.share for one in step}) == 1


def test_a_resumed_loader_gives_the_rest_with_the_same_weights():
    data = dataset()
    whole = list(AnswerLoader(data, AnswerOrder(data, batch_size=4, seed=5, accumulate=2)))
    again = AnswerLoader(data, AnswerOrder(data, batch_size=4, seed=5, accumulate=2))
    again.load_state_dict({"seed": 5, "n_windows": len(data), "epoch": 0, "windows": 16})
    rest = list(again)
    assert len(rest) == len(whole) - 4
    for one, other in zip(rest, whole[4:], strict=True):
        assert torch.equal(one.ids, other.ids) and one.share == other.share
