"""Les fichiers de jetons : ceux de llm.c et de modded-nanogpt, avec un en-tête, et ceux de nanoGPT, sans.

Un en-tête est fait de 256 entiers de 32 bits : une marque, une version, le nombre de jetons, puis des zéros. Sources :
llm.c, dev/data/data_common.py ; modded-nanogpt, train_gpt.py ; nanoGPT, data/openwebtext/prepare.py.
"""

import re
import struct
from pathlib import Path
from typing import IO

import numpy as np

from gpt_lightning.data.store import Fragment
from gpt_lightning.errors import UserError

SUFFIX = ".bin"
HEADER = 1024  # octets
NARROW, WIDE = np.dtype("<u2"), np.dtype("<u4")
# la marque : la version, et les entiers
FORMATS: dict[int, tuple[int, np.dtype]] = {20240520: (1, NARROW), 20240801: (7, WIDE)}
QUESTIONS = 20240522  # des questions à choix, pour évaluer
# ce que d'autres fichiers .bin ont au début : un modèle de torch, un GGUF, du gzip, du zstd, un pickle
FOREIGN = re.compile(
    rb"PK\x03\x04|GGUF|\x1f\x8b\x08[\x00\x08]|\(\xb5/\xfd|\x80\x02\x8a\n|\x80[\x04\x05]\x95.{5}\0\0\0", re.S
)


def open_shard(path: Path) -> Fragment:
    """Les jetons de `path`, dont seul l'en-tête est lu. UserError s'il n'en est pas, ou si sa taille ne va pas."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(HEADER)
    except OSError as error:
        raise UserError(f"{path} ne se lit pas ({error.strerror}).") from None
    if not head:
        raise UserError(f"{path} est vide : refaites-le, ou retirez-le.")
    if FOREIGN.match(head) or path.with_suffix(".idx").exists():
        raise UserError(f"{path} n'est pas un fragment de jetons (llm.c, modded-nanogpt ou nanoGPT).")
    mark, version, count = struct.unpack("<3i", head[:12].ljust(12, b"\1"))
    if mark in FORMATS:
        return _with_header(path, size, mark, version, count)
    if mark == QUESTIONS:
        raise UserError(f"{path} contient des questions à choix de llm.c, pas un texte : retirez-le.")
    if len(head) == HEADER and not any(head[12:]):
        raise UserError(
            f"{path} a un en-tête inconnu (marque {mark}) : refaites-le avec l'un des trois outils."
        )
    if path.suffix.lower() != SUFFIX:
        raise UserError(
            f"{path} n'a pas d'en-tête : ce n'est pas un fragment, ou il lui manque son suffixe {SUFFIX}."
        )
    if size % NARROW.itemsize:
        raise UserError(
            f"{path} a {size} octets, un nombre impair : il est coupé, ou n'est pas fait de jetons."
        )
    return Fragment(path, NARROW, size // NARROW.itemsize)


def _with_header(path: Path, size: int, mark: int, version: int, count: int) -> Fragment:
    expected, dtype = FORMATS[mark]
    if version != expected:
        raise UserError(f"{path} : version {version} de la marque {mark}, et seule la {expected} se lit.")
    there, odd = divmod(size - HEADER, dtype.itemsize)
    if there != count or odd:
        why = "il est coupé" if there < count else "il est trop long"
        raise UserError(
            f"{path} annonce {count} jetons et a la place de {max(there, 0)} : {why}, refaites-le "
            f"(data.errors=skip le laisse de côté)."
        )
    return Fragment(path, dtype, count, header=HEADER)


def write_header(file: IO[bytes], count: int, dtype: np.dtype) -> None:
    """Écrit, au début de `file`, l'en-tête de `count` jetons."""
    mark, version = next((mark, version) for mark, (version, kind) in FORMATS.items() if kind == dtype)
    file.seek(0)
    file.write(struct.pack("<3i", mark, version, count).ljust(HEADER, b"\0"))
