"""Partager un corpus entre entraînement et validation : par caractères, par documents, ou par empreinte."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial

from gpt_lightning.data.reading import Piece


def split_by_characters(pieces: Callable[[], Iterator[Piece]], at: int) -> tuple[Callable, Callable]:
    """Les flux d'entraînement et de validation : les `at` premiers caractères, et les autres."""
    return partial(_before, pieces, at), partial(_after, pieces, at)


def _before(pieces: Callable[[], Iterator[Piece]], at: int) -> Iterator[Piece]:
    for piece in pieces():
        if len(piece.text) >= at:
            if at:
                yield piece._replace(text=piece.text[:at], last=True)
            return
        yield piece
        at -= len(piece.text)


def _after(pieces: Callable[[], Iterator[Piece]], at: int) -> Iterator[Piece]:
    for piece in pieces():
        if len(piece.text) > at:
            yield piece._replace(text=piece.text[at:])
        at = max(0, at - len(piece.text))


def split_by_documents(pieces: Callable[[], Iterator[Piece]], at: int) -> tuple[Callable, Callable]:
    """Les flux d'entraînement et de validation : les `at` premiers documents, et les autres."""
    return partial(_documents, pieces, 0, at), partial(_documents, pieces, at, None)


def split_by_hash(pieces: Callable[[], Iterator[Piece]], share: float) -> tuple[Callable, Callable]:
    """Les flux d'entraînement et de validation : chaque document va d'un côté selon l'empreinte de son nom, ou de son
    début. Le même document va toujours du même côté, quels que soient les autres et leur ordre."""
    return partial(_hash_side, pieces, share, True), partial(_hash_side, pieces, share, False)


def _hash_side(pieces: Callable[[], Iterator[Piece]], share: float, training: bool) -> Iterator[Piece]:
    begins, belongs = True, False
    for piece in pieces():
        if begins:
            belongs = (fraction(piece.key or piece.text[:1000], "split") < share) == training
        if belongs:
            yield piece
        begins = piece.last


def fraction(text: str, salt: str) -> float:
    """Un nombre de [0, 1) qui ne dépend que de `text` : son empreinte."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


def _documents(pieces: Callable[[], Iterator[Piece]], first: int, end: int | None) -> Iterator[Piece]:
    index = 0
    for piece in pieces():
        if end is not None and index >= end:
            return
        if index >= first:
            yield piece
        index += piece.last
