"""Ce que tous les corpus de lignes (conversations, textes étiquetés) partagent : fichiers, moitiés, lots."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import lightning

from gpt_lightning.data.base import Served, Statistics, check_sizes
from gpt_lightning.data.classify.formats import LabelledText
from gpt_lightning.data.corpus import LICENCES
from gpt_lightning.data.instruct.formats import Conversation
from gpt_lightning.data.padded import AnswerDataset, AnswerOrder, Answers
from gpt_lightning.data.reading import Found, find_files
from gpt_lightning.data.split import fraction
from gpt_lightning.errors import Unfit, UserError, choice, whole
from gpt_lightning.tokenizers import Tokenizer, from_state
from gpt_lightning.typing import State
from gpt_lightning.wording import number

log = logging.getLogger("gpt_lightning")
Line = TypeVar("Line", Conversation, LabelledText)  # une ligne du corpus


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Les clés de `data` que tout corpus de lignes a ; conf/data/instruct.yaml et labels.yaml disent chacune."""

    tokenizer: Tokenizer | None
    source: str | None
    path: str | list[str] | None
    val_path: str | list[str] | None
    limit: int | None
    errors: str
    train_split: float
    max_length: int
    batch_size: int
    num_workers: int
    passes: int
    eval_batches: int | None
    seed: int
    accumulate: int
    progress: Callable[[int], None]


