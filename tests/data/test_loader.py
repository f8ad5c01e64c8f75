import numpy as np
import pytest

from gpt_lightning.data.loader import BatchOrder, TrainLoader
from gpt_lightning.data.windows import SlidingWindowDataset

DATASET = SlidingWindowDataset(np.arange(400, dtype=np.uint16), max_length=4, stride=4)  # 99 fenêtres


def loader(*, batch_size=2, world_size=1, rank=0, accumulate=1, seed=7, workers=0) -> TrainLoader:
    order = BatchOrder(
        len(DATASET),
        batch_size=batch_size,
        seed=seed,
        world_size=world_size,
        rank=rank,
        accumulate=accumulate,
    )
    return TrainLoader(DATASET, order, num_workers=workers)


def starts(batch) -> list[int]:
    return (batch[0][:, 0].int() // 4).tolist()


def steps(world_size, batch_size, accumulate, epochs=2):
    """Les fenêtres que tous les processus lisent à chaque pas d'optimiseur."""
    ranks = [
        loader(batch_size=batch_size, world_size=world_size, rank=r, accumulate=accumulate)
        for r in range(world_size)
    ]
    read = [[starts(batch) for _ in range(epochs) for batch in one] for one in ranks]
    n_steps = len(read[0]) // accumulate
    return [
        sorted(w for one in read for batch in one[s * accumulate : (s + 1) * accumulate] for w in batch)
        for s in range(n_steps)
    ]


def test_each_step_reads_the_same_windows_whatever_the_processes():
    reference = steps(1, 8, 1)
    assert steps(1, 4, 2) == reference
    assert steps(2, 4, 1) == reference
    assert steps(2, 2, 2) == reference
    assert steps(4, 2, 1) == reference


def test_an_epoch_reads_no_window_twice_and_the_next_changes_the_order():
    one = loader()
    first, second = ([w for batch in one for w in starts(batch)] for _ in range(2))
    assert len(set(first)) == len(first) == 98 and first != second


def test_another_seed_is_another_order():
    assert [starts(b) for b in loader()] != [starts(b) for b in loader(seed=8)]


def test_workers_do_not_change_the_order():
    assert [starts(b) for b in loader(workers=2)] == [starts(b) for b in loader()]


@pytest.mark.parametrize(
    "stop, workers", [*((stop, 0) for stop in range(0, 100, 5)), (1, 2), (48, 2), (49, 2)]
)
def test_resuming_reads_exactly_the_rest(stop, workers):
    one = loader()
    whole = [starts(batch) for _ in range(3) for batch in one]
    before = loader(workers=workers)
    read = []
    while len(read) < stop:
        for batch in before:
            read.append(starts(batch))
            if len(read) == stop:
                break
    after = loader(workers=workers)
    after.load_state_dict(before.state_dict())
    while len(read) < len(whole):
        for batch in after:
            read.append(starts(batch))
            if len(read) == len(whole):
                break
    assert read == whole


def test_resuming_with_other_processes_reads_the_rest():
    before = loader(batch_size=4)
    done = [w for _, batch in zip(range(6), before, strict=False) for w in starts(batch)]
    ranks = [loader(batch_size=2, world_size=2, rank=r) for r in range(2)]
    for one in ranks:
        one.load_state_dict(before.state_dict())
    rest = [w for one in ranks for batch in one for w in starts(batch)]
    assert sorted(done + rest) == sorted(w for batch in loader(batch_size=4) for w in starts(batch))


def test_resuming_another_corpus_is_refused():
    state = loader().state_dict()
    with pytest.raises(ValueError, match="n_windows"):
        loader().load_state_dict({**state, "n_windows": 5})
    with pytest.raises(ValueError, match="seed"):
        loader(seed=1).load_state_dict(state)


def shifted(epoch=0, windows=0, workers=0, world_size=1, rank=0) -> TrainLoader:
    dataset = SlidingWindowDataset(np.arange(400, dtype=np.uint16), max_length=4, stride=4)
    order = BatchOrder(len(dataset), batch_size=2, seed=7, world_size=world_size, rank=rank, shift=4)
    made = TrainLoader(dataset, order, num_workers=workers)
    made.load_state_dict(order.state(epoch, windows))
    return made


def firsts(one: TrainLoader) -> list[list[int]]:
    return [batch[0][:, 0].tolist() for batch in one]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shift_is_a_function_of_the_seed_and_the_epoch(workers):
    one = shifted(workers=workers)
    epochs = [firsts(one) for _ in range(6)]
    offsets = [{first % 4 for batch in epoch for first in batch if first < 395} for epoch in epochs]
    assert offsets[0] == {0} and all(len(found) == 1 for found in offsets)
    assert len(set.union(*offsets)) > 1  # pas toujours le même
    for epoch, read in enumerate(epochs):
        assert firsts(shifted(epoch, workers=workers)) == read  # reprise au début d'une époque
        assert firsts(shifted(epoch, 10, workers=workers)) == read[5:]  # et en son milieu
        both = [firsts(shifted(epoch, world_size=2, rank=rank)) for rank in range(2)]
        assert [batch for pair in zip(*both, strict=True) for batch in pair] == read[: 2 * len(both[0])]


def test_shifted_windows_are_refused_where_they_overlap(tmp_path):
    from gpt_lightning.data import SlidingWindowDataModule
    from gpt_lightning.tokenizers import ByteTokenizer

    options = {"tokenizer": ByteTokenizer(), "path": "x", "max_length": 8, "cache_dir": str(tmp_path)}
    with pytest.raises(ValueError, match="data.shift=true"):
        SlidingWindowDataModule(stride=4, shift=True, **options)
    assert SlidingWindowDataModule(stride=4, **options).shift is False
    assert SlidingWindowDataModule(**options).shift is True
    assert SlidingWindowDataModule(shift=False, **options).shift is False
