"""Construire une base de jetons : à côté, sur le disque, et de quoi reprendre ce qu'un processus tué avait commencé."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from gpt_lightning import durable
from gpt_lightning.data.encode import Counts, Moved, dtype_for, encode_pieces
from gpt_lightning.data.reading import Piece
from gpt_lightning.data.store import SHARD_TOKENS, VERSION, TokenStore
from gpt_lightning.errors import Interrupted, UserError
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.typing import JsonObject
from gpt_lightning.wording import percent

log = logging.getLogger("gpt_lightning")
JOURNAL = "journal.json"  # dans une base inachevée : ce qui en est sûr
NOTED = ("documents", "characters", "bytes", "documents_crc", "crc")  # ce que meta.json dit d'une moitié
EVERY = 32  # paquets d'un mégaoctet, environ, entre deux notes du journal
Progress = Callable[[int, int], None]  # (octets encodés, ceux qui étaient à encoder)
Splits = dict[str, Callable[[], Iterator[Piece]]]


@dataclass
class Half(Counts):
    """Une moitié en cours d'écriture : ce qui en est encodé, et l'empreinte de ses fichiers."""

    crc: list[int] = field(default_factory=list)  # celle de chaque fragment
    documents_crc: int = 0
    complete: bool = False


def open_or_build(
    cache_dir: Path,
    name: str,
    identity: JsonObject,
    splits: Splits,
    tokenizer: Tokenizer,
    *,
    size: int = 0,
    report: Callable[[str], None] = lambda folder: None,
    progress: Progress = lambda done, total: None,
) -> TokenStore:
    """La base de `splits` encodés par `tokenizer` ; réutilisée si `identity` (valeurs simples) est la même.

    `report` reçoit le dossier d'une base à construire, `progress` les octets encodés, sur les `size` du texte. Ce qu'un
    processus tué, ou interrompu, avait encodé est repris. UserError si le disque refuse l'écriture ; il n'en reste
    alors rien.
    """
    key = hashlib.sha256(json.dumps([VERSION, identity], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir / f"{name}-{key}"
    try:
        if folder.exists():
            return TokenStore.open(folder)
    except UserError:
        if folder.exists():
            raise  # sinon une autre commande vient de l'effacer
    report(str(folder))
    try:
        _build_aside(cache_dir, folder, identity, splits, tokenizer, size, progress)
    except OSError as error:
        raise UserError(
            f"La base de jetons ne s'écrit pas dans {cache_dir} ({error.strerror or error}) ; rien n'en est resté, "
            f"data.cache_dir=... en choisit un autre."
        ) from None
    return TokenStore.open(folder)


def is_unfinished(path: Path) -> bool:
    """Vrai d'une base inachevée, qu'une autre commande peut reprendre."""
    return (path / JOURNAL).is_file()


def _build_aside(
    cache_dir: Path,
    folder: Path,
    identity: JsonObject,
    splits: Splits,
    tokenizer: Tokenizer,
    size: int,
    progress: Progress,
) -> None:
    """Construit dans un dossier provisoire, puis renomme ; il ne reste de lui que de quoi reprendre, ou rien."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    scratch = durable.adopt(folder)
    durable.sweep(cache_dir, keep=is_unfinished)  # ce que des processus morts ont laissé
    if not is_unfinished(scratch):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
    resumable = False
    try:
        try:
            _build(scratch, identity, splits, tokenizer, size, progress)
        except Moved:  # une autre façon de lire le même texte l'avait commencée
            shutil.rmtree(scratch)
            scratch.mkdir()
            _build(scratch, identity, splits, tokenizer, size, progress)
        (scratch / JOURNAL).unlink(missing_ok=True)
        try:
            durable.sync(scratch)
            scratch.rename(folder)
        except OSError:
            if not folder.exists():  # un autre processus a fini le premier : sa base est la même
                raise
        durable.sync(cache_dir)
    except (KeyboardInterrupt, Interrupted):
        resumable = is_unfinished(scratch)
        raise
    finally:
        if not resumable:
            shutil.rmtree(scratch, ignore_errors=True)


