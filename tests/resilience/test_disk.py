"""Un vrai disque qui refuse : une limite de taille, un dossier effacé, une entrée sans fin."""

import resource
import signal
import subprocess
import sys

import pytest

from gpt_lightning.weights.untrusted import read_torch
from tests.conftest import ROOT, sentences
from tests.resilience.runs import TINY, Runs, until


def limited(size):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.slow
@pytest.mark.parametrize("size", [200_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_file_may_be_larger_than_this(size, cache, text_file, tmp_path):
    """best.ckpt tient dans 200 ko, last.ckpt non ; rien ne tient dans 20 ko."""
    runs = Runs(tmp_path, cache, text_file, "trainer.max_steps=8")
    process = subprocess.Popen(
        runs.command(*runs.typed, "output_dir=x"),
        cwd=tmp_path,
        env=runs.env,
        preexec_fn=limited(size),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in said, said
    last = said.strip().splitlines()[-1]
    assert "ne s'écrit pas" in last and (size < 100_000 or ".ckpt" in last), (
        said
    )  # dans 20 ko, la base non plus
    for path in (tmp_path / "x").rglob("*.ckpt"):
        read_torch(path)
    assert not list(tmp_path.rglob("*.brouillon"))


@pytest.mark.slow
def test_a_deleted_folder_is_not_made_again(cache, text_file, tmp_path):
    runs = Runs(tmp_path, cache, text_file, "trainer.max_steps=4000")
    process = runs.fresh("x")
    until(process, "pas 5/")
    (tmp_path / "x").rename(tmp_path / "ôté")  # d'un coup : rmtree effacerait pendant qu'il écrit
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "Traceback" not in said, said
    assert "son dossier n'existe plus" in said and not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_small_disk(cache, text_file, tmp_path):
    """Un disque d'un mégaoctet, si l'on a le droit d'en monter un."""
    (tmp_path / "petit").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tmp_path / "petit")], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("monter un tmpfs demande des droits que ce compte n'a pas")
    try:
        runs = Runs(tmp_path / "petit", cache, text_file, "trainer.max_steps=20")
        process = runs.fresh("x")
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 1 and "Traceback" not in said, said
        assert "le disque est plein" in said.strip().splitlines()[-1]
        for path in (tmp_path / "petit").rglob("*.ckpt"):
            read_torch(path)
    finally:
        subprocess.run(["umount", str(tmp_path / "petit")], check=True)


@pytest.mark.slow
def test_a_pipe_or_a_device_is_not_a_corpus(cache, tmp_path):
    for path in ("/dev/zero", "/dev/stdin"):
        typed = [one for one in TINY if not one.startswith("eval_every")]
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *typed, f"data.path={path}"],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 1 and len(sentences(done.stderr)) == 1, done.stderr
