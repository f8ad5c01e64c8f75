"""Chaque fichier de conf/ se compose, s'instancie, et dit en français ce qu'il fait."""

import importlib.util
import inspect
import warnings
from dataclasses import fields

import lightning
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gpt_lightning import data
from gpt_lightning.cli.composition import CONF, PACKAGE, choices, group
from gpt_lightning.cli.targets import build, build_all, resolve
from gpt_lightning.decoding import Strategy
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, cost
from gpt_lightning.tokenizers import gpt2
from gpt_lightning.training.optim import OptimConfig, resolve_lr
from gpt_lightning.weights.huggingface.families import family_of

SERVICES = ("wandb", "trackio", "mlflow")
CHOICES = sorted(
    (path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name != "demos"
)


def composed(config_name: str, *overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        output_dir = ["output_dir=dossier"] if config_name == "train" else []
        cfg = compose(config_name, [*overrides, *output_dir])
    return OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("group, choice", CHOICES, ids=str)
def test_each_file_composes_and_builds(group, choice):
    settings = composed("train", f"{group}={choice}")
    GPTConfig.from_dict({**settings["model"], "vocab_size": 10})
    optimizer = resolve("optim", settings["optim"]["_target_"])
    if (group, choice) != ("optim", "target"):  # lui n'a pas de règle : il faut un nombre
        OptimConfig.from_dict(resolve_lr(settings["optim"], optimizer, 128), optimizer)
    offline = settings["tokenizer"]["_target_"].endswith(".named")  # une table à télécharger
    tokenizer = gpt2() if offline else build("tokenizer", settings["tokenizer"])
    build("data", settings["data"], tokenizer=tokenizer)
    assert isinstance(build("decoding", settings["decoding"]), Strategy)
    if choice != "tasks" or importlib.util.find_spec("lm_eval"):
        build_all("callbacks", settings["callbacks"])
    if group != "logger" or choice not in SERVICES or importlib.util.find_spec(choice):
        build_all("logger", settings["logger"])
    else:  # sa bibliothèque n'est pas là : c'est dit, avec ce qui l'installe
        with pytest.raises(UserError, match=rf"pip install 'gpt_lightning\[{choice}\]'"):
            build_all("logger", settings["logger"])


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONF)))
def test_each_file_opens_with_a_french_line(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "@package" not in line]
    assert lines[0].startswith("# ") and len(lines[0]) > 20


def test_a_group_is_a_folder_of_the_package():
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert {"model", "data", "decoding"} <= groups & folders


@pytest.mark.parametrize("choice", [p.stem for p in (CONF / "model").glob("*.yaml")])
def test_model_choices_have_every_field(choice):
    values = composed("train", f"model={choice}")["model"]
    assert set(values) == {field.name for field in fields(GPTConfig)}


@pytest.mark.parametrize("choice", [p.stem for p in (CONF / "decoding").glob("*.yaml")])
def test_decoding_choices_have_every_field(choice):
    values = composed("generate", f"decoding={choice}")["decoding"]
    assert set(values) - {"_target_"} == {field.name for field in fields(Strategy)}


@pytest.mark.parametrize("choice", choices("decoding"))
def test_a_choice_alone_is_the_one_of_a_command(choice):
    """Celui que /decoding prend dans un dialogue ; Hydra n'en dit rien."""
    with warnings.catch_warnings(action="error"):
        assert group("decoding", choice) == composed("generate", f"decoding={choice}")["decoding"]


# ce que train.py décide lui-même, ou qui n'aurait aucun effet ici : ce ne sont pas des options
DECIDED = {
    "logger", "callbacks", "default_root_dir", "use_distributed_sampler", "reload_dataloaders_every_n_epochs",
    "overfit_batches", "barebones", "limit_test_batches", "limit_predict_batches", "sync_batchnorm",
    "enable_autolog_hparams", "model_registry",
}  # fmt: skip


def test_trainer_lists_every_parameter_of_lightning_that_has_an_effect():
    values = composed("train")["trainer"]
    parameters = set(inspect.signature(lightning.Trainer.__init__).parameters) - {"self"}
    assert parameters >= DECIDED and set(values) - {"_target_"} == parameters - DECIDED


