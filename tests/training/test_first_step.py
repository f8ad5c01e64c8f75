"""Un appareil qui calcule faux se dit dès le premier lot ; celui qui arrondit ne se dit pas."""

import math

import pytest
import torch

from gpt_lightning.training.callbacks import first_step


@pytest.mark.parametrize(
    "precision, factor, said",
    [
        ("32-true", 1.0005, False),
        ("32-true", 1.002, True),
        ("32-true", 0.998, True),
        ("bf16-mixed", 1.005, False),
        ("bf16-mixed", 1.02, True),
        ("bf16-true", 1.005, False),
        ("16-mixed", 1.02, True),
        ("32-true", math.nan, True),
        ("bf16-mixed", math.inf, True),
    ],
)
def test_a_gap_is_judged_by_its_precision(precision, factor, said):
    sentence = first_step.compare(None, lambda batch: 9.7 * factor, lambda batch: 9.7, precision, "mps")
    assert (sentence is not None) == said
    if sentence is not None:
        assert "trainer.accelerator=cpu" in sentence
        assert ("trainer.precision=32-true" in sentence) == (precision != "32-true")


def test_one_row_is_enough_and_another_batch_is_entire():
    x = torch.zeros(4, 8)
    assert [len(part) for part in first_step.first_row((x, x))] == [1, 1]
    other = {"ids": x}
    assert first_step.first_row(other) is other
