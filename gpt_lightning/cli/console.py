"""Écrire le journal à l'écran et dans un fichier, et afficher l'avancement d'un long travail."""

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gpt_lightning import durable
from gpt_lightning.wording import goes_on

log = logging.getLogger("gpt_lightning")


class RichHandler(logging.StreamHandler):
    """Écrit le message seul sur la sortie standard, sans casser la barre de progression."""

    def emit(self, record: logging.LogRecord) -> None:
        """Écrit par la console de rich, qui sait où est la barre de progression."""
        import rich

        console = rich.get_console()
        console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


class Lasting(io.TextIOBase):
    """Une sortie dont un échec n'arrête pas l'entraînement.

    Si plus personne ne la lit, ou si son disque est plein, seul ce qui suit est perdu.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:  # buffer, name, mode ...
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"


def make_outputs_safe(*, lasting: bool) -> None:
    """Règle les sorties : elles remplacent ce que leur encodage n'a pas ; `lasting` : leur échec n'arrête rien."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # fermée avant nous
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        setattr(sys, name, Lasting(stream) if lasting else stream)


def show_log(*, on_stdout: bool) -> None:
    """Montre le journal : sur la sortie standard si c'est ce que la commande produit, sur l'erreur standard sinon."""
    logging.raiseExceptions = False  # un journal qui ne s'écrit plus ne dit rien de plus
    handler = RichHandler(sys.stdout) if on_stdout else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("hydra", "matplotlib"):  # ce qu'ils ont à dire, nous le disons en français, ou pas
        logging.getLogger(name).setLevel(logging.WARNING)


class LogFile(logging.FileHandler):
    """Un fichier de journal ; quand il ne s'écrit plus, la commande le dit une fois, et l'entraînement continue."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Affiche la première erreur, sur l'erreur standard."""
        why = durable.refusal(self.baseFilename, sys.exc_info()[1] or ValueError())
        if why is not None and not self._failed:
            self._failed = True
            print(goes_on(why), file=sys.stderr)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Pendant ce bloc, écrit aussi le journal dans `path`, daté, à la suite de ce qu'il contient."""
    with durable.refusals(path):
        handler = LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


class ProgressLine:
    """Affiche où en est un travail, toutes les `every` secondes : `sentence(*comptes, secondes écoulées)`."""

    def __init__(self, sentence: Callable[..., str], every: float = 5.0) -> None:
        self._sentence, self._every = sentence, every
        self._began = time.monotonic()
        self._next = self._began + every
        self._last = 0

    def __call__(self, *counts: int) -> None:
        now = time.monotonic()
        if counts[0] < self._last:  # un autre travail commence
            self._began, self._next = now, now + self._every
        self._last = counts[0]
        if now >= self._next:
            self._next = now + self._every
            log.info(self._sentence(*counts, now - self._began))