class RowsDataModule(Served, lightning.LightningDataModule, Generic[Line]):
    """Lit des lignes de fichiers, ou du dictionnaire, les partage entre deux moitiés, et les sert.

    `nouns` nomme une ligne, `suffixes` et `what` les fichiers ; `own` sont les sources qui ne lisent pas de fichier.
    """

    nouns = ("ligne", "lignes")
    suffixes: tuple[str, ...] = ()
    what = ""
    own: tuple[str, ...] = ()
    default: str
    path: str | list[str] | None
    val_path: str | list[str] | None
    errors: str
    limit: int | None

    def check(self, options: RowOptions) -> None:
        """Vérifie et garde les options de tout corpus. UserError si l'une ne va pas, seule ou avec une autre."""
        sizes = options.max_length, options.batch_size, options.num_workers, options.seed, options.passes
        check_sizes(*sizes, options.eval_batches, options.train_split)
        choice("data.source", options.source, (None, "files", *self.own))
        choice("data.errors", options.errors, ("strict", "skip"))
        if options.limit is not None:
            whole("data.limit", options.limit)
        self.source = options.source or ("files" if options.path else self.default)
        if self.source in self.own and options.path:
            raise UserError(
                f"data.source={self.source} ne lit pas de fichier : retirez data.path=, ou data.source=."
            )
        if options.tokenizer is not None:
            self.tokenizer = options.tokenizer
        self.path, self.val_path, self.limit, self.errors = (
            options.path,
            options.val_path,
            options.limit,
            options.errors,
        )
        self.train_split, self.max_length, self.seed = options.train_split, options.max_length, options.seed
        self.batch_size, self.num_workers = options.batch_size, options.num_workers
        self.accumulate, self.progress = options.accumulate, options.progress
        self.eval_batches, self._whole_validation = options.eval_batches, options.eval_batches is None
        self.store: dict[str, AnswerDataset] | None = None
        self.skipped: list[str] = []
        self.statistics: Statistics

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers laissés de côté, avec leur raison. UserError s'il n'y a rien à lire."""
        paths = [self.path] if self.source == "files" else []
        paths += [self.val_path] if self.val_path else []
        return [file for path in paths for file in self.files(path).left_out]

    def files(self, path: str | list[str] | None) -> Found:
        """Les fichiers que `path` désigne."""
        return find_files(path, suffixes=self.suffixes, what=self.what)

    def read(self, source: str, path: str | list[str] | None) -> Iterable[Line]:
        """Les lignes d'une source, chacune avec sa clé (`key`) : la même clé est toujours du même côté."""
        raise NotImplementedError

    def halves(self) -> dict[str, list[Line]]:
        """Les lignes des deux moitiés, train et val. UserError si l'une est vide."""
        self.skipped = []
        halves: dict[str, list[Line]] = {"train": list(self.read(self.source, self.path))}
        if self.val_path:
            halves["val"] = list(self.read("files", self.val_path))
        else:
            everything = halves["train"]
            halves = {"train": [], "val": []}
            for line in everything:
                halves["train" if fraction(line.key, "split") < self.train_split else "val"].append(line)
        if not any(halves.values()):
            raise UserError(f"Le corpus est vide : {self._no} {self.nouns[0]} à lire.")
        for split, lines in halves.items():
            if not lines:
                which = "d'entraînement" if split == "train" else "de validation"
                raise Unfit(
                    f"{self._no.capitalize()} {self.nouns[0]} {which} : donnez-en davantage, ou data.val_path=.",
                    f"il n'y a que {sum(map(len, halves.values()))} {self.nouns[1]}",
                    {}
                    if self.val_path
                    else _share_for(split, {line.key for part in halves.values() for line in part}),
                )
        return halves

    @property
    def _no(self) -> str:
        return "aucun" if self.nouns[0].startswith("texte") else "aucune"

    def say_skipped(self) -> None:
        """Dit combien de lignes sont laissées de côté, et la première."""
        if self.skipped:
            log.warning(_skip_notice(self.nouns, len(self.skipped), self.skipped[0]))

    def prepared_state(self) -> State:
        """Ce qu'il faut pour préparer les mêmes lignes dans un autre processus de cette machine."""
        return {"tokenizer": self.tokenizer.state()}

    def adopt(self, state: State, labels: Sequence[str] = ()) -> None:
        """Fait comme `prepare`, avec le tokenizer de l'autre processus."""
        self.prepare(from_state(state["tokenizer"]), labels)

    @property
    def name(self) -> str:  # type: ignore[override]
        first = self.path if isinstance(self.path, str) else self.path[0] if self.path else None
        return Path(first).stem if first else self.source

    @property
    def credit(self) -> str:
        """Le nom du corpus et, s'il en a une, la licence que doit garder qui diffuse un modèle entraîné sur lui."""
        return f"{self.name}, {LICENCES['wiktionnaire']}" if self.source in self.own else self.name

    def dataset(self, split: str) -> AnswerDataset:
        """Les lignes de `split` (train ou val)."""
        assert self.store is not None, "prepare() lit les lignes"
        return self.store[split]

    def batches(self, *splits: str) -> list[Answers]:
        """Tous les lots de ces moitiés, par longueur."""
        parts = [self.dataset(split) for split in splits]
        return [part.batch(rows) for part in parts for rows in self._batches(self._by_length(part))]

    def order(self, *, world_size: int = 1, rank: int = 0) -> AnswerOrder:
        """L'ordre des lots d'un processus. UserError si le corpus ne remplit pas un pas."""
        order = AnswerOrder(
            self.dataset("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            world_size=world_size,
            rank=rank,
            accumulate=self.accumulate,
        )
        if not len(order):
            fit = order.n_windows // (world_size * self.accumulate)
            raise Unfit(
                f"Il y a {order.n_windows} {self.nouns[1]} et un pas en lit {order.per_step} : essayez "
                f"data.batch_size={max(1, fit)}.",
                f"il n'y a que {order.n_windows} {self.nouns[1]}",
                {"data.batch_size": fit} if fit else {},
            )
        return order


def _share_for(empty: str, keys: set[str]) -> dict[str, float]:
    """La part d'entraînement qui laisse une de ces clés à la moitié `empty` ; {} si elles vont toutes ensemble."""
    places = sorted({fraction(key, "split") for key in keys})
    if len(places) < 2:
        return {}
    return {"data.train_split": places[-1] if empty == "val" else places[1]}


def _skip_notice(nouns: tuple[str, str], count: int, first: str) -> str:
    """La phrase qui compte les lignes laissées de côté."""
    feminine = "" if nouns[0].startswith("texte") else "e"
    plural = "s" * (count > 1)
    return (
        f"{number(count)} {nouns[count > 1]} laissé{feminine}{plural} de côté ; la première ligne : {first}"
    )
