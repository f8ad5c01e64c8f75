import pytest
import torch
from torch import nn

from gpt_lightning.errors import UserError
from gpt_lightning.training.muon import MuonAdamW
from gpt_lightning.training.optim import OptimConfig, build_optimizer, resolve_lr


def adamw(**values) -> OptimConfig:
    return OptimConfig.from_dict(values, torch.optim.AdamW)


def muon(**values) -> OptimConfig:
    return OptimConfig.from_dict(values, MuonAdamW)


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
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(lr=0.5, arguments={"betas": [0.8, 0.9]}))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.5 and optimizer.param_groups[0]["betas"] == (0.8, 0.9)


@pytest.mark.parametrize(
    "values",
    [{"lr": 0}, {"lr": -1}, {"lr": "vite"}, {"betas": [0.9]}, {"betas": [0.9, 1.0]}, {"decayed": "x"},
     {"weight_decay": None}, {"weight_decay": -1}, {"rule": "lion"}, {"momentum": 0.5}],
)  # fmt: skip
def test_impossible_values_are_refused_by_name(values):
    with pytest.raises(UserError, match=f"optim.{next(iter(values))}"):
        adamw(**values)


@pytest.mark.parametrize("values", [{"momentum": 1}, {"momentum_warmup": -1}, {"ns_steps": 0}, {"eps": "x"}])
def test_impossible_values_of_muon_are_refused_before_any_model(values):
    with pytest.raises(UserError, match=next(iter(values)) if "eps" not in values else "MuonAdamW"):
        muon(**values)


def grown(optimizer, parameters, gradients) -> list[torch.Tensor]:
    for grads in gradients:
        for p, g in zip(parameters, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach().clone() for p in parameters]


class Blocks(nn.Module):
    """Une matrice de bloc, une table et un biais : ce que Muon prend, et ce qu'il laisse."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.trf_blocks = nn.ParameterList(
            [torch.randn(12, 8, generator=generator), torch.randn(8, generator=generator)]
        )
        self.tok_emb = nn.Parameter(torch.randn(20, 8, generator=generator))


def gradients(model, n=6) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in range(n)]


MUON = {"lr": 0.02, "weight_decay": 0.3, "momentum_warmup": 0, "betas": [0.9, 0.95]}


def test_muon_follows_the_rule_of_torch_and_leaves_the_rest_to_adamw():
    ours, theirs = Blocks(), Blocks()
    tok_emb, matrix, bias = ours.parameters()
    assert matrix.shape == (12, 8) and tok_emb.shape == (20, 8)
    found = grown(build_optimizer(ours, muon(**MUON)), list(ours.parameters()), gradients(ours))
    tok_emb, matrix, bias = theirs.parameters()
    theirs_muon = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": [tok_emb], "weight_decay": 0.3}, {"params": [bias], "weight_decay": 0.0}]
    theirs_adamw = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.95), fused=True)
    for grads in gradients(theirs):
        for p, g in zip(theirs.parameters(), grads, strict=True):
            p.grad = g.clone()
        theirs_muon.step(), theirs_adamw.step()
    torch.testing.assert_close(found[0], tok_emb.detach())
    torch.testing.assert_close(found[2], bias.detach())
    torch.testing.assert_close(found[1], matrix.detach(), atol=0.02, rtol=0.02)  # torch itère en bf16


def test_newton_schulz_brings_singular_values_near_one():
    from gpt_lightning.training.muon import orthogonalise

    matrices = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(2))
    for found in (orthogonalise(matrices), orthogonalise(matrices.mT).mT):
        values = torch.linalg.svdvals(found.float())
        assert values.min() > 0.6 and values.max() < 1.3
    alone = torch.cat([orthogonalise(one[None]) for one in matrices])
    torch.testing.assert_close(orthogonalise(matrices), alone, atol=1e-4, rtol=1e-3)
    half = torch.linalg.svdvals(orthogonalise(matrices.bfloat16()).float())
    assert half.min() > 0.6 and half.max() < 1.3


def test_the_momentum_rises_from_085():
    from gpt_lightning.training.muon import _momentum

    (group,) = [g for g in build_optimizer(Blocks(), muon(momentum_warmup=10)).param_groups if g.get("muon")]
    assert [_momentum(step, group) for step in (5, 10, 99)] == pytest.approx([0.9, 0.95, 0.95])


def test_muon_resumes_where_it_was():
    straight, first, second = Blocks(), Blocks(), Blocks()
    config, grads = muon(**{**MUON, "momentum_warmup": 4}), gradients(straight)
    expected = grown(build_optimizer(straight, config), list(straight.parameters()), grads)
    before = build_optimizer(first, config)
    grown(before, list(first.parameters()), grads[:3])
    second.load_state_dict(first.state_dict())
    after = build_optimizer(second, config)
    after.load_state_dict(before.state_dict())
    found = grown(after, list(second.parameters()), grads[3:])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_any_optimizer_can_be_named():
    values = {"_target_": "torch.optim.SGD", "momentum": 0.5, "lr": 0.1, "weight_decay": 0.2, "betas": None}
    optimizer = build_optimizer(Blocks(), OptimConfig.from_dict(values, torch.optim.SGD))
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.param_groups[0]["momentum"] == 0.5
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.2, 0.0]
    with pytest.raises(UserError, match="LBFGS refuse"):
        OptimConfig(optimizer=torch.optim.LBFGS)


@pytest.mark.parametrize("width, published", [(768, 6e-4), (1024, 3e-4), (1536, 2.5e-4), (2048, 2e-4)])
def test_the_automatic_rate_of_adamw_is_near_the_published_table(width, published):
    """Brown et al., 2020, table 2.1 : à un facteur 1,6 près, la largeur seule ne dit pas plus."""
    lr = resolve_lr({"lr": "auto"}, torch.optim.AdamW, width)["lr"]
    assert published / 1.6 < lr < published * 1.6


@pytest.mark.parametrize("width", [32, 128, 256, 768, 4096])
def test_adapters_have_a_rate_of_their_own(width):
    """Le même sous Muon et AdamW, qui les fait apprendre ; plus grand que celui d'un modèle entier."""
    lora = {"rank": 8}
    rates = {
        resolve_lr({"lr": "auto"}, optimizer, width, lora)["lr"]
        for optimizer in (torch.optim.AdamW, MuonAdamW)
    }
    (rate,) = rates
    assert rate <= 0.01 and (width > 256 or rate == 0.01)
    assert rate > resolve_lr({"lr": "auto"}, torch.optim.AdamW, width)["lr"] or width < 64
    whole = resolve_lr({"lr": "auto"}, MuonAdamW, width, {})["lr"]
    assert whole <= rate and whole == pytest.approx(0.01 if width <= 128 else 1.28 / width, rel=0.05)


def test_an_automatic_rate_is_a_number_and_a_number_wins():
    values = {"lr": "auto", "weight_decay": 0.1}
    for optimizer in (torch.optim.AdamW, MuonAdamW):
        assert isinstance(resolve_lr(values, optimizer, 128)["lr"], float)
        assert resolve_lr({**values, "lr": 3e-3}, optimizer, 128)["lr"] == 3e-3
    with pytest.raises(UserError, match="optim.lr=auto"):
        resolve_lr(values, torch.optim.SGD, 128)
