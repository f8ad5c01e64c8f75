"""Écrire un corpus en fragments, que llm.c et modded-nanogpt lisent : `prepare format=bin to=dossier`."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gpt_lightning import durable
from gpt_lightning.data.encode import dtype_for
from gpt_lightning.data.shards.formats import HEADER, SUFFIX, write_header
from gpt_lightning.data.shards.module import TOKENIZER
from gpt_lightning.data.shards.opened import CHUNK
from gpt_lightning.data.windowed import WindowModule
from gpt_lightning.errors import UserError, whole

FIRST = {"val": 0, "train": 1}  # le rang du premier fragment, comme llm.c


def check_target(to: object, shard_tokens: object) -> Path:
    """Le dossier où écrire. UserError s'il manque, s'il a déjà des fragments, ou si leur longueur est impossible."""
    whole("shard_tokens", shard_tokens, 1, (1 << 31) - 1)
    if not isinstance(to, str) or not to:
        raise UserError("Il manque le dossier à écrire : to=mes_fragments.")
    if Path(to).is_file() or any(Path(to).glob(f"*{SUFFIX}")):
        raise UserError(f"{to} est pris : choisissez un autre dossier avec to=.")
    return Path(to)


def write_shards(
    data: WindowModule, to: Path, shard_tokens: int, progress: Callable[[int], None] = lambda tokens: None
) -> list[str]:
    """Écrit les deux moitiés de `data`, prêt, dans `to`, et le tokenizer à côté ; renvoie les noms des fragments.

    Chaque document suit une fin de texte, si le tokenizer en a une. UserError si le disque refuse ; rien n'en reste.
    """
    dtype = dtype_for(data.tokenizer.vocab_size)
    name = re.sub(r"[^\w-]+", "_", str(data.name)) or "corpus"
    names: list[str] = []
    with durable.filling(to) as beside:
        for split, first in FIRST.items():
            for rank, (count, chunks) in enumerate(_shards(data, split, shard_tokens), start=first):
                names.append(f"{name}_{split}_{rank:06d}{SUFFIX}")
                with open(beside / names[-1], "wb") as file:
                    write_header(file, count, dtype)
                    for chunk in chunks:
                        file.write(chunk.astype(dtype, copy=False).tobytes())
                        progress((file.tell() - HEADER) // dtype.itemsize)
        (beside / TOKENIZER).write_text(json.dumps(data.tokenizer.state()), encoding="utf-8")
    return names


def _shards(data: WindowModule, split: str, most: int) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """Combien de jetons a chaque fragment, et ces jetons par paquets."""
    tokens, eos_id = data.tokens(split), data.tokenizer.eos_id
    lead = [] if eos_id is None or tokens[0] == eos_id else [eos_id]
    total = len(lead) + len(tokens)

    def chunks(begin: int, end: int) -> Iterator[np.ndarray]:
        if lead and begin == 0:
            yield np.array(lead)
        for start in range(max(0, begin - len(lead)), end - len(lead), CHUNK):
            yield tokens[start : min(start + CHUNK, end - len(lead))]

    for begin in range(0, total, most):
        yield min(most, total - begin), chunks(begin, min(begin + most, total))
