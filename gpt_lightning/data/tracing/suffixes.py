"""L'index d'un corpus, dans un fichier : ses mots, l'ordre de leurs suffixes, ses documents.

    une ligne JSON, complétée par des blancs : sa version, ses nombres, l'empreinte de la suite
    les mots (>u4) · les suffixes dans leur ordre (<i4) · les caractères qui précèdent chaque 4096e mot (<i8)
    · où commence chaque document (<i4), en mots · les caractères de chaque mot du vocabulaire (<i4)
    · ces mots, bout à bout (UTF-8)

Le mot 0 finit chaque document : aucun texte ne l'a. Les mots sont gros-boutistes : comparer deux suites d'entiers est
comparer leurs octets.
"""

import contextlib
import json
import mmap
import os
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt_lightning import durable
from gpt_lightning.data.tracing.sorting import sort_suffixes
from gpt_lightning.data.tracing.words import cut_parts
from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

VERSION = 1
WORDS, SHORT, LONG = np.dtype(">u4"), np.dtype("<i4"), np.dtype("<i8")
FORMS: tuple[np.dtype, ...] = (
    WORDS,
    SHORT,
    LONG,
    SHORT,
    SHORT,
)  # mots, suffixes, places notées, documents, longueurs
MARK = 4096  # mots entre deux places notées
MOST = (1 << 31) - 1  # mots : un suffixe est un int32
AHEAD = 32  # mots comparés d'abord
HEADER = 4096  # octets de la première ligne, au plus
CHUNK = 1 << 14  # mots numérotés à la fois
READ = 1 << 20  # octets lus à la fois pour les vérifier
Progress = Callable[[int, int], None]


class Place(NamedTuple):
    """Un endroit d'un corpus : le rang du document, et le caractère où il y commence."""

    document: int
    character: int


def build_index(
    documents: Iterable[Iterable[str]], progress: Progress = lambda done, total: None
) -> "Suffixes":
    """L'index de `documents`, chacun en parties ; `progress` reçoit les suffixes triés. UserError s'il y en a trop."""
    ids, starts, lengths, words = _number(documents)
    order = sort_suffixes(ids, progress)
    vocabulary = _cut(lengths, words)
    del words
    return Suffixes(ids, order, starts, _mark(ids, lengths), vocabulary, {})


def write_index(path: Path, index: "Suffixes", facts: JsonObject) -> None:
    """Écrit cet index, et ce que l'on sait du corpus. WriteError si le disque refuse : il n'y en a alors pas."""
    lengths, words = _join(index.vocabulary)
    arrays = (index.ids, index.order, index.marks, index.starts, lengths)
    parts = [values.astype(form, copy=False) for values, form in zip(arrays, FORMS, strict=True)]
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.data, crc)
    counts = [len(index.ids), len(index.starts), len(lengths), len(words)]
    header = {"version": VERSION, "counts": counts, "facts": facts, "crc": zlib.crc32(words, crc)}
    with durable.replacing(path) as beside, open(beside, "wb") as file:
        file.write(json.dumps(header).encode().ljust(HEADER - 1) + b"\n")
        for part in parts:
            part.tofile(file)
        file.write(words)


def _join(vocabulary: Collection[str]) -> tuple[np.ndarray, bytearray]:
    """Les longueurs de ces mots, et eux bout à bout : le temps d'un tri, une chaîne par mot serait lourde."""
    words = bytearray()
    for word in vocabulary:
        words += word.encode("utf-8", "surrogatepass")
    return np.fromiter(map(len, vocabulary), SHORT, len(vocabulary)), words


