"""L'en-tête d'un GGUF : ses réglages et l'annonce de ses tenseurs, lus sans rien croire de ce qu'il annonce.

Un nombre, une longueur ou une place se compare à la taille du fichier avant de servir. Le format n'a pas de somme de
contrôle : un bit changé dans un poids ne se voit pas.

Source : https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import os
import struct
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np

from gpt_lightning.errors import UserError
from gpt_lightning.weights.untrusted import Damaged, regular

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# réglages, et tenseurs ; un modèle de cent couches a quelques dizaines des uns, mille des autres
MOST_VALUES = 1 << 16
MOST_ITEMS = 1 << 22  # d'une liste ; le plus grand vocabulaire que l'on connaisse en a 262 144
MOST_BYTES = 128 << 20  # de l'en-tête ; celui de Gemma 3 en fait quinze millions
LONGEST_KEY, MOST_DIMENSIONS, MOST_ALIGNMENT = 1 << 10, 4, 1 << 16
TEXT, LIST, FLOAT32, BOOL = 8, 9, 6, 7
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


class Kind(NamedTuple):
    """Un type de tenseur : `block` nombres y tiennent en `size` octets."""

    name: str
    block: int
    size: int


KINDS = {
    0: Kind("F32", 1, 4),
    1: Kind("F16", 1, 2),
    2: Kind("Q4_0", 32, 18),
    3: Kind("Q4_1", 32, 20),
    6: Kind("Q5_0", 32, 22),
    7: Kind("Q5_1", 32, 24),
    8: Kind("Q8_0", 32, 34),
    10: Kind("Q2_K", 256, 84),
    11: Kind("Q3_K", 256, 110),
    12: Kind("Q4_K", 256, 144),
    13: Kind("Q5_K", 256, 176),
    14: Kind("Q6_K", 256, 210),
    16: Kind("IQ2_XXS", 256, 66),
    17: Kind("IQ2_XS", 256, 74),
    18: Kind("IQ3_XXS", 256, 98),
    19: Kind("IQ1_S", 256, 50),
    20: Kind("IQ4_NL", 32, 18),
    21: Kind("IQ3_S", 256, 110),
    22: Kind("IQ2_S", 256, 82),
    23: Kind("IQ4_XS", 256, 136),
    29: Kind("IQ1_M", 256, 56),
    30: Kind("BF16", 1, 2),
    34: Kind("TQ1_0", 256, 54),
    35: Kind("TQ2_0", 256, 66),
    39: Kind("MXFP4", 32, 17),
}


class Entry(NamedTuple):
    """L'annonce d'un tenseur : sa forme, comme torch l'écrit, son type, sa place et sa longueur dans le fichier."""

    shape: tuple[int, ...]
    kind: Kind
    start: int
    length: int


class Header(NamedTuple):
    """Les réglages d'un GGUF et l'annonce de ses tenseurs."""

    path: Path
    values: dict[str, object]
    entries: dict[str, Entry]

    @property
    def architecture(self) -> str:
        return self.get("general.architecture", str, "")

    def get(self, key: str, kind: type["T"], default: "T") -> "T":
        """La valeur de `key`, ou `default` si elle manque. UserError si elle est d'un autre genre."""
        value = self.values.get(key, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind and value is not default:
            raise Damaged(f"{key} n'est pas ce qu'un GGUF y met ({str(value)[:40]})")
        return value

    def texts(self, key: str) -> list[str]:
        """La liste de textes `key`, vide si elle manque."""
        values = self.get(key, list, [])
        if not all(isinstance(value, str) for value in values):
            raise Damaged(f"{key} n'est pas une liste de textes")
        return values


T = TypeVar("T")


def is_gguf(path: Path) -> bool:
    """Vrai si ce fichier commence comme un GGUF, ou en a le nom."""
    with open(path, "rb") as file:
        return path.suffix == ".gguf" or file.read(len(MAGIC)) == MAGIC


def read_header(path: Path) -> Header:
    """Lit et vérifie l'en-tête ; aucun poids n'est lu. Damaged si le fichier n'a pas tout ce qu'il annonce."""
    regular(path)
    with open(path, "rb") as file:
        reader = _Reader(file)
        if reader.take(len(MAGIC)) != MAGIC:
            raise Damaged("ce n'est pas un GGUF")
        version = reader.number("I")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "big"), "little") in VERSIONS
            what = "il est gros-boutiste" if swapped else f"il est de version {version}"
            raise UserError(f"{what} ; on lit les GGUF petit-boutistes de version 2 ou 3.")
        n_tensors, n_values = reader.count(MOST_VALUES, "tenseurs"), reader.count(MOST_VALUES, "réglages")
        values: dict[str, object] = {}
        for _ in range(n_values):
            key = reader.text(LONGEST_KEY)
            if key in values:
                raise Damaged(f"le réglage {key[:60]!r} y est deux fois")
            values[key] = reader.value(reader.number("I"))
        announced = dict[str, tuple[tuple[int, ...], Kind, int]]()
        for _ in range(n_tensors):
            name = reader.text(LONGEST_KEY)
            if name in announced:
                raise Damaged(f"le tenseur {name[:60]!r} y est deux fois")
            announced[name] = reader.tensor(name)
        return Header(path, values, _place(announced, values, reader))


