"""Encoder un corpus : lire du texte et écrire une base de jetons, sur autant de processus qu'il y a de cœurs."""

import hashlib
import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import IO

import numpy as np

from gpt_lightning import durable
from gpt_lightning.data.reading import BLOCK, Piece
from gpt_lightning.data.store import SHARD_TOKENS, VERSION, TokenStore
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import Tokenizer, from_state
from gpt_lightning.typing import JsonObject, State

PARALLEL_CHARACTERS = 8 * BLOCK  # en deçà, un seul processus encode
_tokenizer: Tokenizer  # celui d'un processus d'encodage, posé par _start


def dtype_for(vocab_size: int) -> np.dtype:
    """Le plus petit entier qui tient le vocabulaire : uint16 jusqu'à 65 536 identifiants, uint32 au-delà."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def open_or_build(
    cache_dir: Path,
    name: str,
    identity: JsonObject,
    splits: dict[str, Callable[[], Iterator[Piece]]],
    tokenizer: Tokenizer,
    *,
    report: Callable[[str], None] = lambda folder: None,
    progress: Callable[[int], None] = lambda characters: None,
) -> TokenStore:
    """La base de `splits` encodés par `tokenizer` ; réutilisée si `identity` (valeurs simples) est la même.

    `report` reçoit le dossier d'une base à construire, `progress` les caractères déjà encodés. UserError si le
    disque refuse l'écriture ; il n'en reste alors rien.
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
        _build_aside(cache_dir, folder, identity, splits, tokenizer, progress)
    except OSError as error:
        raise UserError(
            f"La base de jetons ne s'écrit pas dans {cache_dir} ({error.strerror or error}) ; rien n'en est resté, "
            f"data.cache_dir=... en choisit un autre."
        ) from None
    return TokenStore.open(folder)


def _build_aside(
    cache_dir: Path,
    folder: Path,
    identity: JsonObject,
    splits: dict[str, Callable[[], Iterator[Piece]]],
    tokenizer: Tokenizer,
    progress: Callable[[int], None],
) -> None:
    """Construit dans un dossier provisoire, puis renomme ; le provisoire est effacé quoi qu'il arrive."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    durable.sweep(cache_dir)  # ce que des processus morts ont laissé
    scratch = durable.scratch(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _build(scratch, identity, splits, tokenizer, progress)
        try:
            durable.sync(scratch)
            scratch.rename(folder)
        except OSError:
            if not folder.exists():  # un autre processus a fini le premier : sa base est la même
                raise
        durable.sync(cache_dir)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build(
    folder: Path,
    identity: JsonObject,
    splits: dict[str, Callable[[], Iterator[Piece]]],
    tokenizer: Tokenizer,
    progress: Callable[[int], None],
) -> None:
    dtype = dtype_for(tokenizer.vocab_size)
    meta = {
        "version": VERSION,
        "dtype": dtype.name,
        "vocab_size": tokenizer.vocab_size,
        **identity,
        "splits": {},
    }
    for split, pieces in splits.items():
        counts: dict[str, int] = {"documents": 0, "characters": 0, "bytes": 0, "documents_crc": 0}
        with open(folder / f"{split}_documents.bin", "wb") as starts:
            encoded = encode_pieces(_count_pieces(pieces(), counts), tokenizer, dtype)
            checksums = _write_shards(folder, split, _note_starts(encoded, starts, counts, progress))
            _sync(starts)
        meta["splits"][split] = {**counts, "crc": checksums}
    with open(folder / "meta.json", "w", encoding="utf-8") as file:
        json.dump(meta, file, indent=1)
        _sync(file)


def _note_starts(
    encoded: Iterable[tuple[np.ndarray, np.ndarray]],
    starts: IO[bytes],
    counts: dict[str, int],
    progress: Callable[[int], None],
) -> Iterator[np.ndarray]:
    """Donne les jetons, et note au passage dans `starts` (int64) où chaque document commence."""
    position = 0
    for ids, begins in encoded:
        offsets = (position + begins).astype(np.int64).tobytes()
        starts.write(offsets)
        counts["documents_crc"] = zlib.crc32(offsets, counts["documents_crc"])
        position += len(ids)
        yield ids
        progress(counts["characters"])


def _count_pieces(pieces: Iterable[Piece], counts: dict[str, int]) -> Iterator[Piece]:
    for piece in pieces:
        counts["documents"] += piece.last
        counts["characters"] += len(piece.text)
        counts["bytes"] += len(piece.text.encode("utf-8", "surrogatepass"))
        yield piece


def encode_pieces(
    pieces: Iterable[Piece], tokenizer: Tokenizer, dtype: np.dtype
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Donne, par paquet de morceaux, les jetons (N,), et la position de ceux qui commencent un document.

    La fin de texte sépare les documents, rien ne suit le dernier. Un gros corpus est encodé par plusieurs
    processus, un paquet à la fois chacun, dans l'ordre.
    """
    very_first, begins_next = True, True
    for ids, lengths, lasts in _encode_batches(pieces, tokenizer):
        begins = np.flatnonzero([begins_next, *lasts[:-1]])
        begins_next = lasts[-1]
        starts: np.ndarray = (np.cumsum(lengths) - lengths)[begins]
        if tokenizer.eos_id is not None:
            after = starts[1:] if very_first and len(starts) else starts
            ids = np.insert(ids, after, tokenizer.eos_id)
            starts = starts + np.arange(len(starts)) + (0 if very_first else 1)
        very_first = False
        yield ids.astype(dtype, copy=False), starts


