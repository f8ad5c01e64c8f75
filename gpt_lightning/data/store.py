"""La base de jetons : des fragments d'entiers sur le disque, lus par projection en mémoire.

Un dossier par base, nommé d'après l'empreinte de ce qu'elle contient :

    <nom>-<empreinte>/train_00000.bin ... val_00000.bin ... meta.json

Elle est écrite dans un dossier provisoire puis renommée : une base visible est une base complète.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

VERSION = 4
META = "meta.json"
SHARD_TOKENS = 1 << 28  # 512 Mo en uint16
SPLITS = ("train", "val")
DTYPES = ("uint16", "uint32")
READ = 1 << 24  # octets lus à la fois pour les vérifier
MOST_META = 1 << 24  # octets ; une base de dix mille fragments en demande cent mille


@dataclass(frozen=True)
class Fragment:
    """Des jetons à la suite dans un fichier : `length` entiers `dtype`, dont le premier est le jeton `first`.

    `header` sont les octets qui précèdent le jeton 0 du fichier.
    """

    path: Path
    dtype: np.dtype
    length: int
    first: int = 0
    header: int = 0

    @classmethod
    def of(cls, path: Path, dtype: np.dtype) -> "Fragment":
        """Tout le fichier `path`, sans en-tête."""
        return cls(path, dtype, path.stat().st_size // dtype.itemsize)

    def map(self) -> np.ndarray:
        """Ses jetons, (length,), projetés en mémoire : rien n'est copié, et seul ce qui est lu vient du disque."""
        if not self.length:
            return np.empty(0, self.dtype)
        offset = self.header + self.first * self.dtype.itemsize
        return np.asarray(np.memmap(self.path, self.dtype, "r", offset, (self.length,)))

    def part(self, begin: int, end: int) -> "Fragment":
        """Ses jetons de `begin` à `end`, ramenés à ceux qu'il a."""
        begin, end = (min(max(place, 0), self.length) for place in (begin, end))
        return replace(self, first=self.first + begin, length=max(0, end - begin))


class Store(Protocol):
    """Ce qu'un corpus en jetons sait dire de chaque moitié, train ou val."""

    @property
    def content(self) -> list[object]:
        """Ce qu'il contient, en valeurs simples : deux corpus qui ont les mêmes jetons ont le même."""
        ...

    def fragments(self, split: str) -> list[Fragment]:
        """Ses jetons, dans l'ordre."""
        ...

    def documents(self, split: str) -> np.ndarray:
        """Le premier jeton de chaque document, (documents,) int64."""
        ...

    def n_tokens(self, split: str) -> int: ...

    def n_bytes(self, split: str) -> int:
        """Les octets du texte de ces jetons."""
        ...


@dataclass(frozen=True)
class TokenStore:
    """Une base ouverte : tout ce qu'elle contient est vérifié. UserError si elle est abîmée.

    De meta.json, rien n'est cru que les fichiers peuvent dire : leur taille, leur empreinte, leurs identifiants.
    """

    folder: Path
    meta: JsonObject = field(repr=False)
    counts: dict[str, list[int]] = field(repr=False)  # par moitié, les jetons de chaque fragment
    use: IO[bytes] | None = field(
        default=None, repr=False, compare=False
    )  # tant qu'il est ouvert, elle ne s'efface pas

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """La base de `folder`, dont chaque octet est lu."""
        use = _hold(folder)
        meta = read_meta(folder)
        store = cls(folder, meta, {}, use)
        for split in SPLITS:
            half = meta["splits"][split]
            paths = [folder / f"{split}_{index:05d}.bin" for index in range(len(half["crc"]))]
            lengths = [
                _verify(path, crc, store.dtype, meta["vocab_size"])
                for path, crc in zip(paths, half["crc"], strict=True)
            ]
            store.counts[split] = lengths
            path = folder / f"{split}_documents.bin"
            _verify(path, half["documents_crc"], np.dtype(np.int64), sum(lengths) + 1)
        return store

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.meta["dtype"])

    def shards(self, split: str) -> list[Path]:
        """Les fragments de `split`, dans l'ordre."""
        return [self.folder / f"{split}_{index:05d}.bin" for index in range(len(self.counts[split]))]

    def fragments(self, split: str) -> list[Fragment]:
        return [Fragment.of(path, self.dtype) for path in self.shards(split)]

    def documents(self, split: str) -> np.ndarray:
        """Le premier jeton de chaque document, (documents,) int64."""
        return np.fromfile(self.folder / f"{split}_documents.bin", dtype=np.int64)

    def n_tokens(self, split: str) -> int:
        """Les jetons de `split`."""
        return sum(self.counts[split])

    def n_bytes(self, split: str) -> int:
        return self.meta["splits"][split]["bytes"]

    @property
    def content(self) -> list[object]:
        return content_of(self.meta)


def content_of(meta: JsonObject) -> list[object]:
    """Ce que contient la base dont voici meta.json."""
    return [meta.get(key) for key in ("source_sha256", "tokenizer", "split")]


