import pytest

from gpt_lightning.cli.targets import build
from gpt_lightning.errors import UserError


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "builtins.exec",
        "subprocess.run",
        "shutil.rmtree",
        "logging.os.system",
        "torch.load",
        "torch.hub.load",
        "functools.partial",
        "lightning.pytorch.trainer.trainer.os.system",
        "lightning.pytorch.callbacks.model_checkpoint.shutil.rmtree",
        "gpt_lightning.cli.run.os.system",
        "gpt_lightning.weights.loading.torch.load",
        "gpt_lightning.cli.targets.importlib.import_module",
        "torch.optim.lr_scheduler.partial",
        "importlib.import_module",
        123,
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_dangerous_targets_are_refused(target, nested, tmp_path):
    canary = tmp_path / "canari"
    node = {"_target_": target, "_args_": [f"touch {canary}"]}
    with pytest.raises(ValueError, match="_target_"):
        build(
            "decoding", {"_target_": "gpt_lightning.decoding.Strategy", "top_k": [node]} if nested else node
        )
    assert not canary.exists()


def test_allowed_targets_are_built():
    assert build("decoding", {"_target_": "gpt_lightning.decoding.Strategy", "top_k": 3}).top_k == 3


def test_errors_inside_a_target_keep_their_sentence():
    with pytest.raises(ValueError, match="decoding.top_k=0"):
        build("decoding", {"_target_": "gpt_lightning.decoding.Strategy", "top_k": 0})


@pytest.mark.parametrize(
    "group, target",
    [
        ("callbacks", "lightning.pytorch.loggers.CSVLogger"),
        ("logger", "gpt_lightning.training.callbacks.Monitor"),
        ("optim", "gpt_lightning.decoding.Strategy"),
        ("decoding", "gpt_lightning.tokenizers.gpt2"),
        ("callbacks", "gpt_lightning.weights.load"),
        ("data", "gpt_lightning.cli.run"),
    ],
)
def test_an_object_of_another_group_is_refused(group, target):
    with pytest.raises(UserError, match="_target_"):
        build(group, {"_target_": target})


@pytest.mark.parametrize(
    "values, words", [({"top_kk": 3}, "top_kk"), ({"monitor": 1, "top_k": 3}, "monitor")], ids=str
)
def test_a_key_too_many_is_named(values, words):
    with pytest.raises(UserError, match=words):
        build("decoding", {"_target_": "gpt_lightning.decoding.Strategy", **values})


def test_a_missing_key_is_named():
    with pytest.raises(UserError, match="monitor"):
        build("callbacks", {"_target_": "lightning.pytorch.callbacks.EarlyStopping"})