def _place(
    announced: dict[str, tuple[tuple[int, ...], Kind, int]], values: dict[str, object], reader: "_Reader"
) -> dict[str, Entry]:
    """La place de chaque tenseur : alignée, dans le fichier, et à lui seul."""
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
        raise Damaged(f"general.alignment vaut {str(alignment)[:40]} : ce n'est pas une puissance de deux")
    begins = math.ceil(reader.at / alignment) * alignment
    entries = {}
    for name, (shape, kind, offset) in announced.items():
        length = math.prod(shape) // kind.block * kind.size
        if offset % alignment:
            raise Damaged(f"le tenseur {name[:60]} n'est pas aligné sur {alignment} octets")
        if begins + offset + length > reader.size:
            raise Damaged(f"le tenseur {name[:60]} va au-delà de la fin du fichier")
        entries[name] = Entry(shape, kind, begins + offset, length)
    placed = sorted((entry.start, entry.length, name) for name, entry in entries.items())
    for (start, length, name), (after, _, other) in zip(placed, placed[1:], strict=False):
        if start + length > after:
            raise Damaged(f"les tenseurs {name[:60]} et {other[:60]} se recouvrent")
    return entries


class _Reader:
    """Une lecture qui ne demande jamais plus que ce que le fichier, ou un en-tête, peut avoir."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.at = file, 0
        self.size = os.fstat(file.fileno()).st_size

    def take(self, length: int) -> bytes:
        if self.at + length > min(self.size, MOST_BYTES):
            why = "il est coupé" if self.at + length > self.size else "son en-tête est bien trop grand"
            raise Damaged(f"{why} : {length} octets annoncés à l'octet {self.at}")
        self.at += length
        return self._file.read(length)

    def number(self, code: str) -> int:
        value: int = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return value

    def count(self, most: int, what: str) -> int:
        value = self.number("Q")
        if value > most:
            raise Damaged(f"{value} {what} : c'est bien trop")
        return value

    def text(self, most: int = MOST_BYTES) -> str:
        return self.take(self.count(most, "octets d'un texte")).decode("utf-8")

    def value(self, kind: int) -> object:
        if kind == TEXT:
            return self.text()
        if kind == LIST:
            inner, length = self.number("I"), self.count(MOST_ITEMS, "éléments d'une liste")
            if inner == TEXT:
                return [self.text() for _ in range(length)]
            code = self._code(inner)
            values = list(struct.unpack(f"<{length}{code}", self.take(length * struct.calcsize(f"<{code}"))))
            return [value != 0 for value in values] if inner == BOOL else values
        number = self.number(self._code(kind))
        if kind == BOOL:
            return number != 0
        return (
            float(str(np.float32(number))) if kind == FLOAT32 else number
        )  # 1e-05, et non 9.99999974738e-06

    def _code(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise Damaged(f"un réglage d'un genre inconnu ({kind})")
        return _NUMBERS[kind]

    def tensor(self, name: str) -> tuple[tuple[int, ...], Kind, int]:
        """La forme d'un tenseur, son type, et sa place dans les données."""
        n_dimensions = self.number("I")
        if not 0 < n_dimensions <= MOST_DIMENSIONS:
            raise Damaged(f"le tenseur {name[:60]} a {n_dimensions} dimensions")
        shape = tuple(self.count(self.size * 32, "nombres d'un tenseur") for _ in range(n_dimensions))[::-1]
        code = self.number("I")
        if code not in KINDS:
            names = ", ".join(kind.name for kind in KINDS.values())
            raise UserError(f"le tenseur {name[:60]} est d'un type inconnu ({code}) : on lit {names}.")
        if not all(shape) or shape[-1] % KINDS[code].block:
            raise Damaged(
                f"le tenseur {name[:60]} a la forme {shape} : des lignes de {KINDS[code].block} en {KINDS[code].name}"
            )
        return shape, KINDS[code], self.number("Q")
