"""Ce que tous les corpus de lignes (conversations, textes étiquetés) partagent : fichiers, moitiés, lots."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import lightning

from gpt_lightning import durable
from gpt_lightning.data import cache
from gpt_lightning.data.base import Served, Statistics, check_sizes
from gpt_lightning.data.classify.formats import LabelledText
from gpt_lightning.data.corpus import LICENCES
from gpt_lightning.data.instruct.formats import Conversation
from gpt_lightning.data.limit import say_part
from gpt_lightning.data.padded import AnswerDataset, AnswerLoader, AnswerOrder, Answers
from gpt_lightning.data.reading import Found, find_files, say_read_twice, two_halves
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
    limit: int | str | None
    errors: str
    train_split: float
    max_length: int
    batch_size: int
    num_workers: int
    passes: int
    eval_batches: int | None
    seed: int
    accumulate: int
    progress: Callable[[int, int], None]


class RowsDataModule(Served, lightning.LightningDataModule, Generic[Line]):
    """Lit des lignes de fichiers, ou du dictionnaire, les partage entre deux moitiés, et les sert.

    `nouns` nomme une ligne, `suffixes` et `what` les fichiers ; `own` sont les sources qui ne lisent pas de fichier.
    """

    nouns = ("ligne", "lignes")
    suffixes: tuple[str, ...] = ()
    what = ""
    own: tuple[str, ...] = ()
    default: str
    few: int  # lignes d'une source qui ne lit pas de fichier, si data.limit est auto
    alike = ""  # ce que font des lignes de même clé
    drew_before = False  # vrai si data.limit tirait déjà ses lignes, et n'en gardait pas les premières
    loader, partial = AnswerLoader, True
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
        self.source = options.source or ("files" if options.path else self.default)
        if self.source in self.own and options.path:
            raise UserError(
                f"data.source={self.source} ne lit pas de fichier : retirez data.path=, ou data.source=."
            )
        if options.tokenizer is not None:
            self.tokenizer = options.tokenizer
        self.path, self.val_path, self.errors = options.path, options.val_path, options.errors
        self.limit = self._most(options.limit)
        self.train_split, self.max_length, self.seed = options.train_split, options.max_length, options.seed
        self.batch_size, self.num_workers = options.batch_size, options.num_workers
        self.accumulate, self.progress = options.accumulate, options.progress
        self.eval_batches, self._whole_validation = options.eval_batches, options.eval_batches is None
        self.store: dict[str, AnswerDataset] | None = None
        self.skipped: list[str] = []
        self.statistics: Statistics

    def continue_as_before(self) -> None:
        self.partial = False

    @property
    def index_path(self) -> Path:
        return cache.index_path(durable.cache_folder(), self.name, self.identity)

    def _most(self, limit: int | str | None) -> int | None:
        """Ce que `data.limit` laisse lire ; auto : une part d'un corpus intégré, et ses propres fichiers en entier."""
        if limit == "auto":
            return None if self.source == "files" else self.few
        if limit is None:
            return None
        if isinstance(limit, str):
            raise UserError(
                f"data.limit={limit} : il faut un nombre de {self.nouns[1]}, null (tout) ou auto."
            )
        return whole("data.limit", limit)

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers laissés de côté, avec leur raison. UserError s'il n'y a rien à lire."""
        paths = [self.path] if self.source == "files" else []
        paths += [self.val_path] if self.val_path else []
        return [file for path in paths for file in self.files(path).left_out]

    def files(self, path: str | list[str] | None) -> Found:
        """Les fichiers que `path` désigne. UserError si c'est un dossier qui a déjà ses deux moitiés."""
        there = find_files(path, suffixes=self.suffixes, what=self.what)
        if isinstance(path, str) and self.partial:
            _refuse_two_halves(path, there.files)
        return there

    def read(self, source: str, path: str | list[str] | None) -> Iterable[Line]:
        """Les lignes d'une source, chacune avec sa clé (`key`) : la même clé est toujours du même côté."""
        raise NotImplementedError

    def halves(self) -> dict[str, list[Line]]:
        """Les lignes des deux moitiés, train et val. UserError si l'une est vide.

        `data.limit` compte celles de data.path, et ne coupe pas une validation à part.
        """
        self.skipped = []
        lines = list(self.read(self.source, self.path))
        if self.source == "files":
            lines = self._draw(lines)
        halves: dict[str, list[Line]] = {"train": lines, "val": []}
        if self.val_path:
            if self.source == "files":
                say_read_twice(self.files(self.path).files, self.files(self.val_path).files)
            apart = list(self.read("files", self.val_path))
            halves["val"] = apart if self.partial else self._draw(apart)
        else:
            halves["train"] = []
            for line in lines:
                halves["train" if fraction(line.key, "split") < self.train_split else "val"].append(line)
        for split in halves:
            if not halves[split]:
                share = {} if self.val_path else _share_for(split, {line.key for line in lines})
                count = f"il n'y a que {number(len(lines))} {self.nouns[1]}"
                raise Unfit(self._why_empty(split, lines), count, share)
        return halves

    def _draw(self, lines: list[Line]) -> list[Line]:
        """Les lignes que `data.limit` garde, tirées parmi toutes : un fichier est souvent trié."""
        if self.limit is None or len(lines) <= self.limit:
            return lines
        there = f"{number(len(lines))}, tiré{self._e}s au sort"
        say_part(f"{number(self.limit)} {self.nouns[1]}", there, self.limit)
        if self.partial or self.drew_before:
            lines = sorted(lines, key=lambda line: fraction(line.key, "order"))
        return lines[: self.limit]

    def _why_empty(self, split: str, lines: Sequence[Line]) -> str:
        """La phrase d'une moitié vide, et ce qui l'aiderait ; `lines` sont les lignes de data.path."""
        noun, nouns = self.nouns
        skipped = f" ; la première ligne laissée de côté : {self.skipped[0]}" if self.skipped else ""
        if not lines:
            return f"Le corpus est vide : {self._no} {noun} à lire{skipped}."
        which = "d'entraînement" if split == "train" else "de validation"
        nothing = f"{self._no.capitalize()} {noun} {which}"
        if self.val_path:
            return f"{nothing} : data.val_path= n'en contient pas{skipped}."
        different = len({line.key for line in lines})
        if self.source == "files" and different == 1 < len(lines):
            return (
                f"{nothing} : les {number(len(lines))} {nouns} {self.alike}, et vont donc du même côté ; donnez une "
                f"validation à part, data.val_path=."
            )
        more = (
            f"donnez-en davantage, différent{self._e}s" if different < len(lines) else "donnez-en davantage"
        )
        return f"{nothing} : {more}, ou data.val_path=."

    @property
    def _e(self) -> str:
        return "" if self.nouns[0].startswith("texte") else "e"

    @property
    def _no(self) -> str:
        return f"aucun{self._e}"

    def say_skipped(self) -> None:
        """Dit combien de lignes sont laissées de côté, et la première."""
        if self.skipped:
            plural = "s" * (len(self.skipped) > 1)
            log.warning(
                f"{number(len(self.skipped))} {self.nouns[bool(plural)]} laissé{self._e}{plural} de côté ; "
                f"la première ligne : {self.skipped[0]}"
            )

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
        """L'ordre des lots d'un processus : chaque ligne une fois par passage."""
        order = AnswerOrder(
            self.dataset("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            world_size=world_size,
            rank=rank,
            accumulate=self.accumulate,
            partial=self.partial,
        )
        if not len(order):  # une exécution d'avant, dont les pas sont entiers
            fit = order.n_windows // (world_size * self.accumulate)
            raise Unfit(
                f"Il y a {order.n_windows} {self.nouns[1]} et un pas en lit {order.per_step} : essayez "
                f"data.batch_size={max(1, fit)}.",
                f"il n'y a que {order.n_windows} {self.nouns[1]}",
                {"data.batch_size": fit} if fit else {},
            )
        return order


def _refuse_two_halves(path: str, files: Sequence[Path]) -> None:
    """UserError si un dossier, ou un motif, a ses fichiers d'entraînement et de validation : tout lire les mêlerait."""
    if halves := two_halves(path, files, named=lambda file: file.suffix.lower() != ".txt"):
        training, apart = halves
        raise UserError(
            f"{path} contient {Path(training).name} et {Path(apart).name} : donnez data.path={training} et "
            f"data.val_path={apart}, ou la liste data.path=[{training},{apart}] pour les mêler."
        )


def _share_for(empty: str, keys: set[str]) -> dict[str, float]:
    """La part d'entraînement qui laisse une de ces clés à la moitié `empty` ; {} si elles vont toutes ensemble."""
    places = sorted({fraction(key, "split") for key in keys})
    if len(places) < 2:
        return {}
    return {"data.train_split": places[-1] if empty == "val" else places[1]}
