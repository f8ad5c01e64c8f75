"""Le dossier d'une exécution : à une seule, et rien si rien n'a commencé."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml

from gpt_lightning.cli import folders
from gpt_lightning.errors import UserError
from tests.conftest import sentences

TINY = (
    "model=tiny",
    "tokenizer=bytes",
    "data.max_length=16",
    "data.stride=16",
    "trainer.max_steps=2",
    "data=pydoc",
)


def slow(*typed: str):
    return pytest.param(typed, marks=pytest.mark.slow)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_of_the_same_second_have_their_own_folder(here, monkeypatch):
    monkeypatch.setattr(folders.time, "strftime", lambda form: "2026-01-02/03-04-05")
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: folders._claim(None, folders.RECORD)[0], range(8)))
    assert {str(one) for one in claimed} == {
        f"outputs/2026-01-02/03-04-05{suffix}" for suffix in ("", *(f"_{n}" for n in range(2, 9)))
    }


@pytest.mark.parametrize(
    "mark, advised",
    [
        (folders.RECORD, "resume=auto"),
        (folders.SWEEP, "un balayage"),
        ("checkpoints", "un autre output_dir="),
        (f"{folders.RECORD} checkpoints/last.ckpt", "ckpt_path=a"),
    ],
)
def test_the_folder_of_another_run_is_refused(here, mark, advised):
    for path in (here / "a" / name for name in mark.split()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("") if path.suffix == ".ckpt" else path.mkdir()
    with pytest.raises(UserError, match=advised):
        folders._claim(Path("a"), folders.RECORD)


def test_a_file_is_not_a_folder(here):
    (here / "a").write_text("x")
    for path in ("a", "a/b"):
        with pytest.raises(UserError, match="est un fichier"):
            folders._claim(Path(path), folders.RECORD)


@pytest.mark.parametrize(
    "typed",
    [
        ("data=text", "data.path=absent.txt"),
        slow("data=text", "data.path=binaire.txt"),
        ("optim.lr=0",),
        slow("trainer.precision=bf17"),
        slow("init_from=absent.pt"),
        slow("callbacks.sample.strategy.top_p=3"),
        slow("-m", "optim.lr=0,-1"),
        ("-m", "seed=1,2", "data=text", "data.path=absent.txt"),
        ("ckpt_path=last",),
        slow("output_dir=mien/a/b", "max_tokens=0"),
    ],
    ids=" ".join,
)
def test_a_command_that_fails_leaves_nothing(command, tmp_path, typed):
    (tmp_path / "binaire.txt").write_bytes(b"a\0b")
    before = sorted(tmp_path.rglob("*"))
    done = command("train.py", *TINY, *typed, cwd=tmp_path)
    jobs = 1 + (typed[0] == "-m")  # une phrase par tâche
    assert done.returncode == 1 and len(sentences(done.stderr)) == jobs, done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_folder_that_was_there_keeps_what_it_had(command, tmp_path):
    (tmp_path / "mien").mkdir()
    (tmp_path / "mien" / "notes.txt").write_text("à garder")
    failed = command("train.py", *TINY, "output_dir=mien", "data=text", "data.path=absent.txt", cwd=tmp_path)
    assert failed.returncode == 1 and [p.name for p in (tmp_path / "mien").iterdir()] == ["notes.txt"]
    done = command("train.py", *TINY, "output_dir=mien", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mien" / "notes.txt").read_text() == "à garder"
    assert (tmp_path / "mien" / "checkpoints" / "last.ckpt").exists()
    record = {path.name for path in (tmp_path / "mien" / ".hydra").iterdir()}
    assert record == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    typed = yaml.safe_load((tmp_path / "mien" / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    assert typed == list(TINY)


def test_a_run_is_continued_in_its_own_folder_only(finished_run, command):
    cwd, folder, _ = finished_run
    other = command("train.py", f"ckpt_path={folder}", "output_dir=ailleurs", cwd=cwd)
    assert other.returncode == 1 and "init_from=" in other.stderr and not (cwd / "ailleurs").exists()
    swept = command("train.py", "-m", f"ckpt_path={folder}", "seed=1,2", cwd=cwd)
    assert swept.returncode == 1 and "init_from=" in swept.stderr


def test_a_run_begun_with_the_old_optim_keys_is_not_resumed_but_its_weights_load(
    finished_run, command, tmp_path
):
    old = tmp_path / "ancienne"
    shutil.copytree(finished_run[1], old)
    path = old / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["gpt_lightning"]["training_version"]
    torch.save(checkpoint, path)
    record = old / ".hydra" / "overrides.yaml"
    record.write_text(record.read_text(encoding="utf-8") + "- optim.rule=adamw\n", encoding="utf-8")
    done = command("train.py", "ckpt_path=ancienne", "trainer.max_steps=14", cwd=tmp_path)
    assert done.returncode == 1 and len(sentences(done.stderr)) == 1
    assert "init_from=" in done.stderr, done.stderr
    written = command("generate.py", f"ckpt_path={path}", "prompt=Le chat", "max_new_tokens=2", cwd=tmp_path)
    assert written.returncode == 0, written.stderr


@pytest.mark.parametrize("blocked", ["outputs", "outputs/jour"])
def test_the_file_that_is_in_the_way_is_the_one_named(blocked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(blocked).parent.mkdir(exist_ok=True)
    Path(blocked).write_text("")
    with pytest.raises(UserError, match=f"^{blocked} est un fichier"):
        folders._claim(Path("outputs/jour/heure"), folders.RECORD)
    Path(blocked).unlink()
    Path(blocked).symlink_to("nulle-part")
    with pytest.raises(UserError, match=f"^{blocked} est un lien qui ne mène à rien"):
        folders._claim(Path("outputs/jour/heure"), folders.RECORD)
