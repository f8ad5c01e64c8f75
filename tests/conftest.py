"""Ce que plusieurs tests partagent : les nombres de l'original, la commande comme on la tape, une exécution finie."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORPORA = ROOT.parent / "shared" / "corpora"
TEXT = "Il était une fois un chat. Le chat dort, le chien veille, et la nuit passe. " * 400


@pytest.fixture(scope="session")
def golden() -> dict:
    return json.loads((ROOT / "tests" / "golden" / "original.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def verdict() -> str:
    return (ROOT / "tests" / "data" / "the-verdict.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def command(cache):
    """Lance un script du projet comme on le tape : command("train.py", "model=tiny", cwd=...)."""

    def run(
        script: str, *arguments: str, cwd: Path, timeout: float = 240, stdin: str | None = None, **env: str
    ):
        entry = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
        return subprocess.run(
            [sys.executable, *entry, *arguments],
            cwd=cwd,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(cache),
                "COLUMNS": "200",
                "PYTHONPATH": str(ROOT),
                **env,
            },
            capture_output=True,
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
            text=True,
            timeout=timeout,
            encoding="utf-8",
        )

    return run


def hearing_signals() -> None:
    """Dans un enfant qui commence : un signal qu'ignore qui lance les essais (« make test & ») ne l'est plus."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    """Un petit texte, dans un chemin avec des accents et des espaces."""
    folder = tmp_path_factory.mktemp("corpus") / "à lire, déjà"
    folder.mkdir()
    path = folder / "mon texte.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished_run(command, text_file, tmp_path_factory):
    """Une exécution de `model=tiny` finie : (dossier de travail, dossier d'exécution, sortie)."""
    cwd = tmp_path_factory.mktemp("execution")
    done = command(
        "train.py",
        "model=tiny",
        "data=text",
        f"data.path={text_file}",
        "tokenizer=words_v2",
        "data.max_length=32",
        "data.stride=32",
        "data.batch_size=8",
        "trainer.max_steps=12",
        "trainer.log_every_n_steps=2",
        "eval_every=5",
        "save_every=4",
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = {path.parent.parent for path in cwd.glob("outputs/**/checkpoints/last.ckpt")}
    return cwd, folder, done
