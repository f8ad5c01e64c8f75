"""Le LightningDataModule d'un texte : il le lit, et en sert les fenêtres d'entraînement et de validation."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import lightning
import numpy as np

from gpt_lightning import durable
from gpt_lightning.data import corpus, encode, store
from gpt_lightning.data.base import Served, Statistics, check_sizes, opening
from gpt_lightning.data.loader import BatchOrder
from gpt_lightning.data.reading import TEXT_SUFFIXES, Piece
from gpt_lightning.data.split import split_by_characters, split_by_documents, split_by_hash
from gpt_lightning.data.windows import SlidingWindowDataset, choose_shift, short_documents
from gpt_lightning.errors import Unfit, UserError, choice
from gpt_lightning.tokenizers import END_OF_TEXT, Tokenizer, fingerprint, from_state
from gpt_lightning.tokenizers.base import LearningTokenizer
from gpt_lightning.typing import State
from gpt_lightning.wording import number

SPLITS = ("characters", "documents", "hash")


class SlidingWindowDataModule(Served, lightning.LightningDataModule):
    """Prépare le corpus une fois, puis sert ses fenêtres.

    `prepare()` lit le texte, apprend le vocabulaire si le tokenizer en a besoin (`self.tokenizer` est alors le
    nouveau), construit ou retrouve la base de jetons, et renvoie les `Statistics`.
    """

    task = "text"
    formats = True

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None,
        source: str = "files",
        path: str | list[str] | None = None,
        jsonl_key: str = "text",
        errors: str = "strict",
        max_expansion: float = 100,
        join_hyphens: bool = False,
        drop_running_heads: bool = False,
        deduplicate: bool = False,
        limit: int | str | None = None,
        url: str | None = None,
        sha256: str | None = None,
        split: str = "characters",
        train_split: float = 0.9,
        val_path: str | list[str] | None = None,
        cross_documents: bool = True,
        max_length: int = 128,
        stride: int | None = None,
        shift: bool | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        passes: int = 3,
        eval_batches: int | None = None,
        cache_dir: str | None = None,
        seed: int = 123,
        accumulate: int = 1,
        report: Callable[[str], None] = lambda folder: None,
        progress: Callable[[int], None] = lambda characters: None,
    ) -> None:
        super().__init__()
        check_sizes(max_length, batch_size, num_workers, seed, passes, eval_batches, train_split)
        choice("data.split", split, SPLITS)
        self.shift = choose_shift(shift, stride, max_length)
        self.cache_dir = Path(os.path.expanduser(cache_dir)) if cache_dir else durable.cache_folder()
        open_source = partial(corpus.Source, jsonl_key=jsonl_key, errors=errors, deduplicate=deduplicate)
        open_source = partial(open_source, max_expansion=max_expansion, join_hyphens=join_hyphens)
        open_source = partial(open_source, drop_running_heads=drop_running_heads, cache_dir=self.cache_dir)
        self.source = open_source(source=source, path=path, url=url, sha256=sha256, limit=limit)
        self.val_source = open_source(path=val_path) if val_path else None
        self.split, self.cross_documents = split, cross_documents
        self.sources = [self.source, *([self.val_source] if self.val_source else [])]
        if tokenizer is not None:  # sinon prepare() en reçoit un : les poids de départ ont le leur
            self.tokenizer = tokenizer
        self.report, self.progress = report, progress
        self.train_split, self.max_length, self.stride = train_split, max_length, stride or max_length
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed, self.accumulate = seed, accumulate
        self.eval_batches = eval_batches
        self.store: store.TokenStore | None = None
        self._whole_validation = eval_batches is None
        self.statistics: Statistics

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers du corpus laissés de côté, avec leur raison. UserError s'il n'y a rien à lire."""
        return [file for source in self.sources for file in source.find()]

    def prepare(self, tokenizer: Tokenizer | None = None, labels: Sequence[str] = ()) -> Statistics:
        """Lit le corpus et ouvre sa base ; `tokenizer`, s'il est donné, remplace celui de la construction.

        UserError si le texte est vide ou plus court qu'une fenêtre.
        """
        if tokenizer is not None:
            self.tokenizer = tokenizer
        documents, characters, digest = corpus.measure(self.source)
        if not characters:
            raise UserError(f"Le corpus est vide : aucun caractère à lire{self.source.why_empty}.")
        self.source.say_limit(documents)
        how: dict[str, object] = {"by": self.split}
        if self.val_source:
            val_documents, _, val_digest = corpus.measure(self.val_source)
            documents += val_documents
            how = {"by": "val_path", "val_sha256": val_digest}
            train, val = self.source.pieces, self.val_source.pieces
        elif self.split == "characters":
            at = how["at"] = int(self.train_split * characters)
            train, val = split_by_characters(self.source.pieces, at)
        elif self.split == "hash":
            how["share"] = self.train_split
            train, val = split_by_hash(self.source.pieces, self.train_split)
        else:
            at = how["at"] = int(self.train_split * documents)
            train, val = split_by_documents(self.source.pieces, at)
        self._fit(train, val)
        identity = {"source_sha256": digest, "tokenizer": fingerprint(self.tokenizer), "split": how}
        kind = self.tokenizer.state()["kind"]
        name = re.sub(r"[^\w-]+", "_", f"{self.name}-{kind}")[:60]
        self.store = encode.open_or_build(
            self.cache_dir,
            name,
            identity,
            {"train": train, "val": val},
            self.tokenizer,
            report=self.report,
            progress=self.progress,
        )
        self.statistics = self._statistics(documents)
        return self.statistics

    def continue_as_before(self) -> None:
        self.formats = False
        for source in self.sources:
            source.read_only(TEXT_SUFFIXES)

    def prepared_state(self) -> State:
        """Ce que `prepare` a trouvé, en valeurs simples : de quoi servir les mêmes fenêtres sans rien relire."""
        return {
            "folder": str(self._token_store.folder.absolute()),
            "tokenizer": self.tokenizer.state(),
            "documents": self.statistics.documents,
        }

    def adopt(self, state: State, labels: Sequence[str] = ()) -> None:
        """Fait comme `prepare`, d'après le `prepared_state` d'un autre processus de cette machine, sans rien relire."""
        self.tokenizer = from_state(state["tokenizer"])
        self.store = store.TokenStore.open(Path(state["folder"]))
        self.statistics = self._statistics(state["documents"])

    def _fit(self, train: Callable[[], Iterator[Piece]], val: Callable[[], Iterator[Piece]]) -> None:
        if isinstance(self.tokenizer, LearningTokenizer) and not self.tokenizer.vocab_size:
            pieces = chain(train(), val()) if self.tokenizer.fit_on == "all" else train()
            self.tokenizer = self.tokenizer.fit(piece.text for piece in pieces)

    @property
    def name(self) -> str:  # type: ignore[override]
        """Un nom court pour le corpus : celui de la source, ou du fichier."""
        path = self.source.path or self.source.url
        first = path if isinstance(path, str) else path[0] if path else None
        return Path(first).stem if first else self.source.source

    @property
    def credit(self) -> str:
        """Le nom du corpus et, s'il en a une, sa licence : qui diffuse un modèle entraîné sur lui doit la citer."""
        licence = corpus.LICENCES.get(self.source.source)
        return f"{self.name}, {licence}" if licence else self.name

    @property
    def summary(self) -> str:
        """Ce que le corpus contient, en une phrase."""
        short = sum(self.dataset(split).too_short for split in ("train", "val"))
        unread = short_documents(short, self.max_length) if short else ""
        return (
            f"Corpus     : {self.name}, {number(self.statistics.documents)} "
            f"document{'s' * (self.statistics.documents > 1)}, "
            f"{number(self.statistics.characters)} caractères\n"
            f"             entraînement {number(self.statistics.train_tokens)} jetons, "
            f"{number(self.statistics.train_windows)} fenêtres ; "
            f"validation {number(self.statistics.val_tokens)} jetons, "
            f"{number(self.statistics.val_windows)} fenêtres{unread}"
        )

    @property
    def bytes_per_target(self) -> float:
        """Octets de texte par jeton prédit, en validation."""
        return self.statistics.val_bytes / self.statistics.val_tokens

    @property
    def identity(self) -> str:
        """L'empreinte de ce qui est lu : les jetons des deux parts, leur tokenizer, leurs fenêtres."""
        windows = [self.max_length, self.stride, self.cross_documents, self.shift]
        content = [self._token_store.meta[key] for key in ("source_sha256", "tokenizer", "split")]
        description = json.dumps([content, windows], sort_keys=True)
        return hashlib.sha256(description.encode()).hexdigest()[:16]

    @property
    def _token_store(self) -> store.TokenStore:
        assert self.store is not None, "prepare() ouvre la base"
        return self.store

    def _statistics(self, documents: int) -> Statistics:
        splits = self._token_store.meta["splits"]
        windows = {split: len(self.dataset(split)) for split in splits}
        for split, count in windows.items():
            if count == 0:
                raise self._too_short(split)
        return Statistics(
            documents=documents,
            characters=sum(split["characters"] for split in splits.values()),
            train_tokens=self._token_store.n_tokens("train"),
            val_tokens=self._token_store.n_tokens("val"),
            train_windows=windows["train"],
            val_windows=windows["val"],
            val_bytes=splits["val"]["bytes"],
        )

    def _too_short(self, split: str) -> Unfit:
        """Ce qui est dit d'une moitié où aucune fenêtre ne tient, et la fenêtre qui y tiendrait."""
        longest, starts = self._token_store.n_tokens(split), self._token_store.documents(split)
        which, named = "d'entraînement" if split == "train" else "de validation", "texte"
        if not self.cross_documents and len(starts) > 1:
            named, longest = "plus long document", int(max(np.diff(starts, append=longest)))
        fit = {"data.max_length": longest // 2} if longest > 1 else {}
        advice = f"data.max_length={longest // 2}" if fit else "un texte plus long"
        return Unfit(
            f"Le {named} {which} n'a que {longest} jetons, moins qu'une fenêtre de {self.max_length} + 1 : "
            f"essayez {advice}.",
            f"le {named} {which} n'a que {longest} jetons",
            fit,
            {"data.train_split": 0.5} if split == "val" and self.val_source is None else {},
        )

    def dataset(self, split: str) -> SlidingWindowDataset:
        """Les fenêtres de `split` (train ou val)."""
        return SlidingWindowDataset(
            self._token_store.shards(split),
            max_length=self.max_length,
            stride=self.stride,
            dtype=self._token_store.dtype,
            documents=None if self.cross_documents else self._token_store.documents(split),
        )

    def tokens(self, *splits: str) -> store.Tokens:
        """Tous les jetons de ces parts (train, val), bout à bout ; seule la tranche demandée est lue."""
        paths = [path for split in splits for path in self._token_store.shards(split)]
        return store.Tokens(paths, self._token_store.dtype)

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

    def openings(self, count: int = 3) -> list[str]:
        """Les premiers mots de `count` documents de validation : de quoi faire écrire un modèle dans sa langue."""
        tokens, starts = self.tokens("val"), self._token_store.documents("val")[:count]
        texts = (self.tokenizer.decode(tokens[start : start + 48].tolist()) for start in starts)
        return [opening(text.replace(END_OF_TEXT, "\n")) for text in texts]
