"""L'exécution la plus récente : rien de ce qui traîne sous outputs/ ne la cache."""

import os
import time
from pathlib import Path

import pytest

from gpt_lightning import layout
from gpt_lightning.errors import UserError


def run(folder: str, *names: str, written: float) -> Path:
    checkpoints = Path("outputs") / folder / layout.CHECKPOINTS
    checkpoints.mkdir(parents=True)
    for name in names or (layout.BEST, layout.LAST):
        (checkpoints / name).write_bytes(b"x")
        os.utime(checkpoints / name, (written, written))
    return checkpoints.parent


def dead_link(checkpoints: Path) -> None:
    (checkpoints / layout.LAST).symlink_to("nulle/part.ckpt")


def link_loop(checkpoints: Path) -> None:
    (checkpoints / layout.LAST).symlink_to(layout.BEST)
    (checkpoints / layout.BEST).symlink_to(layout.LAST)


def folder_of_that_name(checkpoints: Path) -> None:
    (checkpoints / layout.LAST).mkdir()


def named_pipe(checkpoints: Path) -> None:
    os.mkfifo(checkpoints / layout.LAST)


def another_file(checkpoints: Path) -> None:
    (checkpoints / "copie.ckpt").write_bytes(b"x")


def dated_in_the_future(checkpoints: Path) -> None:
    (checkpoints / layout.LAST).write_bytes(b"x")
    os.utime(checkpoints / layout.LAST, (time.time() + 400 * layout.DAY,) * 2)


def dead_link_to_checkpoints(checkpoints: Path) -> None:
    checkpoints.rmdir()
    checkpoints.symlink_to("nulle-part")


def file_named_checkpoints(checkpoints: Path) -> None:
    checkpoints.rmdir()
    checkpoints.write_text("x")


def loop_of_folders(checkpoints: Path) -> None:
    (checkpoints / "encore").symlink_to(checkpoints.parent.absolute(), target_is_directory=True)


def unreadable_folder(checkpoints: Path) -> None:
    checkpoints.chmod(0)


HIDES = [
    dead_link, link_loop, folder_of_that_name, named_pipe, another_file, dated_in_the_future,
    dead_link_to_checkpoints, file_named_checkpoints, loop_of_folders, unreadable_folder,
]  # fmt: skip


@pytest.mark.parametrize("hide", HIDES, ids=lambda hide: hide.__name__)
@pytest.mark.parametrize("source", [None, "best", "last"])
def test_nothing_hides_the_newest_run(hide, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("ancienne", written=1000)
    newest = run("récente", written=2000)
    other = Path("outputs") / "autre" / layout.CHECKPOINTS
    other.mkdir(parents=True)
    hide(other)
    try:
        found = layout.find_checkpoint(source)
        assert layout.run_of(found) == newest and found.name == (
            layout.LAST if source == "last" else layout.BEST
        )
        assert layout.best_models()[0] == newest / layout.CHECKPOINTS / layout.BEST
    finally:
        if other.is_dir():
            other.chmod(0o755)


def test_a_dead_last_leaves_the_best(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    newest = run("récente", layout.BEST, written=2000)
    dead_link(newest / layout.CHECKPOINTS)
    assert layout.find_checkpoint("last").name == layout.BEST and layout.resumable_files(newest) == []


@pytest.mark.parametrize("marks", [(".hydra",), (".hydra", "checkpoints"), ("checkpoints",)], ids=str)
@pytest.mark.parametrize("key", ["ckpt_path", "init_from", "base_path"])
def test_a_run_without_checkpoint_says_so(key, marks, tmp_path):
    for mark in marks:
        (tmp_path / "l'été" / mark).mkdir(parents=True)
    with pytest.raises(UserError) as refused:
        layout.find_checkpoint(str(tmp_path / "l'été"), key=key)
    assert ("resume=auto" in str(refused.value)) == (".hydra" in marks)