def _hold(folder: Path) -> IO[bytes] | None:
    """Ouvre la base pour la lire : `take_alone` la laisse tant que ce fichier est ouvert. None s'il ne s'ouvre pas."""
    try:
        file = open(folder / META, "rb")  # noqa: SIM115
    except OSError:  # sa lecture le dira
        return None
    with contextlib.suppress(OSError):  # ce système de fichiers n'a pas de verrou
        _lock(file, alone=False)
    with contextlib.suppress(OSError):  # un dossier que l'on ne fait que lire
        os.utime(folder / META)  # sa dernière lecture
    return file


@contextmanager
def take_alone(folder: Path) -> Iterator[bool]:
    """Pendant ce bloc, vrai si aucun processus vivant n'a ouvert cette base : on peut l'effacer."""
    with contextlib.ExitStack() as opened:
        try:
            _lock(opened.enter_context(open(folder / META, "rb")), alone=True)
            alone = True
        except OSError as error:
            alone = isinstance(error, FileNotFoundError)  # elle n'est plus là
        if os.name == "nt":  # là, un fichier ouvert ne s'efface pas : le verrou n'est pas nécessaire
            opened.close()
        yield alone


def _lock(file: IO[bytes], *, alone: bool) -> None:
    """Verrouille ce fichier, avec d'autres ou seul. OSError si un autre processus l'empêche."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)


def read_meta(folder: Path) -> JsonObject:
    """meta.json, dont chaque valeur utile a le bon type. UserError sinon."""
    broken = UserError(f"{folder} n'est pas une base de jetons : meta.json manque ou est illisible.")
    try:
        if (folder / "meta.json").stat().st_size > MOST_META:
            raise broken
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        version = meta["version"]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        raise broken from None
    if version != VERSION:
        raise UserError(f"{folder} : version {str(version)[:20]} de la base, {VERSION} attendue.")
    try:
        numbers = [meta["vocab_size"]]
        for split in SPLITS:
            half = meta["splits"][split]
            numbers += [half[key] for key in ("characters", "bytes", "documents_crc")] + half["crc"]
        fine = meta["dtype"] in DTYPES and all(
            type(value) is int and 0 <= value < 1 << 62 for value in numbers
        )
    except (KeyError, TypeError):
        fine = False
    if not fine:
        raise UserError(f"{folder} : meta.json est abîmé ; effacez ce dossier, il sera reconstruit.")
    return meta


def _verify(path: Path, crc: int, dtype: np.dtype, below: int) -> int:
    """Vérifie `path`, et compte ses entiers. UserError sur une autre empreinte, ou un entier hors de [0, below)."""
    checksum, size = 0, 0
    try:
        with open(path, "rb") as file:
            while block := file.read(READ):
                checksum, size = zlib.crc32(block, checksum), size + len(block)
                values = np.frombuffer(block[: len(block) // dtype.itemsize * dtype.itemsize], dtype)
                if len(values) and not 0 <= values.min() <= values.max() < below:
                    raise UserError(
                        f"{path} contient un identifiant hors du vocabulaire : effacez {path.parent}, il sera "
                        f"reconstruit."
                    )
    except OSError:
        checksum = -1
    if checksum != crc or size % dtype.itemsize:
        raise UserError(f"{path} est abîmé ou absent : effacez {path.parent}, il sera reconstruit.")
    return size // dtype.itemsize


class Tokens(Sequence[int]):
    """Les jetons de plusieurs fragments à la suite, lus à l'usage : une tranche est un tableau (N,).

    UserError qui donne sa place si l'un d'eux n'est pas sous `below`.
    """

    def __init__(self, fragments: Sequence[Fragment], below: int | None = None) -> None:
        self._fragments, self._below = [part for part in fragments if part.length], below
        self._parts = [fragment.map() for fragment in self._fragments]
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)
        self._dtype = np.result_type(
            *{fragment.dtype for fragment in self._fragments} or {np.dtype(np.uint16)}
        )

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, where: int | slice) -> Any:
        if not isinstance(where, slice):
            return int(self[where : where + 1 or None][0])
        start, stop, step = where.indices(len(self))
        first = int(np.searchsorted(self._ends, start, side="right"))
        parts = []
        for fragment, part, end in zip(
            self._fragments[first:], self._parts[first:], self._ends[first:], strict=True
        ):
            begin = int(end) - len(part)
            if begin >= stop:
                break
            parts.append(part[max(0, start - begin) : max(0, stop - begin)])
            check_ids(parts[-1], self._below, fragment, max(0, start - begin))
        return np.concatenate(parts or [np.empty(0, self._dtype)])[::step].astype(self._dtype, copy=False)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self._dtype)


def check_ids(ids: np.ndarray, below: int | None, fragment: Fragment, begin: int) -> None:
    """UserError, avec sa place, si l'un des jetons `ids` de `fragment`, lus depuis `begin`, n'est pas sous `below`."""
    if below is None or not len(ids) or int(ids.max()) < below:
        return
    place = int((ids >= below).argmax())
    raise UserError(
        f"{fragment.path} : le jeton {fragment.first + begin + place} est {int(ids[place])}, et le tokenizer n'a que "
        f"{below} identifiants : donnez avec tokenizer= celui qui a écrit ces fragments."
    )
