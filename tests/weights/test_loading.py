import pickle
from pathlib import Path

import pytest
import torch

from gpt_lightning import weights
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import gpt2


def checkpoint(path: Path, **values) -> GPTModel:
    torch.manual_seed(0)
    model = GPTModel(
        GPTConfig(vocab_size=50257, context_length=8, emb_dim=8, n_heads=2, n_layers=1, **values)
    )
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    ours = {"format_version": 1, "model": model.config.to_dict(), "tokenizer": gpt2().state()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "gpt_lightning": ours}, path)
    return model.eval()


@pytest.mark.parametrize("values", [{}, {"tie_weights": False}, {"positions": "rope"}], ids=str)
def test_a_checkpoint_comes_back(tmp_path, values):
    model = checkpoint(tmp_path / "x.ckpt", **values)
    again, tokenizer = weights.load(str(tmp_path / "x.ckpt"))
    ids = torch.randint(50257, (2, 8))
    assert torch.equal(again(ids), model(ids)) and not again.training
    assert again.config == model.config and tokenizer.vocab_size == 50257
    assert (again.out_head.weight is again.tok_emb.weight) == model.config.tie_weights


def test_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="python train.py"):
        weights.load()
    for i, name in enumerate(("a/1/checkpoints/best", "a/1/checkpoints/last", "b/2/0/checkpoints/last")):
        path = Path(f"outputs/{name}.ckpt")
        checkpoint(path)
        import os

        os.utime(path, (i, i))
    found = lambda source, **k: str(weights.find_checkpoint(source, **k).relative_to("outputs"))  # noqa: E731
    assert found(None) == found("best") == found("last") == "b/2/0/checkpoints/last.ckpt"
    assert found("outputs/a/1") == "a/1/checkpoints/best.ckpt"
    assert found("outputs/a/1", prefer="last") == "a/1/checkpoints/last.ckpt"
    assert found("outputs/a/1/checkpoints/last.ckpt") == "a/1/checkpoints/last.ckpt"
    with pytest.raises(ValueError, match="rien.ckpt"):
        weights.load("rien.ckpt")


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("protocol", ["torch", "pickle", "legacy"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, protocol):
    path, canary = tmp_path / "x.ckpt", tmp_path / "canari"
    content = {"state_dict": {}, "gpt_lightning": Bomb(canary)}
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "torch")
    with pytest.raises(ValueError, match="x.ckpt"):
        weights.load(str(path))
    assert not canary.exists()


def damaged(path: Path, change) -> str:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda c: c["state_dict"].pop("model.final_norm.scale"), "manque le tenseur final_norm.scale"),
        (
            lambda c: c["state_dict"].update({"model.final_norm.scale": torch.ones(3)}),
            r"final_norm.scale a la forme \(3,\)",
        ),
        (lambda c: c.pop("gpt_lightning"), "inconnue .*state_dict"),
        (lambda c: c["gpt_lightning"].update(format_version=99), "format 99"),
        (lambda c: c["gpt_lightning"]["model"].update(heads=2), "heads"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path, change, why):
    checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=why):
        weights.load(damaged(tmp_path / "x.ckpt", change))


@pytest.mark.parametrize("size", [0, 1, 1000, -1])
def test_a_truncated_file_is_refused(tmp_path, size):
    checkpoint(tmp_path / "x.ckpt")
    content = (tmp_path / "x.ckpt").read_bytes()
    (tmp_path / "x.ckpt").write_bytes(content[:size])
    with pytest.raises(ValueError, match="x.ckpt"):
        weights.load(str(tmp_path / "x.ckpt"))