@pytest.mark.parametrize("choice", [p.stem for p in (CONF / "data").glob("*.yaml")])
def test_data_choices_have_every_parameter(choice):
    values = composed("train", f"data={choice}")["data"]
    made = getattr(data, values["_target_"].rpartition(".")[2])
    parameters = set(inspect.signature(made.__init__).parameters)
    given_by_commands = {"self", "tokenizer", "report", "progress", "accumulate"}
    assert set(values) - {"_target_"} == parameters - given_by_commands


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda p: str(p.relative_to(CONF)))
def test_an_inherited_key_is_not_said_again(path):
    """Un fichier qui hérite ne redit pas une valeur qu'il a déjà."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    parents = [one for one in values.get("defaults", []) if isinstance(one, str) and one != "_self_"]
    if path.parent.name in ("demos", "experiment") or not parents:
        return
    if parents[0].startswith("/"):  # un fichier de la racine, dans le groupe
        shared = CONF / f"{parents[0][1:].removesuffix('@_here_')}.yaml"
        inherited = yaml.safe_load(shared.read_text(encoding="utf-8"))
    else:
        inherited = composed("train", f"{path.parent.name}={parents[0]}")[path.parent.name]
    again = {k: v for k, v in values.items() if k in inherited and inherited[k] == v}
    assert not again


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
    assert cost.n_parameters(GPTConfig.from_dict({**values, "vocab_size": 50257})) == parameters


@pytest.mark.parametrize(
    "typed, family, n_ids, parameters",
    [
        ((), "qwen3", 2048, 1_316_224),
        (("model=modern",), "qwen3", 2048, 1_316_224),
        (("model=modern124m",), "qwen3", 50_257, 114_115_584),
        (("model=mini",), "gpt2", 2048, 1_350_400),
    ],
    ids=str,
)
def test_the_default_is_of_a_family_that_others_read(typed, family, n_ids, parameters):
    """Le défaut a la forme de Qwen3 ; `mini` garde celle de GPT-2. L'un et l'autre s'exportent tels quels."""
    config = GPTConfig.from_dict({**composed("train", *typed)["model"], "vocab_size": n_ids})
    assert (family_of(config), cost.n_parameters(config)) == (family, parameters)


def test_the_gpu_trainer_takes_every_gpu():
    settings = composed("train", "trainer=gpu")
    trainer = settings["trainer"]
    assert (settings["compile"], trainer["accelerator"], trainer["devices"]) == ("auto", "gpu", "auto")
    assert trainer["_target_"] == "lightning.Trainer"


def test_the_original_is_the_original():
    settings = composed("train", "experiment=original")
    model = GPTConfig.from_dict({**settings["model"], "vocab_size": 50257})
    assert cost.n_parameters(model) == 163_009_536 - (1024 - 256) * 768
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


MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [None, *(path.stem for path in (CONF / "experiment").glob("*.yaml"))])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_composes_with_every_experiment(model, experiment):
    """La taille demandée, et le tokenizer qui va avec : celui de GPT-2 pour les grandes et pour l'original."""
    typed = [f"model={model}", *([f"experiment={experiment}"] if experiment else [])]
    settings, alone = composed("train", *typed), composed("train", f"model={model}")
    for key in ("emb_dim", "n_heads", "n_layers"):
        assert settings["model"][key] == alone["model"][key]
    of_gpt2 = model not in ("tiny", "mini", "modern") or experiment == "original"
    wanted = "gpt_lightning.tokenizers.gpt2" if of_gpt2 else "gpt_lightning.tokenizers.TrainedTokenizer"
    assert settings["tokenizer"]["_target_"] == wanted
    chosen = composed("train", *typed, "tokenizer=bytes", "data=text", "data.path=a.txt", "optim=muon")
    assert chosen["tokenizer"]["_target_"].endswith("ByteTokenizer") and chosen["data"]["path"] == "a.txt"
    assert chosen["optim"]["_target_"].endswith("MuonAdamW")


