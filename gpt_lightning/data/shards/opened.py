"""Des fragments ouverts : projetés là où ils sont, jamais copiés, et lus seulement là où l'on en a besoin."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from gpt_lightning import durable
from gpt_lightning.data.store import Fragment, Tokens, check_ids
from gpt_lightning.tokenizers import Tokenizer, fingerprint

CHUNK = 1 << 22  # jetons lus à la fois
SAMPLE = 2048  # jetons lus d'un fragment à l'ouverture, à trois endroits
NEAR = 1 << 20  # jetons où l'on cherche les premiers documents


@dataclass(frozen=True)
class Shards:
    """Les fragments des deux moitiés ; `cache_dir` garde les débuts de documents, une fois trouvés."""

    halves: dict[str, list[Fragment]]
    tokenizer: Tokenizer
    cache_dir: Path = field(compare=False)

    def fragments(self, split: str) -> list[Fragment]:
        return self.halves[split]

    def n_tokens(self, split: str) -> int:
        return sum(fragment.length for fragment in self.halves[split])

    @cached_property
    def content(self) -> list[object]:
        """L'empreinte des longueurs et de trois endroits de chaque fragment, celle du tokenizer, et la coupe."""
        digest, lengths = hashlib.sha256(), []
        for split, fragments in self.halves.items():
            for fragment in fragments:
                for _, ids in samples(fragment):
                    digest.update(ids.astype(np.uint32).tobytes())
            lengths.append([split, [fragment.length for fragment in fragments]])
        return [digest.hexdigest(), fingerprint(self.tokenizer), lengths]

    def n_bytes(self, split: str) -> int:
        """Les octets du texte de ces jetons : la somme de ceux de chacun. Tous sont lus, une fois."""
        size = self.tokenizer.vocab_size
        lengths = np.array([len(self.tokenizer.token_bytes(index)) for index in range(size)], dtype=np.int64)
        if self.tokenizer.eos_id is not None:
            lengths[self.tokenizer.eos_id] = 0
        tokens = Tokens(self.halves[split], size)
        parts = (tokens[start : start + CHUNK] for start in range(0, len(tokens), CHUNK))
        return sum(int(lengths[part].sum()) for part in parts)

    def documents(self, split: str) -> np.ndarray:
        """Le premier jeton de chaque document : le suivant d'une fin de texte, qui le précède ou finit l'autre."""
        path = self.cache_dir / "documents" / f"{self._stamp(split)}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):
            starts = np.load(path, mmap_mode="r", allow_pickle=False)
            if starts.dtype == np.int64 and starts.ndim == 1:
                return starts
        ends = [np.zeros(0, np.int64), *document_ends(self.halves[split], self.tokenizer.eos_id)]
        starts = np.concatenate(ends)
        first = (
            [] if len(starts) and starts[0] == 1 else [0]
        )  # une fin de texte au début n'est pas un document
        starts = np.concatenate([np.array(first, np.int64), starts[starts < self.n_tokens(split)]])
        with contextlib.suppress(
            OSError, durable.WriteError
        ):  # un disque plein : ils seront cherchés de nouveau
            path.parent.mkdir(parents=True, exist_ok=True)
            with durable.replacing(path) as beside, open(beside, "wb") as file:
                np.save(file, starts)
        return starts

    def _stamp(self, split: str) -> str:
        """Le nom de ce que l'on garde : il change avec les fichiers, la coupe et la fin de texte."""
        described: list[object] = [self.tokenizer.eos_id]
        for fragment in self.halves[split]:
            stat = fragment.path.stat()
            where = [str(fragment.path.resolve()), stat.st_size, stat.st_mtime_ns]
            described += [*where, fragment.first, fragment.length]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]

    def first_documents(self, split: str, count: int) -> list[int]:
        """Où commencent les premiers documents, s'ils ne sont pas loin ; 0 sinon."""
        near, _ = cut(self.halves[split], NEAR)
        ends = np.concatenate([np.zeros(1, np.int64), *document_ends(near, self.tokenizer.eos_id)])
        return ends[ends < self.n_tokens(split)][:count].tolist()


def samples(fragment: Fragment) -> Iterator[tuple[int, np.ndarray]]:
    """Trois endroits d'un fragment : leur premier jeton, et les identifiants qui s'y suivent."""
    ids = fragment.map()
    for begin in (0, fragment.length // 2, fragment.length - SAMPLE):
        begin = max(0, begin)
        yield begin, ids[begin : begin + SAMPLE]


def check_samples(fragments: Sequence[Fragment], below: int) -> None:
    """UserError si un identifiant de ces trois endroits n'est pas sous `below`."""
    for fragment in fragments:
        for begin, ids in samples(fragment):
            check_ids(ids, below, fragment, begin)


def document_ends(fragments: Sequence[Fragment], eos_id: int | None) -> Iterator[np.ndarray]:
    """Le jeton qui suit chaque fin de texte, paquet par paquet : les fragments sont lus au fur et à mesure."""
    position = 0
    for fragment in fragments if eos_id is not None else ():
        ids = fragment.map()
        for begin in range(0, len(ids), CHUNK):
            yield np.flatnonzero(ids[begin : begin + CHUNK] == eos_id) + (position + begin + 1)
        position += len(ids)


def cut(fragments: Sequence[Fragment], at: int) -> tuple[list[Fragment], list[Fragment]]:
    """Les `at` premiers jetons, et les autres."""
    before, after = [], []
    for fragment in fragments:
        before.append(fragment.part(0, at))
        after.append(fragment.part(at, fragment.length))
        at -= fragment.length
    return [part for part in before if part.length], [part for part in after if part.length]
