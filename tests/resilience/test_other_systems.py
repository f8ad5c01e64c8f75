"""Ce que Windows et macOS n'ont pas : retiré ici, tout s'importe encore et un petit entraînement va à son terme."""

import subprocess
import sys

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
    if not one.name.endswith("__main__"):
        importlib.import_module(one.name)
"""
TRAIN = "sys.argv = ['train.py', *sys.argv[1:]]\nfrom gpt_lightning.commands.train import main\nmain()\n"


def elsewhere(code, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE + code, *arguments], cwd=cwd, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    assert last.stat().st_size > 1000