@pytest.mark.parametrize(
    "typed, expected",
    [
        (("experiment=original",), {"max_length": 256, "stride": 128, "batch_size": 4, "max_epochs": 10}),
        (("model=gpt124m",), {"max_length": 128, "stride": None, "batch_size": 4, "passes": 3}),
        (("model=gpt124m", "data=text"), {"max_length": 128, "stride": None, "batch_size": 16, "passes": 3}),
        (("data=text",), {"max_length": 128, "stride": None, "batch_size": 16, "passes": 3}),
    ],
    ids=str,
)
def test_these_plans_are_those_of_the_first_version(typed, expected):
    """Le changement du défaut n'a touché ni les fenêtres, ni les lots, ni les limites de ces commandes."""
    settings = composed("train", *typed, "data.path=a.txt" if "data=text" in typed else "seed=123")
    found = {**settings["data"], "max_epochs": settings["trainer"]["max_epochs"]}
    assert {key: found[key] for key in expected} == expected
    assert settings["trainer"]["max_steps"] == -1 and settings["max_tokens"] is None
    assert found["limit"] is None and found["eval_batches"] is None
    if "experiment=original" not in typed:
        assert found["max_epochs"] is None and settings["eval_every"] == 100


def test_every_demo_is_listed():
    from gpt_lightning import demos

    modules = {
        path.stem for path in (PACKAGE / "demos").glob("*.py") if "def main" in path.read_text("utf-8")
    }
    assert set(demos.DEMOS) == modules == set(choices("demos"))


@pytest.mark.parametrize("demo", sorted(path.stem for path in (CONF / "demos").glob("*.yaml")))
def test_every_demo_takes_the_same_keys(demo):
    keys = set(composed(f"demos/{demo}"))
    alike = (
        {"output_dir"} if demo not in DEMOS else {"ckpt_path", "output_dir", "prompt", "device"}
    )  # sans modèle
    assert alike <= keys


SOURCE = {"ckpt_path", "base_path", "n_heads"}
INFERENCE = {*SOURCE, "device", "dtype", "threads"}
WRITING = {*INFERENCE, "compile", "seed"}
DEMOS = ("attention", "nucleus", "strategies", "temperature", "top_k")


@pytest.mark.parametrize(
    "command, keys",
    [
        ("generate", WRITING),
        ("chat", WRITING),
        ("classify", INFERENCE),
        ("serve", INFERENCE),
        ("play", INFERENCE),
        ("evaluate", {*INFERENCE, "seed"}),  # celle que data.seed cite
        ("export", SOURCE),
        *((f"demos/{demo}", INFERENCE) for demo in DEMOS),
    ],
)
def test_a_command_takes_the_keys_of_inference_that_it_reads(command, keys):
    assert set(composed(command)) & WRITING == keys


@pytest.mark.parametrize("key", sorted(WRITING - {"dtype", "seed"}))
def test_a_key_of_inference_is_written_once(key):
    files = [path for path in (*CONF.glob("*.yaml"), *CONF.glob("demos/*.yaml")) if path.stem != "train"]
    found = [path.name for path in files if key in yaml.safe_load(path.read_text(encoding="utf-8"))]
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.parametrize("choice", choices("model"))
def test_a_model_chooses_no_corpus(choice):
    """Celui de la commande du README vient de train.yaml ; un corpus nommé l'emporte, avant ou après le modèle."""
    text = (CONF / "model" / f"{choice}.yaml").read_text(encoding="utf-8")
    assert "/data" not in text
    english = composed("train", f"model={choice}")["tokenizer"]["_target_"].endswith(".gpt2")
    usual = "pydoc" if english else "wiktionnaire"
    assert composed("train", f"model={choice}")["data"] == composed("train", f"data={usual}")["data"]
    for typed in ([f"model={choice}", "data=verdict"], ["data=verdict", f"model={choice}"]):
        assert composed("train", *typed)["data"] == composed("train", "data=verdict")["data"]
    other = composed("train", f"model={choice}", "experiment=instruct")
    assert other["data"] == composed("train", "data=instruct")["data"]


def test_the_help_is_written_once():
    holders = [
        path.name for path in CONF.rglob("*.yaml") if "template: |" in path.read_text(encoding="utf-8")
    ]
    assert holders == ["command.yaml"]


def test_the_complete_file_of_decoding_is_the_default():
    values = yaml.safe_load((CONF / "decoding" / "default.yaml").read_text(encoding="utf-8"))
    assert "defaults" not in values and set(values) - {"_target_"} == {
        field.name for field in fields(Strategy)
    }
