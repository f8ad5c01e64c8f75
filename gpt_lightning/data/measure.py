"""Mesurer un corpus : ce qu'il contient, et son empreinte, avant de l'encoder."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from gpt_lightning import durable
from gpt_lightning.data.corpus import Source

Progress: TypeAlias = Callable[[int, int], None]  # (octets faits, leur total s'il est connu, 0 sinon)


class Measure(NamedTuple):
    """Ce qu'un corpus contient : documents, caractères, octets, et son empreinte SHA-256."""

    documents: int
    characters: int
    bytes: int
    digest: str


def measure(source: Source, progress: Progress = lambda done, total: None) -> Measure:
    """Mesure un corpus en une lecture ; `progress` reçoit les octets lus. Celle d'un jeu de données sert à nouveau."""
    path = source.cache_dir / "measures" / f"{source.stamp}.json"
    if source.stamp is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Measure(*json.loads(path.read_text(encoding="utf-8")))
    measured = _measure(source, progress)
    if source.stamp is not None and not source.register.skipped:
        with contextlib.suppress(OSError, durable.WriteError):
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write_text(path, json.dumps(measured))
    return measured


def _measure(source: Source, progress: Progress) -> Measure:
    """La même, en lisant tout ; ce qui n'est pas lu est dit."""
    digest, documents, characters, size = hashlib.sha256(), 0, 0, 0
    for piece in source.pieces():
        text = piece.text.encode("utf-8", "surrogatepass")
        characters, size = characters + len(piece.text), size + len(text)
        digest.update(text)
        progress(size, 0)
        if piece.last:
            documents += 1
            digest.update(b"\xff")  # jamais dans de l'UTF-8 : sépare les documents
    source.register.settle()
    return Measure(documents, characters, size, digest.hexdigest())
