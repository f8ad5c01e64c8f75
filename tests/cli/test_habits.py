"""Ce que l'on tape par habitude d'autres outils reçoit la phrase juste, sans trace, sans anglais, sans dossier."""

import pytest

from gpt_lightning.cli import habits
from gpt_lightning.cli.composition import known_keys
from gpt_lightning.errors import UserError
from tests.conftest import sentences

TRAIN = [
    ("dropout=0.1", "model.drop_rate="),
    ("epochs=3", "trainer.max_epochs="),
    ("lr=1e-3", "optim.lr="),
    ("learning_rate=1e-3", "optim.lr="),
    ("block_size=256", "model.context_length="),
    ("max_iters=100", "trainer.max_steps="),
    ("resume=true", "ckpt_path=last"),
    ("tokenizer=bpe", "tokenizer=trained"),
    ("trainer=cpu", "trainer.accelerator=cpu"),
    ("data=mon_texte.txt", "data=text data.path=mon_texte.txt"),
    ("~logger", "logger=none"),
    ("debug=true", "trainer.fast_dev_run=true"),
    ("logger.wandb.mode=offline", "logger=[tensorboard,wandb]"),
    ("logger=[none,tensorboard]", "logger=csv"),
    ("logger=[]", "logger=none"),
    ("trainer.overfit_batches=2", "trainer.limit_train_batches"),
    ("--lr=1e-3", "optim.lr=valeur"),
    ("Il était une fois", 'prompt="Il était une fois"'),
]
GENERATE = [
    ("top_k=40", "decoding.top_k="),
    ("num_tokens=50", "max_new_tokens="),
    ("model=gpt124m", "ckpt_path="),
    ("--prompt", "prompt=valeur"),
    ("-i", "interactive=true"),
]


@pytest.mark.parametrize(
    "script, typed, words",
    [("train.py", *one) for one in TRAIN] + [("generate.py", *one) for one in GENERATE],
)
def test_a_habit_is_answered_with_what_to_type(command, tmp_path, script, typed, words):
    done = command(script, typed, cwd=tmp_path, timeout=60)
    assert done.returncode == 1 and len(sentences(done.stderr)) == 1, done.stderr
    assert words in done.stderr and list(tmp_path.iterdir()) == []


def test_the_version_is_ours(command, tmp_path):
    from gpt_lightning import __version__

    done = command("train.py", "--version", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == f"gpt_lightning {__version__}\n"


def test_every_synonym_leads_to_a_key_that_exists():
    known = {*known_keys("train"), *known_keys("generate")}
    assert {ours for ours in habits.KEYS.values() if ours not in known} == set()
    assert not set(habits.KEYS) & set(known_keys("train")) - {"max_tokens"}


@pytest.mark.parametrize("argv", [["-m", "seed=1,2"], ["--cfg", "job"], ["-", "seed=1"], ["--help"]])
def test_the_options_of_hydra_pass(argv):
    assert habits.check_arguments(argv, "train") == argv


def test_an_unknown_option_is_refused():
    with pytest.raises(UserError, match="sans tirets, data.batch_size="):
        habits.check_arguments(["--batch-size=3"], "train")
