"""Les images de ce qui se passe dedans : cache, fenêtres, pas d'optimiseur, lot continu. Chacune sort du vrai code."""

import numpy as np
import pytest

from gpt_lightning.data.loader import BatchOrder
from gpt_lightning.demos import batching, cache, steps, windows
from gpt_lightning.errors import UserError


def drawn(paths, name):
    assert [path.name for path in paths] == [f"{name}.pdf", f"{name}.png"]
    assert all(path.stat().st_size > 1000 for path in paths)


@pytest.mark.parametrize("start, new", [(1, 1), (5, 9)])
def test_the_cache_computes_each_position_once(start, new, tmp_path):
    passes, tokens = cache.compute(start, new)
    assert len(tokens) == new
    assert [(one.first, one.end) for one in passes["sans cache"]] == [(0, start + i) for i in range(new)]
    seen = [place for one in passes["avec cache"] for place in range(one.first, one.end)]
    assert seen == list(range(start + new - 1))  # le dernier jeton écrit n'est pas relu
    drawn(cache.render(passes, tmp_path), "cache")


def test_the_windows_are_those_of_the_loader(tmp_path):
    panels = windows.compute(40, 6, 4, [0, 13], seed=1)
    first, shifted, overlapping, apart = panels.values()
    assert first.inputs[:, 0].tolist() == list(range(0, 36, 6))
    assert overlapping.inputs[:, 0].tolist() == list(range(0, 36, 4))
    order = BatchOrder(len(first.inputs), batch_size=1, seed=1, shift=6)
    order.epoch = 1
    assert (shifted.inputs[:-1, 0] == first.inputs[:-1, 0] + order.offset).all() and order.offset == 4
    for panel in panels.values():
        np.testing.assert_array_equal(panel.targets, panel.inputs + 1)
    assert all((row[0] < 13) == (row[-1] < 13) for row in apart.targets)
    drawn(windows.render(panels, [0, 13], tmp_path), "windows")


def test_a_step_reads_the_same_windows_however_it_is_cut(tmp_path):
    rows = steps.compute(36, 8, 2, seed=3)
    assert len(rows) == 4
    contents = [
        {step: {w for cell in cells if cell.step == step for w in cell.windows} for step in range(4)}
        for cells in rows.values()
    ]
    assert all(content == contents[0] for content in contents) and all(map(len, contents[0].values()))
    *_, resumed = rows.values()
    assert {(cell.turn, cell.rank) for cell in resumed if cell.step >= 2} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    drawn(steps.render(rows, 2, tmp_path), "steps")


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_free_row_never_stays_empty_while_a_request_waits(rows, tmp_path):
    lengths = [7, 2, 4, 4, 1]
    schedules = batching.compute(lengths, rows)
    continuous, fixed = schedules["lot continu"], schedules["lot fixe"]
    assert [end - first for first, end in continuous.spans] == lengths
    for instant in range(continuous.passes):
        busy = sum(first <= instant < end for first, end in continuous.spans)
        waiting = any(first > instant for first, _ in continuous.spans)
        assert busy <= rows and (busy == rows or not waiting)
    assert continuous.passes <= fixed.passes and continuous.occupancy >= fixed.occupancy
    drawn(batching.render(schedules, tmp_path), "batching")


@pytest.mark.parametrize(
    "call",
    [
        lambda: cache.compute(0, 3),
        lambda: windows.compute(10, 10, 1, []),
        lambda: windows.compute(10, 4, 1, [10]),
        lambda: windows.compute(10, 4, 5, []),
        lambda: steps.compute(16, 6, 0, 1),
        lambda: steps.compute(16, 8, 3, 1),
        lambda: batching.compute([3, 0], 2),
        lambda: batching.compute([3], 0),
    ],
)
def test_a_size_that_does_not_exist_is_one_sentence(call):
    with pytest.raises(UserError):
        call()