def _cut(lengths: np.ndarray, words: bytes | bytearray) -> list[str]:
    """Les mots que `_join` a mis bout à bout ; ValueError si ce n'est pas lui."""
    text, ends = words.decode("utf-8", "surrogatepass"), np.cumsum(lengths, dtype=np.int64)
    if lengths.min(initial=0) < 0 or ends[-1:].tolist() != [len(text)]:
        raise ValueError
    return [text[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def _number(documents: Iterable[Iterable[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, bytearray]:
    """Les mots de tous les documents, chacun un nombre, le rang du premier de chacun, et le vocabulaire, joint."""
    numbers: dict[str, int] = {"": 0}
    ids, starts = bytearray(), array("i")
    waiting: list[str] = []
    for parts in documents:
        starts.append(len(ids) // WORDS.itemsize + len(waiting))
        for words in chain(cut_parts(parts), [[""]]):
            waiting += words
            if len(waiting) > CHUNK:
                ids += _numbers_of(waiting, numbers).data
                waiting = []
        if len(ids) > MOST * WORDS.itemsize:
            raise UserError("Ce corpus a plus de deux milliards de mots : son index n'en tient pas tant.")
    ids += _numbers_of(waiting, numbers).data
    return np.frombuffer(ids, WORDS), np.frombuffer(starts, np.int32), *_join(numbers)


def _numbers_of(words: Sequence[str], numbers: dict[str, int]) -> np.ndarray:
    """Le nombre de chacun de ces mots ; un nouveau prend le suivant."""
    for word in words:
        if word not in numbers:
            numbers[word] = len(numbers)
    return np.fromiter(map(numbers.__getitem__, words), WORDS, len(words))


def _mark(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Les caractères qui précèdent un mot sur MARK."""
    sums = [int(lengths[ids[first : first + MARK]].sum()) for first in range(0, len(ids), MARK)]
    return np.cumsum([0, *sums])[:-1] if sums else np.zeros(0, np.int64)


class Suffixes:
    """L'index ouvert : `ids` (N,) les mots du corpus, `order` (N,) leurs suffixes triés. Rien n'est copié."""

    def __init__(
        self,
        ids: np.ndarray,
        order: np.ndarray,
        starts: np.ndarray,
        marks: np.ndarray,
        vocabulary: list[str],
        facts: JsonObject,
    ) -> None:
        self.ids, self.order, self.starts, self.marks = ids, order, starts, marks
        self.vocabulary, self.facts = vocabulary, facts
        self._numbers = {word: number for number, word in enumerate(vocabulary)}
        self._bytes = ids.data.cast("B") if len(ids) else memoryview(b"")

    @classmethod
    def open(cls, path: Path) -> "Suffixes":
        """L'index de ce fichier, dont chaque octet est vérifié. UserError s'il est abîmé, coupé, ou d'ailleurs."""
        broken = UserError(f"{path} est abîmé : effacez-le, il sera reconstruit.")
        try:
            with open(path, "rb") as file:
                header = json.loads(file.read(HEADER))
                n, documents, different, words = header["counts"]
                numbers = [n, documents, different, words, header["crc"]]
                if header["version"] != VERSION or not all(
                    type(value) is int and 0 <= value <= MOST << 2 for value in numbers
                ):
                    raise broken
                marks = -(-n // MARK)
                size = HEADER + 8 * (n + marks) + 4 * (documents + different) + words
                if n > MOST or path.stat().st_size != size or not isinstance(header["facts"], dict):
                    raise broken
                crc = 0
                while block := file.read(READ):
                    crc = zlib.crc32(block, crc)
                if crc != header["crc"]:
                    raise broken
                with contextlib.suppress(OSError):  # un dossier que l'on ne fait que lire
                    os.utime(path)  # sa dernière lecture
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            at = HEADER
            parts = []
            for dtype, count in zip(FORMS, (n, n, marks, documents, different), strict=True):
                parts.append(np.frombuffer(data, dtype, count, at))
                at += parts[-1].nbytes
            vocabulary = _cut(parts.pop(), data[at:])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise broken from None
        if not _is_sound(parts[0], parts[1], parts[3], len(vocabulary)):
            raise broken
        ids, order, marks, starts = parts
        return cls(ids, order, starts, marks, vocabulary, header["facts"])

    def numbers(self, words: Iterable[str]) -> np.ndarray:
        """Le nombre de chacun de ces mots, 0 de ceux que le corpus n'a pas : (N,)."""
        return np.fromiter((self._numbers.get(word, 0) for word in words), WORDS)

    def match(self, first: int, following: np.ndarray) -> tuple[int, int]:
        """Combien de ces mots se suivent quelque part dans le corpus, et où : (nombre, rang d'un mot).

        Ce sont les nombres d'un premier mot et de ceux d'après, dont aucun n'est 0.
        """
        size, most = 0, 1 + len(following) if first else 0
        while size < most:  # presque tous les passages sont courts : en comparer de longs coûterait pour rien
            size = min(most, max(AHEAD, 8 * size))
            best = self._match(_target(first, following[: size - 1]))
            if best[0] < size:
                return best
        return best if most else (0, 0)

    def _match(self, target: bytes) -> tuple[int, int]:
        place = bisect_left(self.order, target, key=self._suffix(len(target)))
        best = (0, 0)
        for near in (place - 1, place):
            if 0 <= near < len(self.order):
                begin = int(self.order[near])
                best = max(best, (_common(target, self._read(begin, len(target))), begin))
        return best

    def count(self, first: int, following: np.ndarray) -> int:
        """Combien de fois ces mots, donnés comme à `match`, se suivent dans le corpus."""
        if not first:
            return 0
        target = _target(first, following)
        key = self._suffix(len(target))
        begin = bisect_left(self.order, target, key=key)
        return bisect_right(self.order, target, lo=begin, key=key) - begin

    def _read(self, begin: int, size: int) -> bytes:
        """Les `size` octets des mots qui suivent le rang `begin`, ou moins à la fin."""
        return bytes(self._bytes[WORDS.itemsize * begin : WORDS.itemsize * begin + size])

    def _suffix(self, size: int) -> Callable[[int], bytes]:
        return lambda begin: self._read(int(begin), size)

    def place(self, rank: int) -> Place:
        """L'endroit du mot de ce rang."""
        document = int(np.searchsorted(self.starts, rank, side="right")) - 1
        return Place(document, self._characters(rank) - self._characters(int(self.starts[document])))

    def _characters(self, rank: int) -> int:
        """Les caractères de tous les documents qui précèdent ce mot."""
        first = rank // MARK * MARK
        return int(self.marks[rank // MARK]) + len(self.text(first, rank))

    def text(self, begin: int, end: int) -> str:
        """Le texte des mots de rang `begin` à `end`."""
        return "".join(self.vocabulary[number] for number in self.ids[begin:end].tolist())

    def around(self, begin: int, end: int, words: int = 20) -> tuple[str, str]:
        """Ce qui précède le mot `begin`, et ce qui suit le mot `end`, dans le même document."""
        document = int(np.searchsorted(self.starts, begin, side="right")) - 1
        last = int(self.starts[document + 1]) if document + 1 < len(self.starts) else len(self.ids)
        first = max(int(self.starts[document]), begin - words)
        return self.text(first, begin), self.text(end, min(last, end + words))


def _target(first: int, following: np.ndarray) -> bytes:
    """Ces mots, en octets qui se comparent."""
    return first.to_bytes(WORDS.itemsize, "big") + following.tobytes()


def _is_sound(ids: np.ndarray, order: np.ndarray, starts: np.ndarray, words: int) -> bool:
    """Vrai si tout nombre de l'index est dans ses bornes, les mots différents étant `words`."""
    below = ((ids, words), (order, len(ids)), (starts, len(ids) + 1))
    inside = all(not len(part) or 0 <= part.min() <= part.max() < most for part, most in below)
    in_order = bool((np.diff(starts) > 0).all()) and starts[:1].tolist() == [0] * bool(len(ids))
    return inside and in_order


def _common(one_side: bytes, other: bytes) -> int:
    """Les mots que ces deux suites ont en commun à leur début."""
    size = min(len(one_side), len(other)) // WORDS.itemsize
    differ = np.flatnonzero(np.frombuffer(one_side, WORDS, size) != np.frombuffer(other, WORDS, size))
    return int(differ[0]) if len(differ) else size
