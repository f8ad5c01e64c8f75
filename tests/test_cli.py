import pytest

from gpt_lightning import cli


@pytest.mark.parametrize(
    "text", ["Il était, l'eau = 1984", "1984", "1e3", "null", "true", "${x}", "a=b", "[1, 2]", "", "-m"]
)
def test_a_prompt_is_taken_as_it_is(text):
    assert cli.take_free_text([f"prompt={text}", "seed=1"]) == (["seed=1"], {"prompt": text})


@pytest.mark.parametrize(
    "typed, meant",
    [('"Il était"', "Il était"), ("'a=b'", "a=b"), ('"a", dit-il, "b"', '"a", dit-il, "b"'), ('"', '"')],
)
def test_a_value_already_quoted_for_hydra_loses_its_quotes(typed, meant):
    assert cli.take_free_text([f"prompt={typed}"])[1] == {"prompt": meant}


def test_several_stop_texts_and_the_standard_input():
    assert cli.take_free_text(["stop=1984", "stop=\n", "-"]) == (
        ["prompt_file='-'"],
        {"stop": ["1984", "\n"]},
    )


def parsed(override: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize(
    "path", ["à lire/mon texte.txt", "l'eau.txt", "a=b,c.txt", "${x}.txt", "C:\\x\\y.txt", "1984"]
)
def test_a_path_is_quoted_for_hydra(path):
    from omegaconf import OmegaConf

    (override,), texts = cli.take_free_text([f"data.path={path}"])
    assert texts == {} and OmegaConf.create({"v": parsed(override)}).v == path


def test_lists_quoted_and_null_paths_are_left_to_hydra():
    for argument in ("data.path=[a,b]", "data.path='a b'", "ckpt_path=null", "ckpt_path="):
        assert cli.take_free_text([argument]) == ([argument], {})


def test_several_paths_in_a_sweep():
    assert cli.take_free_text(["-m", "data.path=a b.txt,c.txt"])[0] == ["-m", "data.path='a b.txt','c.txt'"]


def test_output_dir_moves_the_folder_of_hydra():
    assert cli.output_dir_for_hydra(["output_dir='x'"]) == ["hydra.run.dir='x'"]
    assert cli.output_dir_for_hydra(["-m", "output_dir='x'"]) == ["-m", "hydra.sweep.dir='x'"]


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
        "gpt_lightning.cli.os.system",
        "gpt_lightning.weights.loading.torch.load",
        "gpt_lightning.cli.importlib.import_module",
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
        cli.instantiate({"_target_": "gpt_lightning.decoding.Strategy", "top_k": [node]} if nested else node)
    assert not canary.exists()


def test_allowed_targets_are_built():
    assert cli.instantiate({"_target_": "gpt_lightning.decoding.Strategy", "top_k": 3}).top_k == 3


def test_errors_inside_a_target_keep_their_sentence():
    with pytest.raises(ValueError, match="decoding.top_k=0"):
        cli.instantiate({"_target_": "gpt_lightning.decoding.Strategy", "top_k": 0})


def test_an_error_of_the_program_is_not_explained_away():
    assert cli.explain(ZeroDivisionError("x"), "train") is None
    try:
        int("x")
    except ValueError as error:
        assert cli.explain(error, "train") is None


def test_known_keys_are_those_of_conf():
    keys = cli.known_keys("train")
    assert {"model.n_heads", "trainer.max_steps", "seed", "optim.lr", "data.path", "model"} <= set(keys)
    assert "prompt" not in keys and "prompt" in cli.known_keys("generate")
