"""Ce que tout module de données en fenêtres fait de ses jetons, qu'il les ait encodés ou trouvés tels quels."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import lightning
import numpy as np

from gpt_lightning import durable
from gpt_lightning.data import cache
from gpt_lightning.data.base import Served, Statistics, check_sizes, opening
from gpt_lightning.data.documents.register import Reading
from gpt_lightning.data.loader import BatchOrder
from gpt_lightning.data.store import Store, Tokens
from gpt_lightning.data.windows import SlidingWindowDataset, choose_shift, short_documents
from gpt_lightning.errors import Unfit
from gpt_lightning.tokenizers import END_OF_TEXT, Tokenizer
from gpt_lightning.wording import number

SPLITS = ("train", "val")
PART = 1 << 20  # jetons décodés à la fois


@dataclass(frozen=True)
class WindowOptions:
    """Les clés de `data` que tout corpus en fenêtres a ; conf/data/text.yaml et shards.yaml disent chacune."""

    tokenizer: Tokenizer | None
    cache_dir: str | None
    train_split: float
    cross_documents: bool
    max_length: int
    stride: int | None
    shift: bool | None
    batch_size: int
    num_workers: int
    passes: int
    eval_batches: int | None
    seed: int
    accumulate: int


class WindowModule(Served, lightning.LightningDataModule):
    """Sert les fenêtres des deux moitiés de `store`, que `prepare` ouvre.

    `below` est le nombre d'identifiants permis, si la base n'a pas été vérifiée.
    """

    task = "text"
    store: Store | None
    statistics: Statistics
    below: int | None = None
    apart: bool  # vrai si la validation est donnée à part

    def keep(self, options: WindowOptions) -> None:
        """Vérifie et garde ces options. UserError si l'une ne va pas, seule ou avec une autre."""
        sizes = options.max_length, options.batch_size, options.num_workers, options.seed, options.passes
        check_sizes(*sizes, options.eval_batches, options.train_split)
        self.shift = choose_shift(options.shift, options.stride, options.max_length)
        folder = options.cache_dir
        self.cache_dir = Path(os.path.expanduser(folder)) if folder else durable.cache_folder()
        if options.tokenizer is not None:  # sinon prepare() en reçoit un : les poids de départ ont le leur
            self.tokenizer = options.tokenizer
        self.train_split, self.cross_documents = options.train_split, options.cross_documents
        self.max_length, self.stride = options.max_length, options.stride or options.max_length
        self.batch_size, self.num_workers = options.batch_size, options.num_workers
        self.seed, self.accumulate = options.seed, options.accumulate
        self.eval_batches, self._whole_validation = options.eval_batches, options.eval_batches is None
        self.store = None

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Ce que `prepare` a lu de chaque fichier."""
        return {}

    @property
    def base(self) -> Store:
        assert self.store is not None, "prepare() ouvre la base"
        return self.store

    @property
    def credit(self) -> str:
        """Le nom du corpus et, s'il en a une, sa licence : qui diffuse un modèle entraîné sur lui doit la citer."""
        return str(self.name)

    @property
    def summary(self) -> str:
        """Ce que le corpus contient, en une phrase."""
        short = sum(self.dataset(split).too_short for split in SPLITS)
        unread = short_documents(short, self.max_length) if short else ""
        return (
            f"Corpus     : {self.name}, {self.reading}\n"
            f"             entraînement {number(self.statistics.train_tokens)} jetons, "
            f"{number(self.statistics.train_windows)} fenêtres ; "
            f"validation {number(self.statistics.val_tokens)} jetons, "
            f"{number(self.statistics.val_windows)} fenêtres{unread}"
        )

    @property
    def reading(self) -> str:
        """Ce qui a été lu, en quelques mots."""
        raise NotImplementedError

    @cached_property
    def bytes_per_target(self) -> float:
        """Octets de texte par jeton prédit, en validation."""
        return self.base.n_bytes("val") / self.base.n_tokens("val")

    @property
    def identity(self) -> str:
        """L'empreinte de ce qui est lu : les jetons des deux parts, leur tokenizer, leurs fenêtres."""
        return self.identity_of(self.base.content)

    def identity_of(self, content: list[object]) -> str:
        """La même, d'une base qui a ce contenu."""
        windows = [self.max_length, self.stride, self.cross_documents, self.shift]
        description = json.dumps([content, windows], sort_keys=True)
        return hashlib.sha256(description.encode()).hexdigest()[:16]

    @property
    def index_path(self) -> Path:
        return cache.index_path(self.cache_dir, str(self.name), self.identity)

    def documents(self, split: str) -> Iterator[Iterable[str]]:
        starts, tokens = self.base.documents(split).tolist() or [0], self.tokens(split)
        for begin, end in pairwise([*starts, len(tokens)]):
            yield self._parts(tokens, begin, end)

    def _parts(self, tokens: Tokens, begin: int, end: int) -> Iterator[str]:
        """Le texte de ces jetons, sans la fin de texte, jamais coupé au milieu d'un caractère."""
        start, eos = begin, self.tokenizer.eos_id

        def decode(first: int, last: int) -> str:
            return self.tokenizer.decode([index for index in tokens[first:last].tolist() if index != eos])

        while begin < end:
            stop = min(end, begin + PART)
            while stop < end and _continues(self.tokenizer.token_bytes(int(tokens[stop]))):
                stop += 1
            # avec le jeton d'avant, puis sans lui : ce qui les sépare n'est dans aucun des deux
            before = decode(begin - 1, begin) if begin > start else ""
            yield decode(begin - bool(before), stop).removeprefix(before)
            begin = stop

    def count(self, documents: int = 0, characters: int = 0) -> Statistics:
        """Ce que la base contient. Unfit si aucune fenêtre ne tient dans une moitié."""
        windows = {split: len(self.dataset(split)) for split in SPLITS}
        for split, n_windows in windows.items():
            if n_windows == 0:
                raise self._too_short(split)
        return Statistics(
            documents=documents,
            characters=characters,
            train_tokens=self.base.n_tokens("train"),
            val_tokens=self.base.n_tokens("val"),
            train_windows=windows["train"],
            val_windows=windows["val"],
        )

    def _too_short(self, split: str) -> Unfit:
        """Ce qui est dit d'une moitié où aucune fenêtre ne tient, et la fenêtre qui y tiendrait."""
        longest = self.base.n_tokens(split)
        starts = np.empty(0) if self.cross_documents else self.base.documents(split)
        which, named = "d'entraînement" if split == "train" else "de validation", "texte"
        if len(starts) > 1:
            named, longest = "plus long document", int(max(np.diff(starts, append=longest)))
        fit = {"data.max_length": longest // 2} if longest > 1 else {}
        advice = f"data.max_length={longest // 2}" if fit else "un texte plus long"
        return Unfit(
            f"Le {named} {which} n'a que {longest} jetons, moins qu'une fenêtre de {self.max_length} + 1 : "
            f"essayez {advice}.",
            f"le {named} {which} n'a que {longest} jetons",
            fit,
            {"data.train_split": 0.5} if split == "val" and not self.apart else {},
        )

    def dataset(self, split: str) -> SlidingWindowDataset:
        """Les fenêtres de `split` (train ou val)."""
        return SlidingWindowDataset(
            self.base.fragments(split),
            max_length=self.max_length,
            stride=self.stride,
            documents=None if self.cross_documents else self.base.documents(split),
            below=self.below,
        )

    def tokens(self, *splits: str) -> Tokens:
        """Tous les jetons de ces parts (train, val), bout à bout ; seule la tranche demandée est lue."""
        return Tokens([part for split in splits for part in self.base.fragments(split)], self.below)

    def order(self, *, world_size: int = 1, rank: int = 0) -> BatchOrder:
        """L'ordre des lots d'entraînement d'un processus. UserError si le corpus ne remplit pas un pas."""
        n_windows = len(self.dataset("train"))
        order = BatchOrder(
            n_windows,
            batch_size=self.batch_size,
            seed=self.seed,
            world_size=world_size,
            rank=rank,
            accumulate=self.accumulate,
            shift=self.stride if self.shift else 0,
            length=self.max_length,
        )
        if not len(order):
            per_step = self.batch_size * world_size * self.accumulate
            fit = n_windows // (world_size * self.accumulate)
            raise Unfit(
                f"Le corpus a {n_windows} fenêtres et un pas en lit {per_step} : essayez "
                f"data.batch_size={max(1, fit)} ou un pas plus court (data.stride).",
                f"le corpus n'a que {n_windows} fenêtres",
                {"data.batch_size": fit} if fit else {},
            )
        return order

    def first_documents(self, count: int) -> Sequence[int]:
        """Où commencent les `count` premiers documents de validation, en jetons."""
        return self.base.documents("val")[:count].tolist()

    def openings(self, count: int = 3) -> list[str]:
        """Les premiers mots de `count` documents de validation : de quoi faire écrire un modèle dans sa langue."""
        tokens, starts = self.tokens("val"), self.first_documents(count)
        texts = (self.tokenizer.decode(tokens[start : start + 48].tolist()) for start in starts)
        return [opening(text.replace(END_OF_TEXT, "\n")) for text in texts]


def _continues(token: bytes) -> bool:
    """Vrai si ces octets commencent au milieu d'un caractère UTF-8."""
    return bool(token) and token[0] & 0xC0 == 0x80
