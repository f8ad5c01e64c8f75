"""Chaque fichier de conf/ se compose, s'instancie, et dit en français ce qu'il fait."""

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gpt_lightning import cli
from gpt_lightning.decoding import Strategy
from gpt_lightning.model import GPTConfig
from gpt_lightning.tokenizers import gpt2
from gpt_lightning.training.optim import OptimConfig

CHOICES = sorted(
    (path.parent.name, path.stem) for path in cli.CONF.glob("*/*.yaml") if path.parent.name != "demos"
)


def composed(config_name: str, *overrides: str) -> dict:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        output_dir = ["output_dir=dossier"] if config_name == "train" else []
        cfg = compose(config_name, [*overrides, *output_dir])
    return OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("group, choice", CHOICES, ids=str)
def test_each_file_composes_and_builds(group, choice):
    settings = composed("train", f"{group}={choice}")
    GPTConfig.from_dict({**settings["model"], "vocab_size": 10})
    OptimConfig.from_dict(settings["optim"])
    offline = settings["tokenizer"]["_target_"].endswith(".named")  # une table à télécharger
    tokenizer = gpt2() if offline else cli.instantiate(settings["tokenizer"])
    cli.instantiate(settings["data"], tokenizer=tokenizer)
    assert isinstance(cli.instantiate(settings["decoding"]), Strategy)
    cli.instantiate(settings["callbacks"])
    cli.instantiate(settings["logger"])


@pytest.mark.parametrize("path", sorted(cli.CONF.rglob("*.yaml")), ids=lambda p: str(p.relative_to(cli.CONF)))
def test_each_file_opens_with_a_french_line(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "@package" not in line]
    assert lines[0].startswith("# ") and len(lines[0]) > 20


def test_a_group_is_a_folder_of_the_package():
    groups = {path.name for path in cli.CONF.iterdir() if path.is_dir()}
    folders = {path.name for path in (cli.PACKAGE).iterdir() if path.is_dir()}
    assert {"model", "data", "decoding"} <= groups & folders


@pytest.mark.parametrize("choice", [p.stem for p in (cli.CONF / "model").glob("*.yaml")])
def test_model_files_list_every_field(choice):
    from dataclasses import fields

    values = yaml.safe_load((cli.CONF / "model" / f"{choice}.yaml").read_text(encoding="utf-8"))
    assert set(values) == {field.name for field in fields(GPTConfig)}


@pytest.mark.parametrize("choice", [p.stem for p in (cli.CONF / "decoding").glob("*.yaml")])
def test_decoding_files_list_every_field(choice):
    from dataclasses import fields

    values = yaml.safe_load((cli.CONF / "decoding" / f"{choice}.yaml").read_text(encoding="utf-8"))
    assert set(values) - {"_target_"} == {field.name for field in fields(Strategy)}


def test_trainer_lists_every_parameter_of_lightning():
    import inspect

    import lightning

    values = yaml.safe_load((cli.CONF / "trainer" / "default.yaml").read_text(encoding="utf-8"))
    parameters = set(inspect.signature(lightning.Trainer.__init__).parameters)
    given_by_train = {"self", "logger", "callbacks", "default_root_dir"}
    assert set(values) - {"_target_"} == parameters - given_by_train


def test_data_files_list_every_parameter():
    import inspect

    from gpt_lightning.data import SlidingWindowDataModule

    parameters = set(inspect.signature(SlidingWindowDataModule.__init__).parameters)
    for path in (cli.CONF / "data").glob("*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(values) - {"_target_"} == parameters - {
            "self",
            "tokenizer",
            "report",
            "progress",
            "accumulate",
        }, path


@pytest.mark.parametrize(
    "model, parameters",
    [
        ("gpt124m", 124_439_808),
        ("gpt355m", 354_823_168),
        ("gpt774m", 774_030_080),
        ("gpt1558m", 1_557_611_200),
    ],
)
def test_the_four_sizes_are_those_of_gpt2(model, parameters):
    values = composed("train", f"model={model}")["model"]
    assert GPTConfig.from_dict({**values, "vocab_size": 50257}).n_parameters() == parameters


def test_the_gpu_trainer_compiles_on_every_gpu():
    settings = composed("train", "trainer=gpu")
    trainer = settings["trainer"]
    assert (settings["compile"], trainer["accelerator"], trainer["devices"], trainer["precision"]) == (
        True,
        "gpu",
        "auto",
        "auto",
    )
    assert trainer["_target_"] == "lightning.Trainer"


def test_the_original_is_the_original():
    settings = composed("train", "experiment=original")
    model = GPTConfig.from_dict({**settings["model"], "vocab_size": 50257})
    assert model.n_parameters() == 163_009_536 - (1024 - 256) * 768
    data, optim = settings["data"], settings["optim"]
    assert (data["max_length"], data["stride"], data["batch_size"], data["train_split"]) == (256, 128, 4, 0.9)
    assert (optim["lr"], optim["weight_decay"], optim["decayed"], optim["schedule"]) == (
        4e-4,
        0.1,
        "all",
        "constant",
    )
    own = composed("train", "experiment=original", "data=text", "data.path=a.txt")
    assert (own["data"]["path"], own["data"]["max_length"]) == ("a.txt", 256)
