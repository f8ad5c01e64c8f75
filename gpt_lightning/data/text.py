"""Le LightningDataModule d'un texte : il le lit, et en sert les fenêtres d'entraînement et de validation."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from gpt_lightning.data import build
from gpt_lightning.data.base import Statistics
from gpt_lightning.data.corpus import LICENCES, Source
from gpt_lightning.data.documents.register import Reading
from gpt_lightning.data.measure import Progress, measure
from gpt_lightning.data.reading import TEXT_SUFFIXES, Piece, find_files, say_read_twice
from gpt_lightning.data.split import split_by_characters, split_by_documents, split_by_hash
from gpt_lightning.data.store import META, TokenStore, content_of, read_meta
from gpt_lightning.data.windowed import WindowModule, WindowOptions
from gpt_lightning.errors import UserError, choice
from gpt_lightning.tokenizers import Tokenizer, fingerprint, from_state
from gpt_lightning.tokenizers.base import LearningTokenizer
from gpt_lightning.typing import State
from gpt_lightning.wording import number

Pieces: TypeAlias = Callable[[], Iterator[Piece]]
SPLITS = ("characters", "documents", "hash")


class TextModule(WindowModule):
    """Prépare un corpus de texte une fois, puis sert ses fenêtres.

    `prepare()` lit le texte, apprend le vocabulaire si le tokenizer en a besoin (`self.tokenizer` est alors le
    nouveau), construit ou retrouve la base de jetons, et renvoie les `Statistics`.
    """

    formats = True
    report: Callable[[str], None]
    progress: Progress
    _named: Iterator[str] | None = None  # le nom de chaque document d'entraînement, lu à mesure
    _names: list[str]

    def read_from(self, source: Source, val_source: Source | None, cut: str) -> None:
        """Lira `source`, et `val_source` pour la validation ; sans elle, `cut` dit où couper."""
        self.source, self.val_source, self.cut = source, val_source, cut
        self.apart = val_source is not None
        self.sources = [source, *([val_source] if val_source else [])]

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers du corpus laissés de côté, avec leur raison. UserError s'il n'y a rien à lire."""
        return [file for source in self.sources for file in source.find()]

    def prepare(self, tokenizer: Tokenizer | None = None, labels: Sequence[str] = ()) -> Statistics:
        """Lit le corpus et ouvre sa base ; `tokenizer`, s'il est donné, remplace celui de la construction.

        UserError si le texte est vide ou plus court qu'une fenêtre.
        """
        if tokenizer is not None:
            self.tokenizer = tokenizer
        documents, characters, size, digest = measure(self.source, self.progress)
        if not characters:
            raise UserError(f"Le corpus est vide : aucun caractère à lire{self.source.why_empty}.")
        self.source.say_limit(documents)
        how: dict[str, object] = {"by": self.cut}
        if self.val_source:
            both = [self.source, self.val_source]
            if all(source.source == "files" for source in both):
                say_read_twice(*(find_files(each.path, suffixes=each.suffixes).files for each in both))
            val_documents, _, val_size, val_digest = measure(self.val_source, self.progress)
            documents, size = documents + val_documents, size + val_size
            how = {"by": "val_path", "val_sha256": val_digest}
        elif self.cut == "hash":
            how["share"] = self.train_split
        else:
            how["at"] = int(self.train_split * (characters if self.cut == "characters" else documents))
        train, val = self._halves(how)
        self._fit(train, val)
        identity = {"source_sha256": digest, "tokenizer": fingerprint(self.tokenizer), "split": how}
        kind = self.tokenizer.state()["kind"]
        name = re.sub(r"[^\w-]+", "_", f"{self.name}-{kind}")[:60]
        base = build.open_or_build(
            self.cache_dir,
            name,
            identity,
            {"train": train, "val": val},
            self.tokenizer,
            report=self.report,
            size=size,
            progress=self.progress,
        )
        return self._serve(base, documents)

    def adopt_base(self, identity: str, tokenizer: Tokenizer) -> bool:
        """Sert la base de cette identité, si le cache l'a encore, sans relire ses sources ; faux s'il ne l'a pas."""
        folders = self.cache_dir.iterdir() if self.cache_dir.is_dir() else ()
        for folder in sorted(folder for folder in folders if (folder / META).is_file()):
            with contextlib.suppress(UserError):  # une autre version, ou abîmée
                if self.identity_of(content_of(read_meta(folder))) == identity:
                    self.tokenizer = tokenizer
                    self._serve(TokenStore.open(folder), 0)
                    return True
        return False

    def _halves(self, how: Mapping[str, Any]) -> tuple[Pieces, Pieces]:
        """Les deux moitiés, coupées comme meta.json le dit (`split`)."""
        if self.val_source:
            return self.source.pieces, self.val_source.pieces
        if how["by"] == "hash":
            return split_by_hash(self.source.pieces, how["share"])
        cut = split_by_characters if how["by"] == "characters" else split_by_documents
        return cut(self.source.pieces, how["at"])

    def names(self, ranks: Iterable[int]) -> Mapping[int, str]:
        wanted = set(ranks)
        if self._named is None:
            self._names, self._named = [], self._read_names()
        with contextlib.suppress(UserError, OSError):  # les sources ne sont plus là
            while (
                len(self._names) <= max(wanted, default=-1) and (name := next(self._named, None)) is not None
            ):
                self._names.append(name)
        return {rank: self._names[rank] for rank in wanted if rank < len(self._names) and self._names[rank]}

    def _read_names(self) -> Iterator[str]:
        """Le nom de chaque document d'entraînement, ou rien si les sources ne sont plus celles de la base."""
        meta = self._base.meta
        if measure(self.source).digest == meta["source_sha256"]:
            train, _ = self._halves(meta["split"])
            yield from (piece.key for piece in train() if piece.last)

    @property
    def index_path(self) -> Path:
        return self._base.folder / "train_suffixes.bin"

    def _serve(self, base: TokenStore, documents: int) -> Statistics:
        """Sert cette base, qui vient de `documents` documents."""
        self.store = self._base = base
        characters = sum(half["characters"] for half in base.meta["splits"].values())
        self.statistics = self.count(documents, characters)
        return self.statistics

    def continue_as_before(self) -> None:
        self.formats = False
        for source in self.sources:
            source.read_only(TEXT_SUFFIXES)

    def prepared_state(self) -> State:
        """Ce que `prepare` a trouvé, en valeurs simples : de quoi servir les mêmes fenêtres sans rien relire."""
        return {
            "folder": str(self._base.folder.absolute()),
            "tokenizer": self.tokenizer.state(),
            "documents": self.statistics.documents,
        }

    def adopt(self, state: State, labels: Sequence[str] = ()) -> None:
        """Fait comme `prepare`, d'après le `prepared_state` d'un autre processus de cette machine, sans rien relire."""
        self.tokenizer = from_state(state["tokenizer"])
        self._serve(TokenStore.open(Path(state["folder"])), state["documents"])

    def _fit(self, train: Callable[[], Iterator[Piece]], val: Callable[[], Iterator[Piece]]) -> None:
        if isinstance(self.tokenizer, LearningTokenizer) and not self.tokenizer.vocab_size:
            pieces = chain(train(), val()) if self.tokenizer.fit_on == "all" else train()
            self.tokenizer = self.tokenizer.fit(piece.text for piece in pieces)

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Ce que `prepare` a lu de chaque fichier."""
        return {
            where: reading for source in self.sources for where, reading in source.register.settled.items()
        }

    @property
    def name(self) -> str:  # type: ignore[override]
        """Un nom court pour le corpus : celui de la source, ou du fichier."""
        path = self.source.path or self.source.url
        if self.source.dataset is not None:
            path = self.source.dataset.name
        first = path if isinstance(path, str) else path[0] if path else None
        return Path(first).stem if first else self.source.source

    @property
    def credit(self) -> str:
        """Le nom du corpus et, s'il en a une, sa licence : qui diffuse un modèle entraîné sur lui doit la citer."""
        licence = LICENCES.get(self.source.source)
        return f"{self.name}, {licence}" if licence else self.name

    @property
    def reading(self) -> str:
        documents, characters = self.statistics.documents, self.statistics.characters
        counted = f"{number(documents)} document{'s' * (documents > 1)}, {number(characters)} caractères"
        return counted + self.source.origin


class SlidingWindowDataModule(TextModule):
    """Le texte de fichiers, d'un paquet ou d'une adresse, en fenêtres."""

    task = "text"
    formats = True

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None,
        source: str = "files",
        path: str | list[str] | None = None,
        text_key: str | None = None,
        jsonl_key: str | None = None,
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
        progress: Progress = lambda done, total: None,
    ) -> None:
        super().__init__()
        choice("data.split", split, SPLITS)
        reading = (batch_size, num_workers, passes, eval_batches, seed, accumulate)
        self.keep(
            WindowOptions(
                tokenizer, cache_dir, train_split, cross_documents, max_length, stride, shift, *reading
            )
        )
        open_source = partial(
            Source,
            text_key=text_key or jsonl_key or "text",
            errors=errors,
            max_expansion=max_expansion,
            join_hyphens=join_hyphens,
            drop_running_heads=drop_running_heads,
            deduplicate=deduplicate,
            cache_dir=self.cache_dir,
        )
        self.report, self.progress = report, progress
        apart = "parquet" if source == "parquet" else "files"
        self.read_from(
            open_source(source=source, path=path, url=url, sha256=sha256, limit=limit),
            open_source(source=apart, path=val_path) if val_path else None,
            split,
        )
