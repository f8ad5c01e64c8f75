import pickle

import numpy as np
import pytest

from gpt_lightning.data import SlidingWindowDataset
from gpt_lightning.tokenizers import gpt2


def windows(tokens, max_length, stride):
    return SlidingWindowDataset(tokens, max_length=max_length, stride=stride)


def test_windows_are_those_of_the_original(golden, verdict):
    expected, tokenizer = golden["windows"], gpt2()
    train = tokenizer.encode(verdict[: expected["split_at"]])
    val = tokenizer.encode(verdict[expected["split_at"] :])
    dataset = windows(train, 256, 128)
    assert (len(train), len(val)) == (expected["train_tokens"], expected["val_tokens"])
    assert len(dataset) == expected["train_windows_256_128"]
    assert len(windows(val, 256, 128)) == expected["val_windows_256_128"]
    assert dataset[0][0][:8].tolist() == expected["train_window_0_first8"]
    assert dataset[0][1][:8].tolist() == expected["train_window_0_target_first8"]
    assert dataset[-1][0][:8].tolist() == expected["train_last_window_first8"]
    everything = tokenizer.encode(verdict)
    for length, stride in ((4, 1), (4, 4), (8, 3)):
        assert len(windows(everything, length, stride)) == expected[f"windows_{length}_{stride}"]


@pytest.mark.parametrize("n", range(0, 14))
@pytest.mark.parametrize("length, stride", [(1, 1), (4, 1), (4, 4), (3, 5), (8, 3)])
def test_windows_are_slices(n, length, stride):
    tokens = list(range(n))
    expected = [tokens[i : i + length + 1] for i in range(0, n - length, stride)]
    found = [
        [*x.tolist(), int(y[-1])]
        for x, y in (windows(tokens, length, stride)[i] for i in range(len(expected)))
    ]
    assert found == expected and len(windows(tokens, length, stride)) == len(expected)


def test_window_may_span_shards(tmp_path):
    tokens = np.arange(23, dtype=np.uint16)
    paths = [tmp_path / f"{i}.bin" for i in range(4)]
    for path, part in zip(paths, np.split(tokens, [5, 6, 14]), strict=True):
        part.tofile(path)
    split = SlidingWindowDataset(paths, max_length=7, stride=2, dtype=np.uint16)
    whole = windows(tokens, 7, 2)
    assert len(split) == len(whole)
    assert all(
        (split[i][0] == whole[i][0]).all() and (split[i][1] == whole[i][1]).all() for i in range(len(whole))
    )


def test_the_memory_map_is_never_pickled(tmp_path):
    path = tmp_path / "t.bin"
    np.arange(1 << 16, dtype=np.uint32).tofile(path)
    dataset = SlidingWindowDataset([path], max_length=4, stride=4, dtype=np.uint32)
    dataset[0]
    sent = pickle.dumps(dataset)
    assert len(sent) < 2000
    assert pickle.loads(sent)[3][0].tolist() == [12, 13, 14, 15]


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("documents", [None, np.array([0, 9, 30])])
def test_an_offset_moves_every_window_and_keeps_their_number(offset, documents):
    tokens = np.arange(50, dtype=np.int64)
    plain = SlidingWindowDataset(tokens, max_length=4, stride=4, documents=documents)
    moved = SlidingWindowDataset(tokens, max_length=4, stride=4, documents=documents)
    moved.offset = offset
    assert len(plain) == len(moved)
    ends = [50] if documents is None else [9, 30, 50]
    for index in range(len(plain)):
        before, (x, y) = int(plain[index][0][0]), moved[index]
        end = next(one for one in ends if one > before)
        assert int(x[0]) == min(before + offset, end - 5) and y.tolist() == [one + 1 for one in x.tolist()]
        assert int(y[-1]) < end
