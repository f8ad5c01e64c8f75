import pytest
import torch
from torch import nn

from gpt_lightning.training.optim import OptimConfig, build_optimizer


def factors(total=100, **values) -> list[float]:
    config = OptimConfig(**values)
    return [config.factor(step, total) for step in range(total)]


def test_warmup_rises_to_the_top():
    rising = factors(schedule="constant", warmup=10)
    assert rising[:10] == pytest.approx([0.1 * i for i in range(1, 11)]) and set(rising[10:]) == {1.0}
    assert factors(warmup=0.1) == factors(warmup=10)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_falling_schedules_go_from_one_to_the_floor(schedule):
    values = factors(schedule=schedule, warmup=0, min_lr_ratio=0.1)
    assert values[0] == 1.0 and values == sorted(values, reverse=True)
    assert OptimConfig(schedule=schedule, warmup=0, min_lr_ratio=0.1).factor(100, 100) == pytest.approx(0.1)
    assert values[50] == pytest.approx(0.55)


def test_wsd_stays_then_falls_in_a_line():
    values = factors(schedule="wsd", warmup=10, decay=0.2)
    assert set(values[10:80]) == {1.0}
    assert values[80:] == pytest.approx([1 - i / 20 for i in range(20)])


def test_matrices_only_decay():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = build_optimizer(model, OptimConfig(weight_decay=0.3)).param_groups
    assert [(g["weight_decay"], sum(p.numel() for p in g["params"])) for g in groups] == [
        (0.3, 12),
        (0.0, 12),
    ]
    (group,) = build_optimizer(model, OptimConfig(weight_decay=0.3, decayed="all")).param_groups
    assert (group["weight_decay"], len(group["params"])) == (0.3, 4)


def test_it_is_torch_adamw():
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(lr=0.5, betas=[0.8, 0.9]))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.5 and optimizer.param_groups[0]["betas"] == (0.8, 0.9)


@pytest.mark.parametrize(
    "values",
    [{"lr": 0}, {"lr": -1}, {"lr": "vite"}, {"betas": [0.9]}, {"betas": [0.9, 1.0]}, {"schedule": "x"},
     {"decayed": "x"}, {"warmup": -1}, {"min_lr_ratio": 2}, {"weight_decay": None}],
)  # fmt: skip
def test_impossible_values_are_refused_by_name(values):
    with pytest.raises(ValueError, match=f"optim.{next(iter(values))}"):
        OptimConfig(**values)
