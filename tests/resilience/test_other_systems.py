"""Ce que Windows et macOS n'ont pas : retiré ici, tout s'importe encore et un petit entraînement va à son terme."""

import json
import os
import socket
import subprocess
import sys

import pytest

from gpt_lightning import durable
from gpt_lightning.cli import lock
from gpt_lightning.errors import UserError

# SIGKILL reste : Lightning le nomme partout ailleurs que sous Windows
ELSEWHERE = """
import os, runpy, signal, sys
for name in ("resource", "fcntl", "pwd", "grp", "termios", "readline"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("fork", "forkpty", "geteuid", "getuid", "getgid", "kill", "setsid", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
opened = os.open
def without_folders(path, *arguments, **keys):  # Windows n'ouvre pas un dossier
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return opened(path, *arguments, **keys)
os.open = without_folders
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
_SignalConnector.register_signal_handlers = lambda self: None  # Lightning regarde le nom du système
"""
IMPORT_ALL = """
import importlib, pkgutil, gpt_lightning
for one in pkgutil.walk_packages(gpt_lightning.__path__, "gpt_lightning."):
    if not one.name.endswith("__main__") and "harness" not in one.name:  # lm-eval est un extra
        importlib.import_module(one.name)
"""
GENERATE = (
    "sys.argv = ['generate.py', *sys.argv[1:]]\nfrom gpt_lightning.commands.generate import main\nmain()\n"
)
TRAIN = "sys.argv = ['train.py', *sys.argv[1:]]\nfrom gpt_lightning.commands.train import main\nmain()\n"


def elsewhere(code, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE + code, *arguments], cwd=cwd, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_everything_imports_and_a_run_ends(text_file, tmp_path):
    small = ["model=tiny", "data=text", f"data.path={text_file}", "tokenizer=words_v2", "data.max_length=16"]
    said = elsewhere(
        IMPORT_ALL + TRAIN,
        *small,
        "trainer.max_steps=4",
        "data.batch_size=4",
        f"data.cache_dir={tmp_path}",
        cwd=tmp_path,
    )
    assert "perte de validation" in said and "pic de mémoire" not in said
    (last,) = tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")
    assert last.stat().st_size > 1000 and (last.parents[1] / "report.html").exists()
    said = elsewhere(TRAIN, "ckpt_path=last", "trainer.max_steps=6", cwd=tmp_path)
    assert "pas 6/6" in said and not list(tmp_path.rglob(".lock"))
    assert elsewhere(GENERATE, "prompt=Le chat", "max_new_tokens=3", cwd=tmp_path).startswith("Le chat")


def test_a_file_that_another_one_reads_is_replaced_a_moment_later(tmp_path, monkeypatch):
    """Windows refuse de remplacer un fichier ouvert : un antivirus qui passe ne coûte pas un checkpoint."""
    path, calls, replace = tmp_path / "a", [], os.replace

    def busy(source, target):
        calls.append(source)
        if len(calls) < 3:
            raise PermissionError(13, "Accès refusé", str(target))
        replace(source, target)

    monkeypatch.setattr(durable, "WINDOWS", True)
    monkeypatch.setattr(durable.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "replace", busy)
    durable.write_text(path, "texte")
    assert path.read_text() == "texte" and list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "non", str(path)))
    )
    with pytest.raises(durable.WriteError):
        durable.write_text(path, "autre")
    assert path.read_text() == "texte" and list(tmp_path.iterdir()) == [path]


def test_a_lock_left_by_this_process_is_not_another_run(tmp_path, monkeypatch):
    """Sans fcntl, le fichier dit qui tient le dossier ; celui qui est resté d'avant est le nôtre."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with lock.hold(tmp_path):
        pass
    (tmp_path / lock.NAME).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    with lock.hold(tmp_path), pytest.raises(UserError, match="en cours"), lock.hold(tmp_path):
        pass
