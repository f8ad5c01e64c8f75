"""Ce qu'un utilisateur de Hydra tape : honoré, ou refusé par son nom."""

import pytest
import yaml

from gpt_lightning.cli import habits
from gpt_lightning.cli.composition import CONF
from gpt_lightning.cli.hydra_words import honour_keys
from gpt_lightning.errors import UserError
from tests.conftest import sentences
from tests.resilience.faults import Zygote

TINY = [
    *("model=tiny", "data=pydoc", "data.limit=20", "tokenizer=bytes", "trainer.max_steps=1"),
    "callbacks.sample=null",
]


@pytest.fixture(scope="module")
def start(forks, tmp_path_factory):
    return Zygote(forks, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    "typed, folders",
    [
        (["hydra.run.dir=l'été/${now:%Y}x/${hydra.job.name}_${seed}"], ["l'été/*x/train_123"]),
        (["++hydra.run.dir=a/${hydra:job.override_dirname}", "seed=7"], ["a/*seed=7*"]),
        pytest.param(
            [
                *(
                    "-m",
                    "seed=1,2",
                    "hydra.sweep.dir='essai 1'",
                    "hydra.sweep.subdir=${hydra.job.override_dirname}",
                ),
                "hydra.job.config.override_dirname.exclude_keys="
                "[model,data,data.limit,tokenizer,trainer.max_steps,callbacks.sample]",
            ],
            ["essai 1/seed=1", "essai 1/seed=2"],
            marks=pytest.mark.slow,
        ),
        (
            ["-m", "seed=1,2", "hydra.sweep.subdir=graine_${seed}", "output_dir=b"],
            ["b/graine_1", "b/graine_2"],
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_a_folder_of_hydra_is_the_folder_of_the_run(typed, folders, start, tmp_path):
    done = start("commands.train", *TINY, *typed, cwd=tmp_path / "ici")
    assert done["rc"] == 0, done["said"]
    assert (
        not any("hydra." in text and ".dir=" in text for text in typed)
        or "output_dir=, plus court" in done["said"]
    )
    for pattern in folders:
        (folder,) = (tmp_path / "ici").glob(pattern)
        assert (folder / "checkpoints" / "last.ckpt").exists(), done["said"]
        assert yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["output_dir"] == str(
            folder.relative_to(tmp_path / "ici")
        )
    assert not (tmp_path / "ici" / "outputs").exists()


def test_it_is_refused_when_another_run_has_it(start, tmp_path):
    (tmp_path / "ici" / "a" / ".hydra").mkdir(parents=True)
    done = start("commands.train", *TINY, "hydra.run.dir=a", cwd=tmp_path / "ici")
    assert done["rc"] == 1 and "resume=auto" in sentences(done["said"])[-1], done["said"]


REFUSED = [
    "hydra.job_logging.root.level=DEBUG",
    "hydra/job_logging=colorlog",
    "+hydra/hydra_logging=none",
    "hydra.verbose=true",
    "hydra.mode=MULTIRUN",
    "hydra/launcher=joblib",
    "hydra/sweeper=optuna",
    "hydra.launcher.n_jobs=4",
    "+hydra.sweeper.params.seed='1,2'",
    "hydra.sweeper.max_batch_size=2",
    "hydra.job.chdir=true",
    "hydra.job.name=essai",
    "+hydra.job.env_set.A=1",
    "hydra.job.env_copy=[A]",
    "hydra.output_subdir=null",
    "hydra.output_subdir=conf",
    "hydra.help.app_name=x",
    "hydra.runtime.cwd=x",
    "hydra.sweep.dir=a",
    "hydra.sweep.subdir=a",
    "hydra.run.dir=",
    "-m hydra.run.dir=a",
    "-m hydra.sweep.subdir=../a",
    "-m hydra.sweep.subdir=/a",
    "-m hydra.sweep.subdir=.",
    "-m hydra.sweep.dir=a/${seed}",
    "-m hydra.sweep.dir=a/${hydra.job.num}",
    "hydra.run.dir=a output_dir=b",
    "~hydra.callbacks",
    "~hydra/job_logging",
    "~hydra",
]


@pytest.mark.parametrize("typed", REFUSED)
def test_a_key_without_effect_is_refused_by_its_name(typed):
    words = typed.split()
    name = next(word for word in words if "hydra" in word).lstrip("+~").partition("=")[0]
    with pytest.raises(UserError) as refused:
        honour_keys(habits.check_arguments(words, "train"), opens_run=True)
    assert str(refused.value).startswith(name) and str(refused.value).endswith("."), refused.value


PLUGINS = ("hydra/launcher=joblib", "hydra/sweeper=optuna")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_that_is_not_installed_is_refused_by_its_name(plugin, command, tmp_path):
    """Un greffon installé sert : tests/commands/test_commands.py en essaie un."""
    more = f"{plugin.partition('=')[0].replace('/', '.')}.n_jobs=2"
    done = command("train.py", "-m", plugin, more, "seed=1,2", *TINY, cwd=tmp_path)
    assert done.returncode == 1 and plugin in done.stderr and len(sentences(done.stderr)) == 1, done.stderr


@pytest.mark.parametrize(
    "typed", ["-m hydra/launcher=basic hydra.launcher.n_jobs=2", "-m hydra.sweeper.n_trials=3"]
)
def test_the_settings_of_a_plugin_that_is_not_chosen_are_refused(typed):
    with pytest.raises(UserError, match="n'a pas d'effet"):
        honour_keys(habits.check_arguments(typed.split(), "train"), opens_run=True)


@pytest.mark.parametrize("key", ["run.dir", "sweep.dir", "sweep.subdir"])
@pytest.mark.parametrize("sweep", [(), ("-m",)], ids=str)
def test_a_command_that_opens_no_folder_refuses_one(key, sweep):
    with pytest.raises(
        UserError, match=f"hydra.{key} n'a pas d'effet ici : cette commande n'ouvre pas de dossier"
    ):
        honour_keys([*sweep, f"hydra.{key}=a"], opens_run=False)


@pytest.mark.parametrize(
    "typed",
    ["hydra.verbose=false", "hydra.output_subdir=.hydra", "hydra/launcher=basic", "hydra.job.chdir=null"],
)
def test_what_is_already_so_may_be_asked(typed):
    assert honour_keys([typed, "seed=1"], opens_run=True) == ["seed=1"]


@pytest.mark.parametrize("typed", ["--cfg hydra", "--cfg all --package hydra.run", "-c hydra -p hydra.job"])
def test_the_value_of_an_option_is_not_a_key(typed):
    assert honour_keys(typed.split(), opens_run=True) == typed.split()


def test_a_search_path_that_leads_nowhere_is_refused(tmp_path):
    for there in (f"[{tmp_path}]", f"['file://{tmp_path}']", "[pkg://hydra.conf]"):
        honour_keys([f"hydra.searchpath={there}"], opens_run=True)
    with pytest.raises(UserError, match="hydra.searchpath=absent n'est pas un dossier"):
        honour_keys([f"hydra.searchpath=[{tmp_path},absent]"], opens_run=True)


@pytest.mark.parametrize(
    "typed, words",
    [
        ("--shell-completion", "install=bash"),
        ("-sc query=bash", "install=bash"),
        ("--experimental-rerun=a", "ckpt_path=last"),
        ("--config-path=/tmp", "--config-dir=mon_dossier"),
        ("-cp /tmp", "--config-dir=mon_dossier"),
        ("--config-dir=absent", "n'est pas un dossier"),
        ("-cd absent", "n'est pas un dossier"),
        ("--config-name=generate", "conf/train.yaml"),
        ("-cn mien", "--config-dir=mon_dossier experiment=mon_fichier"),
        ("--package=model", "--cfg job --package=model"),
        ("-p model", "--cfg job --package=model"),
        ("--resolve", "--cfg job --resolve"),
        ("--cfg", "job"),
        ("--cfg tout", "job"),
        ("--info tout", "tout"),
    ],
)
def test_an_option_without_effect_is_refused_by_its_name(typed, words):
    with pytest.raises(UserError) as refused:
        habits.check_arguments(typed.split(), "train")
    assert words in str(refused.value) and str(refused.value)[-1] in ".=»", refused.value


@pytest.mark.parametrize(
    "typed",
    [
        "--cfg job --package model",
        "-c job -p model",
        "--config-name=train",
        f"--config-dir={CONF}",
        "--cfg job --resolve",
    ],
)
def test_an_option_that_has_one_passes(typed):
    assert habits.check_arguments(typed.split(), "train") == typed.split()
