import pytest

from gpt_lightning.training.callbacks.plot import draw, smooth


def test_smoothing_keeps_a_constant_and_calms_noise():
    assert smooth([2.0] * 100) == pytest.approx([2.0] * 100)
    noisy = [5 - 0.01 * i + (-1) ** i for i in range(200)]
    calm = smooth(noisy)
    assert max(abs(a - b) for a, b in zip(calm[40:], calm[41:], strict=False)) < 0.3
    assert smooth([3.0, 1.0]) == [3.0, 1.0]  # trop court pour être lissé


@pytest.mark.parametrize("n_rows", [3, 60])
def test_the_picture_is_drawn_whole(tmp_path, n_rows):
    rows = {
        step: {
            "tokens": 512.0 * step,
            "epoch": step / 50,
            "lr": 1e-3,
            "train/loss": 10 / step,
            "train/loss_eval": 9.0,
        }
        for step in range(1, n_rows + 1)
    }
    rows[n_rows]["val/loss"] = 4.0
    draw(rows, tmp_path)
    assert (tmp_path / "loss.pdf").read_bytes()[:4] == b"%PDF" and (
        tmp_path / "loss.png"
    ).stat().st_size > 10_000


def test_nothing_is_drawn_without_an_evaluation(tmp_path):
    draw({1: {"tokens": 512.0, "epoch": 0.1, "lr": 1e-3, "train/loss": 9.0}}, tmp_path)
    assert not list(tmp_path.iterdir())
