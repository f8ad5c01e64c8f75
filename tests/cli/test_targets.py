import pytest

from gpt_lightning.cli.targets import build
from gpt_lightning.errors import UserError
from tests.conftest import sentences
from tests.resilience.faults import Zygote


@pytest.fixture(scope="module")
def start(forks, tmp_path_factory):
    return Zygote(forks, tmp_path_factory.mktemp("cache"))


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
        "lightning.pytorch.cli.instantiate_class",
        "lightning.pytorch.cli.LightningCLI",
        "lightning.fabric.utilities.cloud_io._load",
        "lightning.fabric.utilities.cloud_io.get_filesystem",
        "lightning.pytorch.core.saving.pl_load",
        "lightning.pytorch.core.saving._load_from_checkpoint",
        "lightning.pytorch.utilities.model_helpers.is_overridden",
        "lightning.pytorch.trainer.connectors.checkpoint_connector._CheckpointConnector",
        "lightning.Trainer",
        "lightning.LightningModule",
        "lightning.pytorch.LightningDataModule",
        "pytorch_lightning.Trainer",
        "gpt_lightning.cli.record.save_yaml",
        "gpt_lightning.cli.record.load_yaml",
        "gpt_lightning.cli.lock.hold",
        "gpt_lightning.cli.processes.launch_children",
        "gpt_lightning.cli.composition.FromEnvironment",
        "gpt_lightning.durable.write_text",
        "gpt_lightning.durable.filling",
        "gpt_lightning.weights.load",
        "gpt_lightning.weights.untrusted.read_torch",
        "gpt_lightning.weights.exporting.export",
        "gpt_lightning.commands.train.train",
        "gpt_lightning.training.checkpoint_io.DurableCheckpointIO",
        "gpt_lightning.training.loggers.MetricsCSV",
        "gpt_lightning.model.GPTModel",
        "gpt_lightning.__main__.main",
        "gpt_lightning.data.__main__.main",
        "gpt_lightning.cli.targets.hydra.utils.instantiate",
        "torch.optim.AdamW",
        "torch.optim.optimizer.torch.load",
        "torch.optim.__builtins__.eval",
        "",
        None,
        ["os.system"],
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


@pytest.mark.parametrize("extra", [{"_partial_": True}, {"_args_": [1]}, {"_invente_": 1}], ids=str)
def test_a_target_is_built_whole_by_its_keys(extra):
    with pytest.raises(UserError, match=f"{next(iter(extra))} est refusé"):
        build("decoding", {"_target_": "gpt_lightning.decoding.Strategy", **extra})


@pytest.mark.parametrize(
    "where",
    [
        {"plugins": {"_target_": "gpt_lightning.training.loggers.MetricsCSV", "path": "x"}},
        {"plugins": [{"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}]},
        {"strategy": {"_target_": "lightning.pytorch.profilers.SimpleProfiler"}},
        {"profiler": {"_target_": "lightning.pytorch.strategies.DDPStrategy"}},
        {"devices": {"_target_": "lightning.pytorch.strategies.DDPStrategy"}},
        {
            "strategy": {
                "_target_": "lightning.pytorch.strategies.DDPStrategy",
                "x": {"_target_": "os.system"},
            }
        },
    ],
    ids=str,
)
def test_each_place_has_its_type(where):
    with pytest.raises(UserError, match="_target_|ne connaît pas"):
        build("trainer", {"_target_": "lightning.Trainer", **where})


def test_what_a_place_takes_is_built():
    node = {
        "_target_": "lightning.Trainer",
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "strategy": {"_target_": "lightning.pytorch.strategies.SingleDeviceStrategy"},
        "plugins": [{"_target_": "gpt_lightning.training.checkpoint_io.DurableCheckpointIO"}],
        "profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler"},
    }
    assert type(build("trainer", node).profiler).__name__ == "SimpleProfiler"
    assert build("tokenizer", {"_target_": "gpt_lightning.tokenizers.gpt2"}).vocab_size == 50257


FROM_ELSEWHERE = {
    "callbacks": "callbacks: {x: {_target_: os.system, command: touch canari}}",
    "job_logging": "job_logging: {version: 1, handlers: {x: {(): os.system, command: touch canari}}}",
    "hydra_logging": "hydra_logging: {version: 1, handlers: {x: {(): os.system, command: touch canari}}}",
    "launcher": "launcher: {_target_: os.system, command: touch canari}",
    "sweeper": "sweeper: {_target_: os.system}",
    "job.env_set": "job: {env_set: {LD_PRELOAD: ./canari.so}}",
    "run": "run: {dir: canari}",
    "sweep": "sweep: {dir: canari}",
    "output_subdir": "output_subdir: canari",
}


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=1,2")], ids=["seul", "balayage"])
@pytest.mark.parametrize("key", FROM_ELSEWHERE)
def test_a_file_from_elsewhere_does_not_drive_hydra(key, sweep, start, tmp_path):
    folder = tmp_path / "ici" / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mal.yaml").write_text(f"# @package _global_\nhydra:\n  {FROM_ELSEWHERE[key]}\n")
    typed = ("--config-dir=conf", "experiment=mal", "model=tiny", "max_tokens=0", *sweep)
    done = start("commands.train", *typed, cwd=tmp_path / "ici")
    assert done["rc"] == 1 and "Traceback" not in done["said"]
    unknown, overridden = (
        key == "launcher",
        key == "sweep" and sweep,
    )  # ces clés n'y sont pas ; nous donnons la nôtre
    assert unknown or overridden or done["said"].startswith(f"hydra.{key} est refusé"), done["said"]
    assert [path.name for path in (tmp_path / "ici").iterdir()] == ["conf"]


@pytest.mark.parametrize(
    "typed",
    [
        "+hydra.callbacks.x._target_=os.system",
        "+hydra/callbacks=x",
        "hydra.launcher._target_=os.system",
        "++hydra.job_logging.handlers.x._target_=os.system",
    ],
)
def test_the_command_does_not_either(typed, start, tmp_path):
    done = start("commands.train", "model=tiny", "max_tokens=0", typed, cwd=tmp_path / "ici")
    assert done["rc"] == 1 and "Traceback" not in done["said"] and len(sentences(done["said"])) == 1, done


def test_a_file_from_elsewhere_may_say_the_rest(start, tmp_path):
    folder = tmp_path / "ici" / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "bien.yaml").write_text("# @package _global_\neval_every: 0\n")
    done = start(
        "commands.train", "--config-dir=conf", "experiment=bien", "hydra.verbose=false", cwd=tmp_path / "ici"
    )
    assert done["said"] == "eval_every=0 : il faut un entier d'au moins 1.\n"


def test_allowed_targets_are_built():
    assert build("decoding", {"_target_": "gpt_lightning.decoding.Strategy", "top_k": 3}).top_k == 3


def test_errors_inside_a_target_keep_their_sentence():
    with pytest.raises(ValueError, match="decoding.top_k=-2"):
        build("decoding", {"_target_": "gpt_lightning.decoding.Strategy", "top_k": -2})


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
