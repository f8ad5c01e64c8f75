"""Un pas qui diverge est nul, dit, et ne laisse rien : ni poids, ni checkpoint, ni meilleur."""

import subprocess
import sys

import pytest
import torch

from gpt_lightning.cli.composition import compose_resolved
from gpt_lightning.commands.train import train
from gpt_lightning.model import GPTModel
from gpt_lightning.training.divergence import Diverged, DivergenceGuard
from gpt_lightning.training.muon import MuonAdamW
from tests.conftest import ROOT, sentences
from tests.resilience.runs import TINY, read

STEPS = 8


@pytest.fixture
def settings(text_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def compose(*typed):
        more = (
            f"data.path='{text_file}'",
            f"trainer.max_steps={STEPS}",
            "callbacks.sample=null",
            "save_every=1",
        )
        found, _ = compose_resolved("train", *TINY, *more, f"output_dir='{tmp_path / 'x'}'", *typed)
        (tmp_path / "x").mkdir(exist_ok=True)
        return found

    return compose


@pytest.fixture
def broken(monkeypatch):
    """broken(lots, ce qu'on ajoute) : les pertes de ces lots d'entraînement (le premier est 1) sont abîmées."""

    def install(batches, spoil):
        whole, seen = GPTModel.loss, []

        def loss(self, x, y):
            found = whole(self, x, y)
            if not torch.is_grad_enabled():
                return found
            seen.append(1)
            return spoil(self, found) if len(seen) in batches else found

        monkeypatch.setattr(GPTModel, "loss", loss)

    return install


def nan_loss(model, loss):
    return loss * float("nan")


def infinite_gradient(model, loss):
    """La perte est finie, le gradient ne l'est pas."""
    weight = model.final_norm.scale
    return loss + (weight.sum() - weight.sum().detach()) * 3e38 * 10


WAYS = {
    "la perte": ((), {4}, nan_loss),
    "le gradient": ((), {4}, infinite_gradient),
    "bf16": (("trainer.precision=bf16-true",), {4}, nan_loss),
    "le second lot d'un pas": (("trainer.accumulate_grad_batches=2",), {8}, nan_loss),
    "le dernier pas": ((), {STEPS}, nan_loss),
    "avec AdamW": (("optim=adamw", "optim.lr=1e-3"), {4}, nan_loss),
}


def finite(path):
    return all(torch.isfinite(one).all() for one in read(path)["state_dict"].values())


@pytest.mark.parametrize("way", WAYS)
def test_it_stops_at_the_step_and_keeps_nothing_of_it(way, settings, broken, tmp_path):
    typed, batches, spoil = WAYS[way]
    broken(batches, spoil)
    step = STEPS if way == "le dernier pas" else 4
    with pytest.raises(
        Diverged, match=rf"^Au pas {step} \(époque 1, fenêtres \d+ à \d+ de son ordre\), .* nan_policy"
    ):
        train(settings(*typed))
    checkpoints = sorted((tmp_path / "x" / "checkpoints").glob("*.ckpt"))
    assert checkpoints and all(finite(path) for path in checkpoints)
    assert max(read(path)["global_step"] for path in checkpoints) == step - 1


@pytest.mark.parametrize("way", WAYS)
def test_it_skips_the_step_and_ends(way, settings, broken, tmp_path, caplog):
    typed, batches, spoil = WAYS[way]
    broken(batches, spoil)
    assert train(settings(*typed, "nan_policy=skip")) < 10
    assert "ce pas est annulé" in caplog.text
    last = read(tmp_path / "x" / "checkpoints" / "last.ckpt")
    assert last["global_step"] == STEPS and finite(tmp_path / "x" / "checkpoints" / "best.ckpt")
    assert all(torch.isfinite(one).all() for one in last["state_dict"].values())


def test_too_many_in_a_row_stop_it(settings, broken):
    broken({3, 4, 5}, nan_loss)
    with pytest.raises(Diverged, match=r"^Au pas 5 .*C'est le 3e de suite"):
        train(settings("nan_policy=skip", "nan_skips=2"))


def test_a_real_divergence_ends_on_a_sentence(text_file, command, tmp_path):
    typed = (
        *TINY,
        f"data.path={text_file}",
        "optim=adamw",
        "optim.lr=1e18",
        "optim.warmup=1",
        "output_dir=x",
    )
    done = command("train.py", *typed, "trainer.max_steps=30", "trainer.gradient_clip_val=null", cwd=tmp_path)
    assert done.returncode == 1 and "Fini" not in done.stdout, done.stdout
    assert "un nombre fini" in done.stderr and len(sentences(done.stderr)) == 1
    for path in (tmp_path / "x" / "checkpoints").glob("*.ckpt"):
        assert finite(path)


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(*shape)) for shape in ((8, 4), (6, 6), (6, 6), (5,))]