def _encode_batches(
    pieces: Iterable[Piece], tokenizer: Tokenizer
) -> Iterator[tuple[np.ndarray, list[int], list[bool]]]:
    """Donne, par paquet, ses jetons, combien par morceau, et lesquels finissent un document."""
    batches, first, size = _batches(pieces), [], 0
    for batch in batches:
        first.append(batch)
        size += sum(len(piece.text) for piece in batch)
        if size >= PARALLEL_CHARACTERS:
            break
    workers = min(os.cpu_count() or 1, 8)
    if size < PARALLEL_CHARACTERS or workers == 1:  # un petit corpus ne paie pas le départ d'autres processus
        for batch in chain(first, batches):
            yield *encode_texts(tokenizer, [p.text for p in batch]), [p.last for p in batch]
        return
    context = get_context("spawn")  # sûr avec les fils de torch, et le même partout
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(tokenizer.state(),)) as pool:
        waiting: deque = deque()
        for batch in chain(first, batches):
            waiting.append((pool.submit(_encode, [p.text for p in batch]), [p.last for p in batch]))
            if len(waiting) > 2 * workers:  # borne la mémoire : on n'avance pas plus vite qu'on n'écrit
                future, lasts = waiting.popleft()
                yield *future.result(), lasts
        for future, lasts in waiting:
            yield *future.result(), lasts


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Fait des paquets d'environ un mégaoctet : un document d'une ligne ne mérite pas un message à lui seul."""
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BLOCK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _start(state: State) -> None:
    global _tokenizer
    _tokenizer = from_state(state)


def _encode(texts: list[str]) -> tuple[np.ndarray, list[int]]:
    return encode_texts(_tokenizer, texts)


def encode_texts(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, list[int]]:
    """Les identifiants des textes mis bout à bout, et combien chacun en a ; sans liste si le tokenizer sait."""
    fast = getattr(tokenizer, "encode_to_numpy", None)
    encode = fast or (lambda text: np.asarray(tokenizer.encode(text), dtype=np.uint32))
    arrays = [encode(text) for text in texts]
    dtype = dtype_for(tokenizer.vocab_size)  # le plus petit message
    return np.concatenate(arrays).astype(dtype), [len(array) for array in arrays]


def _write_shards(folder: Path, split: str, chunks: Iterable[np.ndarray]) -> list[int]:
    """Écrit les jetons par fragments ; renvoie le CRC-32 de chacun."""
    checksums: list[int] = []
    written = 0  # jetons du fragment ouvert
    file = None
    try:
        for chunk in chunks:
            while len(chunk):
                if file is None or written == SHARD_TOKENS:
                    if file is not None:
                        _sync_and_close(file)
                    file = open(folder / f"{split}_{len(checksums):05d}.bin", "wb")  # noqa: SIM115
                    checksums.append(0)
                    written = 0
                part = chunk[: SHARD_TOKENS - written].tobytes()
                file.write(part)
                checksums[-1] = zlib.crc32(part, checksums[-1])
                written += min(len(chunk), SHARD_TOKENS - written)
                chunk = chunk[len(part) // chunk.itemsize :]
        if file is not None:
            _sync(file)
    finally:
        if file is not None:
            file.close()
    return checksums


def _sync_and_close(file: IO[bytes]) -> None:
    _sync(file)
    file.close()


def _sync(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
