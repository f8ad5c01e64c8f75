"""Ce que plusieurs tests partagent : les nombres de l'original, la commande comme on la tape, une exécution finie."""

import json
import os
import re
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[1]
CORPORA = ROOT.parent / "shared" / "corpora"
LOG = re.compile(r"[A-ZÀÉÈÊ][\w' ]{10}: | {13}")
POSIX = re.compile(
    r"os\.(fork|kill|setsid|getuid|geteuid|mkfifo|chmod|openpty)\b|signal\.(SIG|raise)|[\"' ]/(dev|proc)/|"
    r"\b(import|from) (fcntl|grp|pty|pwd|resource|termios)\b|torchrun|Zygote|\bbash\b|ulimit|symlink_to"
)
TEXT = "Il était une fois un chat. Le chat dort, le chien veille, et la nuit passe. " * 400


# un exemple n'a pas d'heure : la machine peut être occupée
settings.register_profile("essais", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("essais")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """Ce qui ouvre une page porte la marque `browser` ; un fichier qui nomme ce que Windows n'a pas, `posix`."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        if needs_posix(item.path):
            item.add_marker("posix")


@cache
def needs_posix(path: Path) -> bool:
    """Vrai si ce fichier d'essai nomme fork, un signal, un fichier de Linux, ou un module qui en dépend."""
    return bool(POSIX.search(path.read_text(encoding="utf-8")))


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
def forks(cache) -> Iterator[Forks]:
    """Un processus qui a tout importé, dont les commandes des essais sont des enfants."""
    with Forks(ROOT, _environment(cache)) as forks:
        yield forks


@pytest.fixture(scope="session")
def command(cache, forks):
    """Lance un script du projet comme on le tape : command("train.py", "model=tiny", cwd=...).

    C'est un enfant de `forks`, ou un vrai processus quand son environnement n'est pas celui où `forks` a tout importé
    (tests/forks.py, READ_AT_START). Lancent de vrais processus, toujours :

    - ce que l'essai arrête par un signal, tue, ou lit pendant qu'il tourne : resilience/test_signals.py,
      test_resume.py, test_stops.py, test_changes.py et test_lock.py, commands/test_commands.py et test_chat.py
      (Ctrl-C), serving/test_command.py (un serveur), test_tensorboard.py ;
    - torchrun, srun, deux processus qui se surveillent : test_parallel.py, training/test_divergence.py ;
    - ce qui change Python, ses flux ou le système avant lui : resilience/test_surroundings.py, test_other_systems.py
      et test_disk.py, serving/test_page.py (une ligne de bash), test_install.py, test_wheel.py ;
    - ce qui regarde un import : test_floors.py ; et un code à part : data/test_corpus.py, test_datamodule.py.
    """

    def run(
        script: str, *arguments: str, cwd: Path, timeout: float = 240, stdin: str | None = None, **env: str
    ):
        entry = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
        whole = {**_environment(cache), **env}
        return forks.run(*entry, *arguments, cwd=cwd, env=whole, timeout=timeout, stdin=stdin)

    return run


def _environment(cache: Path) -> dict[str, str]:
    # sur un thread : ce qu'un essai calcule ne dépend pas de ce que la machine fait à côté
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }


def hearing_signals() -> None:
    """Dans un enfant qui commence : un signal qu'ignore qui lance les essais (« make test & ») ne l'est plus."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def sentences(said: str) -> list[str]:
    """Ce qui est dit, sans le journal (« Corpus     : ... » et sa suite) : il peut gagner une ligne."""
    return [line for line in said.splitlines() if line.strip() and not LOG.match(line)]


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