def optimizers():
    def muon(ps):
        groups = [{"params": ps[1:3], "muon": True, "weight_decay": 0.1}, {"params": [ps[0], ps[3]]}]
        return MuonAdamW(groups, lr=0.01, fused=True, momentum_warmup=0)

    return {"adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, fused=True), "muon": muon}


@pytest.mark.parametrize("defers", [False, True], ids=["lu aussitôt", "lu plus tard"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_void_step_is_a_step_that_never_was(name, defers):
    """Le pas annulé sur l'appareil, ou lu aussitôt : les suivants sont ceux d'un optimiseur qui ne l'a pas vu."""
    results = []
    for bad in (None, 2):
        ps = parameters()
        optimizer, guard = optimizers()[name](ps), DivergenceGuard("skip", 5)
        guard.defers = defers
        for step in range(5):
            if step == bad or (bad is None and step == 2):
                if bad is None:
                    continue
                for p in ps:
                    p.grad = torch.full_like(p, float("nan"))
            else:
                generator = torch.Generator().manual_seed(step)
                for p in ps:
                    p.grad = torch.randn(p.shape, generator=generator)
            code = torch.tensor(2.0 if step == bad else 0.0)
            guard.judge(optimizer, code, step=step + 1, where="ici")
            optimizer.step()
        guard.check()
        results.append([p.detach().clone() for p in ps])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_what_is_read_later_names_the_first_bad_step():
    guard, optimizer = DivergenceGuard("stop"), optimizers()["adamw"](parameters())
    guard.defers = True
    for step, code in enumerate((0.0, 0.0, 3.0, 0.0, 1.0), start=1):
        guard.judge(optimizer, torch.tensor(code), step=step, where=f"là {step}")
    with pytest.raises(Diverged, match=r"^Au pas 3 \(là 3\), ni la perte ni le gradient"):
        guard.check()


ONE_RANK = """
import os, torch
from gpt_lightning.model import GPTModel
whole, seen = GPTModel.loss, []
def loss(self, x, y):
    found = whole(self, x, y)
    seen.append(torch.is_grad_enabled())
    bad = os.environ["RANK"] == "1" and seen[-1] and sum(seen) == 4
    return found * float("nan") if bad else found
GPTModel.loss = loss
from gpt_lightning.commands.train import main
main()
"""


@pytest.mark.slow
def test_one_process_that_diverges_stops_them_all_at_its_step(text_file, tmp_path):
    (tmp_path / "un.py").write_text(ONE_RANK)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "un.py")
    typed = (*TINY, f"data.path={text_file}", "output_dir=x", "trainer.max_steps=8", "save_every=1")
    done = subprocess.run(
        [*launcher, *typed],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={**env(), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode and done.stderr.count("Au pas 4 (") == 1, done.stderr
    assert read(tmp_path / "x" / "checkpoints" / "step_0000003.ckpt")["global_step"] == 3
    assert all(finite(path) for path in (tmp_path / "x" / "checkpoints").glob("*.ckpt"))


def env():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
