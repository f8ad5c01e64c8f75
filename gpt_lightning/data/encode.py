"""Encoder un flux de morceaux : des jetons, paquet par paquet, sur autant de processus qu'il y a de cœurs."""

import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from threading import Thread

import numpy as np

from gpt_lightning.data.reading import BLOCK, Piece
from gpt_lightning.tokenizers import Tokenizer, from_state
from gpt_lightning.typing import State

PARALLEL_CHARACTERS = 8 * BLOCK  # en deçà, un seul processus encode
_tokenizer: Tokenizer  # celui d'un processus d'encodage, posé par _start


def dtype_for(vocab_size: int) -> np.dtype:
    """Le plus petit entier qui tient le vocabulaire : uint16 jusqu'à 65 536 identifiants, uint32 au-delà."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


@dataclass
class Counts:
    """Ce qui a été encodé d'un flux ; `begins` est vrai si le morceau suivant commence un document."""

    batches: int = 0
    tokens: int = 0
    documents: int = 0
    characters: int = 0
    bytes: int = 0
    begins: bool = True
    seen: int = 0  # l'empreinte des morceaux, textes et fins : une reprise vérifie que ce sont les mêmes

    @property
    def n_starts(self) -> int:
        """Les documents commencés."""
        return self.documents + (not self.begins)

    def add(self, pieces: Iterable[Piece], tokens: int) -> None:
        """Compte un paquet, et ses jetons."""
        self.batches, self.tokens = self.batches + 1, self.tokens + tokens
        for piece in pieces:
            self.documents += piece.last
            self.characters += len(piece.text)
            raw = piece.text.encode("utf-8", "surrogatepass")
            self.bytes += len(raw)
            self.seen = zlib.crc32(bytes([piece.last]), zlib.crc32(raw, self.seen))
            self.begins = piece.last


class Moved(Exception):
    """Le texte est le même, mais plus ses morceaux : ce qui est encodé ne se continue pas."""


def _after(batches: Iterator[list[Piece]], counts: Counts) -> Iterator[list[Piece]]:
    """Les paquets que `counts` n'a pas comptés. Moved si ceux qu'il a comptés ne sont plus les mêmes."""
    again = Counts()
    for batch in islice(batches, counts.batches):
        again.add(batch, 0)
    if again.seen != counts.seen:
        raise Moved
    return batches


def encode_pieces(
    pieces: Iterable[Piece], tokenizer: Tokenizer, dtype: np.dtype, counts: Counts
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Donne, par paquet de morceaux, les jetons (N,), et le rang, dans le flux, de ceux qui commencent un document.

    La fin de texte sépare les documents, rien ne suit le dernier. `counts` dit les paquets à passer, déjà encodés, et
    compte les autres quand ils sont donnés. Un gros corpus est encodé par plusieurs processus, un paquet à la fois
    chacun, dans l'ordre. Moved si les paquets à passer ne sont plus ceux que `counts` a comptés.
    """
    for ids, lengths, batch in _encode_batches(_after(_batches(pieces), counts), tokenizer):
        begins = np.flatnonzero([counts.begins, *(piece.last for piece in batch[:-1])])
        starts: np.ndarray = (np.cumsum(lengths) - lengths)[begins]
        if tokenizer.eos_id is not None:
            very_first = counts.batches == 0
            ids = np.insert(ids, starts[1:] if very_first else starts, tokenizer.eos_id)
            starts = starts + np.arange(len(starts)) + (0 if very_first else 1)
        starts = starts + counts.tokens
        counts.add(batch, len(ids))
        yield ids.astype(dtype, copy=False), starts


def _encode_batches(
    batches: Iterator[list[Piece]], tokenizer: Tokenizer
) -> Iterator[tuple[np.ndarray, list[int], list[Piece]]]:
    """Donne, par paquet, ses jetons, combien par morceau, et ses morceaux."""
    first, size = [], 0
    for batch in batches:
        first.append(batch)
        size += sum(len(piece.text) for piece in batch)
        if size >= PARALLEL_CHARACTERS:
            break
    workers = min(os.cpu_count() or 1, 8)
    if size < PARALLEL_CHARACTERS or workers == 1:  # un petit corpus ne paie pas le départ d'autres processus
        for batch in chain(first, batches):
            yield *encode_texts(tokenizer, [p.text for p in batch]), batch
        return
    context = get_context("spawn")  # sûr avec les fils de torch, et le même partout
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(tokenizer.state(),)) as pool:
        waiting: deque = deque()
        for batch in chain(first, batches):
            waiting.append((pool.submit(_encode, [p.text for p in batch]), batch))
            if len(waiting) > 2 * workers:  # borne la mémoire : on n'avance pas plus vite qu'on n'écrit
                future, done = waiting.popleft()
                yield *future.result(), done
        for future, done in waiting:
            yield *future.result(), done


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
    Thread(target=_die_with_parent, daemon=True).start()
    _tokenizer = from_state(state)


def _die_with_parent() -> None:
    """Finit ce processus quand celui qui l'a lancé est tué : il attendrait sinon du texte pour toujours."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(texts: list[str]) -> tuple[np.ndarray, list[int]]:
    return encode_texts(_tokenizer, texts)


def encode_texts(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, list[int]]:
    """Les identifiants des textes mis bout à bout, et combien chacun en a ; sans liste si le tokenizer sait."""
    fast = getattr(tokenizer, "encode_to_numpy", None)
    encode = fast or (lambda text: np.asarray(tokenizer.encode(text), dtype=np.uint32))
    arrays = [encode(text) for text in texts]
    dtype = dtype_for(tokenizer.vocab_size)  # le plus petit message
    return np.concatenate(arrays).astype(dtype), [len(array) for array in arrays]
