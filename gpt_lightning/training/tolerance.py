"""Ce qui peut manquer à un entraînement sans qu'il s'arrête : une mesure, une courbe, un texte d'exemple."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt_lightning import durable, messages

log = logging.getLogger("gpt_lightning")
_said: set[Path] = set()


@contextmanager
def surviving(path: Path) -> Iterator[None]:
    """Si le disque refuse d'écrire `path` dans ce bloc, le dit, une fois, et l'entraînement continue."""
    try:
        with durable.refusals(path):
            yield
    except durable.WriteError as error:
        if path not in _said:
            _said.add(path)
            log.warning(messages.goes_on(str(error)))