def _build(
    folder: Path, identity: JsonObject, splits: Splits, tokenizer: Tokenizer, size: int, progress: Progress
) -> None:
    dtype = dtype_for(tokenizer.vocab_size)
    halves = _read_journal(folder, splits)
    before = sum(half.bytes for half in halves.values())
    if before:
        share = f" à {percent(before / size)}" if size else ""
        log.info(f"Base       : ce qui était encodé est repris{share}")
    for split, pieces in splits.items():
        half, others = halves[split], sum(halves[name].bytes for name in splits if name != split)
        if half.complete:
            continue
        for batch in _encode_half(folder, split, pieces, tokenizer, dtype, half):
            if batch % EVERY == 0:
                _write_journal(folder, halves)
            progress(others + half.bytes - before, size - before)
        half.complete = True
        if half.batches >= EVERY:  # un petit corpus se refait
            _write_journal(folder, halves)
    meta = {
        "version": VERSION,
        "dtype": dtype.name,
        "vocab_size": tokenizer.vocab_size,
        **identity,
        "splits": {split: {key: asdict(half)[key] for key in NOTED} for split, half in halves.items()},
    }
    with open(folder / "meta.json", "w", encoding="utf-8") as file:
        json.dump(meta, file, indent=1)
        _sync(file)


def _encode_half(
    folder: Path,
    split: str,
    pieces: Callable[[], Iterator[Piece]],
    tokenizer: Tokenizer,
    dtype: np.dtype,
    half: Half,
) -> Iterator[int]:
    """Encode et écrit une moitié à la suite de ce que `half` en dit ; donne le rang de chaque paquet, une fois écrit.

    Quand le journal va le noter, il est sur le disque : les fichiers y vont avant lui.
    """
    with _Writer(folder, split, dtype, half) as writer:
        for ids, starts in encode_pieces(pieces(), tokenizer, dtype, half):
            writer.write(ids, starts)
            if half.batches % EVERY == 0:
                writer.sync()
            yield half.batches
        writer.sync()


class _Writer:
    """Les fichiers d'une moitié : ses fragments l'un après l'autre, et le début de ses documents (int64)."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype, half: Half) -> None:
        self._folder, self._split, self._dtype, self._half = folder, split, dtype, half
        self._written = half.tokens - max(0, len(half.crc) - 1) * SHARD_TOKENS  # jetons du fragment ouvert
        self._starts = _open_at(folder / f"{split}_documents.bin", 8 * half.n_starts)
        self._shard: IO[bytes] | None = None
        if half.crc:
            self._shard = _open_at(_shard(folder, split, len(half.crc) - 1), self._written * dtype.itemsize)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *raised: object) -> None:
        self._starts.close()
        if self._shard is not None:
            self._shard.close()

    def write(self, ids: np.ndarray, starts: np.ndarray) -> None:
        """Écrit les jetons d'un paquet, et où ses documents commencent."""
        offsets = starts.astype(np.int64).tobytes()
        self._starts.write(offsets)
        self._half.documents_crc = zlib.crc32(offsets, self._half.documents_crc)
        while len(ids):
            if self._shard is None or self._written == SHARD_TOKENS:
                self._open_next()
            part = ids[: SHARD_TOKENS - self._written]
            data = part.tobytes()
            assert self._shard is not None  # _open_next l'ouvre
            self._shard.write(data)
            self._half.crc[-1] = zlib.crc32(data, self._half.crc[-1])
            self._written, ids = self._written + len(part), ids[len(part) :]

    def sync(self) -> None:
        """Attend que tout soit sur le disque."""
        _sync(self._starts)
        if self._shard is not None:
            _sync(self._shard)

    def _open_next(self) -> None:
        if self._shard is not None:
            _sync(self._shard)
            self._shard.close()
        self._half.crc.append(0)
        self._shard, self._written = (
            _open_at(_shard(self._folder, self._split, len(self._half.crc) - 1), 0),
            0,
        )


def _shard(folder: Path, split: str, rank: int) -> Path:
    return folder / f"{split}_{rank:05d}.bin"


def _open_at(path: Path, size: int) -> IO[bytes]:
    """Ouvre `path` pour écrire après ses `size` premiers octets ; les autres sont retirés."""
    file = open(path, "r+b" if size else "wb")  # noqa: SIM115
    file.truncate(size)
    file.seek(size)
    return file


def _sync(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_journal(folder: Path, halves: dict[str, Half]) -> None:
    state = {split: asdict(half) for split, half in halves.items()}
    durable.write_text(folder / JOURNAL, json.dumps(state))


def _read_journal(folder: Path, splits: Splits) -> dict[str, Half]:
    """Où en est cette base inachevée ; à zéro si elle ne l'est pas, ou si ses fichiers n'ont pas ce qu'elle en dit."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        state = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
        halves = {split: Half(**state[split]) for split in splits}
        if all(_has_its_files(folder, split, half) for split, half in halves.items()):
            return halves
    return {split: Half() for split in splits}


def _has_its_files(folder: Path, split: str, half: Half) -> bool:
    starts = folder / f"{split}_documents.bin"
    there = [_shard(folder, split, rank).exists() for rank in range(len(half.crc))]
    return not half.batches or (all(there) and starts.stat().st_size >= 8 * half.n_starts)
