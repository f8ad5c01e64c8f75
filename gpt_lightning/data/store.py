"""La base de jetons : des fragments d'entiers sur le disque, lus par projection en mémoire.

Un dossier par base, nommé d'après l'empreinte de ce qu'elle contient :

    <nom>-<empreinte>/train_00000.bin ... val_00000.bin ... meta.json

Elle est écrite dans un dossier provisoire puis renommée : une base visible est une base complète.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpt_lightning.data.corpus import Piece
from gpt_lightning.tokenizers import Tokenizer

VERSION = 1
SHARD_TOKENS = 1 << 28  # 512 Mo en uint16


@dataclass(frozen=True)
class TokenStore:
    """Une base ouverte : `meta` est lu, les jetons ne le sont qu'à l'usage. ValueError si elle est abîmée."""

    folder: Path
    meta: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            raise ValueError(
                f"{folder} n'est pas une base de jetons : meta.json manque ou est illisible."
            ) from None
        if meta.get("version") != VERSION:
            raise ValueError(f"{folder} : version {meta.get('version')} de la base, {VERSION} attendue.")
        store = cls(folder, meta)
        for split in ("train", "val"):
            for path, count in zip(store.shards(split), meta["splits"][split]["shards"], strict=True):
                size = path.stat().st_size if path.exists() else -1
                if size != count * store.dtype.itemsize:
                    raise ValueError(f"{path} est tronqué ou absent : effacez {folder}, il sera reconstruit.")
        return store

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.meta["dtype"])

    def shards(self, split: str) -> list[Path]:
        count = len(self.meta["splits"][split]["shards"])
        return [self.folder / f"{split}_{index:05d}.bin" for index in range(count)]

    def n_tokens(self, split: str) -> int:
        return sum(self.meta["splits"][split]["shards"])


def dtype_for(vocab_size: int) -> np.dtype:
    """Le plus petit entier qui tient le vocabulaire : uint16 jusqu'à 65 536 identifiants, uint32 au-delà."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def open_or_build(
    cache_dir: Path,
    name: str,
    identity: dict[str, Any],
    splits: dict[str, Callable[[], Iterator[Piece]]],
    tokenizer: Tokenizer,
    *,
    report: Callable[[str], None] = lambda message: None,
) -> TokenStore:
    """La base de `splits` encodés par `tokenizer` ; réutilisée si `identity` (valeurs simples) est la même.

    `report` reçoit une phrase quand une base est construite. OSError si le disque refuse l'écriture.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir / f"{name}-{key}"
    if folder.exists():
        return TokenStore.open(folder)
    cache_dir.mkdir(parents=True, exist_ok=True)
    report(str(folder))
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache_dir))
    try:
        _build(scratch, identity, splits, tokenizer)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.exists():  # un autre processus a fini le premier : sa base est la même
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return TokenStore.open(folder)


def _build(folder: Path, identity: dict, splits: dict[str, Callable], tokenizer: Tokenizer) -> None:
    dtype = dtype_for(tokenizer.vocab_size)
    meta = {
        "version": VERSION,
        "dtype": dtype.name,
        "vocab_size": tokenizer.vocab_size,
        **identity,
        "splits": {},
    }
    for split, pieces in splits.items():
        counts = {"documents": 0, "characters": 0}
        chunks = encode_pieces(_counted(pieces(), counts), tokenizer, dtype)
        counts["shards"] = _write_shards(folder, split, chunks)
        meta["splits"][split] = counts
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _counted(pieces: Iterable[Piece], counts: dict[str, int]) -> Iterator[Piece]:
    for piece in pieces:
        counts["documents"] += piece.last
        counts["characters"] += len(piece.text)
        yield piece


def encode_pieces(pieces: Iterable[Piece], tokenizer: Tokenizer, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Les jetons de chaque morceau ; la fin de texte sépare les documents (rien après le dernier)."""
    pending_end = False
    for text, last in pieces:
        ids = tokenizer.encode(text)
        if pending_end and tokenizer.eos_id is not None:
            ids = [tokenizer.eos_id, *ids]
        pending_end = last
        yield np.asarray(ids, dtype=dtype)


def _write_shards(folder: Path, split: str, chunks: Iterable[np.ndarray]) -> list[int]:
    counts: list[int] = []
    file = None
    try:
        for chunk in chunks:
            while len(chunk):
                if file is None or counts[-1] == SHARD_TOKENS:
                    if file is not None:
                        _close_synced(file)
                    file = open(folder / f"{split}_{len(counts):05d}.bin", "wb")  # noqa: SIM115
                    counts.append(0)
                part = chunk[: SHARD_TOKENS - counts[-1]]
                file.write(part.tobytes())
                counts[-1] += len(part)
                chunk = chunk[len(part) :]
    finally:
        if file is not None:
            _close_synced(file)
    return counts


def _close_synced(file) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
