"""Ce que tout module de données a : ses nombres, ses lots, et ceux d'une évaluation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpt_lightning.data.loader import Batches, BatchOrder, TrainLoader, ValidationBatches, WindowLoader
from gpt_lightning.data.tracing.corpus import Traced, open_index
from gpt_lightning.errors import UserError, whole
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.typing import State

if TYPE_CHECKING:
    import lightning

    from gpt_lightning.tokenizers.template import Template


@dataclass(frozen=True)
class Statistics:
    """Ce que le corpus contient : pour chaque moitié, jetons et fenêtres ; 0 document : ils ne sont pas comptés."""

    documents: int
    characters: int
    train_tokens: int
    val_tokens: int
    train_windows: int
    val_windows: int


def check_sizes(
    max_length: object,
    batch_size: object,
    num_workers: object,
    seed: object,
    passes: object,
    eval_batches: object,
    train_split: object,
) -> None:
    """Vérifie les nombres de `data`. UserError si l'un n'en est pas un, ou sort de ses bornes."""
    for name, value, least in (
        ("max_length", max_length, 1),
        ("batch_size", batch_size, 1),
        ("num_workers", num_workers, 0),
        ("seed", seed, 0),
        ("passes", passes, 1),
    ):
        whole(f"data.{name}", value, least)
    if eval_batches is not None:
        whole("data.eval_batches", eval_batches)
    if not isinstance(train_split, float) or not 0 < train_split < 1:
        raise UserError(f"data.train_split={train_split!r} : il faut une fraction entre 0 et 1, comme 0.9.")


class Served:
    """Un module de données qui sert deux moitiés : les lots d'entraînement, et ceux d'une évaluation.

    Une évaluation lit toute la validation, ou quelques lots jusqu'à la dernière ; les lignes de longueurs voisines
    (`lengths`, si le jeu de données en a) y sont dans le même lot.
    """

    loader = TrainLoader
    tokenizer: Tokenizer  # celui de la construction, ou celui que prepare() reçoit
    store: object  # ce que prepare() ouvre ; None avant
    eval_batches: int | None
    batch_size: int
    num_workers: int
    trainer: "lightning.Trainer | None"
    _whole_validation: bool
    template: "Template | None" = None  # celui de conversations
    labels: tuple[str, ...] = ()  # celles de textes étiquetés
    since: tuple[str, ...] = ()  # les clés du corpus que la version 0.1 ne lisait pas
    partial = False  # vrai si le dernier pas d'un passage lit ce qui reste, moins de lignes qu'un pas
    formats = False  # vrai si un dossier de texte est lu dans tous ses formats

    def prepare(self, tokenizer: Tokenizer | None = None, labels: Sequence[str] = ()) -> Statistics:
        """Lit et encode le corpus ; `tokenizer` et `labels`, s'ils sont donnés, sont ceux des poids de départ."""
        raise NotImplementedError

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers du corpus laissés de côté, avec leur raison. UserError s'il n'y a rien à lire."""
        raise NotImplementedError

    def prepared_state(self) -> State:
        """Ce que `prepare` a trouvé, en valeurs simples : de quoi servir la même chose dans un autre processus."""
        raise NotImplementedError

    def adopt(self, state: State, labels: Sequence[str] = ()) -> None:
        """Fait comme `prepare`, d'après le `prepared_state` d'un autre processus de cette machine."""
        raise NotImplementedError

    def continue_as_before(self) -> None:
        """Lit, et range en pas, comme la version qui a commencé l'exécution que l'on reprend. Avant `prepare`."""

    def documents(self, split: str) -> Iterator[Iterable[str]]:
        """Les textes de cette moitié que le modèle lit, chacun en parties ; après `prepare`."""
        raise NotImplementedError

    def names(self, ranks: Iterable[int]) -> Mapping[int, str]:
        """Le nom des documents d'entraînement de ces rangs, de ceux qui en ont un."""
        return {}

    @property
    def identity(self) -> str:
        """L'empreinte de ce qui est lu."""
        raise NotImplementedError

    @property
    def index_path(self) -> Path:
        """Le fichier de l'index de suffixes de l'entraînement."""
        raise NotImplementedError

    def open_index(
        self, progress: Callable[[int, int], None] = lambda done, total: None, *, build: bool = True
    ) -> Traced | None:
        """L'index de suffixes de l'entraînement, construit s'il n'existe pas ; sans `build`, None.

        `progress` reçoit les suffixes triés. UserError s'il est abîmé, ou si le disque le refuse.
        """
        return open_index(self, progress, build=build)

    def dataset(self, split: str) -> Batches:
        raise NotImplementedError

    def order(self, *, world_size: int = 1, rank: int = 0) -> BatchOrder:
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if self.store is None:
            self.prepare()

    def train_dataloader(self) -> TrainLoader:
        rank, world_size = self._rank_and_world()
        order = self.order(world_size=world_size, rank=rank)
        return self.loader(self.dataset("train"), order, num_workers=self.num_workers, pin=self._pin())

    def val_dataloader(self) -> WindowLoader:
        """Les fenêtres de validation, partagées entre les processus, la dernière part plus courte.

        Chacune une fois ; ou seulement `eval_batches` lots par processus, répartis également, jusqu'à
        `read_whole_validation`.
        """
        dataset, (rank, world_size) = self.dataset("val"), self._rank_and_world()
        some = len(dataset)
        if self.eval_batches is not None:
            some = min(some, self.eval_batches * self.batch_size * world_size)
        rows = self._by_length(dataset)
        spread = [rows[i] for i in np.linspace(0, len(dataset), some, endpoint=False).astype(int).tolist()]
        everything = self._batches(rows[rank::world_size])
        some_batches = self._batches(spread[rank::world_size])
        batches = ValidationBatches(everything, some_batches, complete=lambda: self._whole_validation)
        return WindowLoader(dataset, batches, num_workers=self.num_workers, pin=self._pin())

    def read_whole_validation(self) -> None:
        """Demande que la prochaine évaluation, la dernière, lise toute la validation."""
        self._whole_validation = True

    @property
    def reads_whole_validation(self) -> bool:
        """Vrai si la dernière évaluation a lu toute la validation, ou si la prochaine la lira."""
        return self._whole_validation

    @staticmethod
    def _by_length(dataset: Batches) -> Sequence[int]:
        lengths = getattr(dataset, "lengths", None)
        return range(len(dataset)) if lengths is None else np.argsort(lengths, kind="stable").tolist()

    def _batches(self, windows: Sequence[int]) -> list[list[int]]:
        return [list(windows[i : i + self.batch_size]) for i in range(0, len(windows), self.batch_size)]

    def _rank_and_world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _pin(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def opening(text: str) -> str:
    """Le début d'un texte : jusqu'à un deux-points proche (« licorne : »), sinon ses trois premiers mots."""
    words = text.lstrip().partition("\n")[0].split(" ")[:8]
    colon = next((i for i, word in enumerate(words[:6]) if word.endswith(":")), None)
    return " ".join(words[: 3 if colon is None else colon + 1])
