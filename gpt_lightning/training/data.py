"""Ce que l'entraînement attend d'un module de données, et de l'ordre de ses lots : `data/` les écrit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


class Order(Protocol):
    """L'ordre des lots d'une époque, pour un processus : un `BatchOrder`."""

    @property
    def per_step(self) -> int: ...

    @property
    def n_windows(self) -> int: ...

    @property
    def left_out(self) -> int: ...

    @property
    def mean_tokens(self) -> int: ...

    def __len__(self) -> int: ...

    def remaining(self, windows: int) -> int: ...

    def place(self, epoch: int, windows: int) -> tuple[int, int]: ...

    def state(self, epoch: int, windows: int) -> dict[str, int]: ...

    def step_tokens(self, epoch: int, windows: int) -> tuple[int, int]: ...

    def steps_for(self, tokens: int, epoch: int = 0, windows: int = 0) -> int: ...


class Statistics(Protocol):
    """Ce que le corpus contient."""

    @property
    def train_tokens(self) -> int: ...

    @property
    def val_windows(self) -> int: ...

    @property
    def val_tokens(self) -> int: ...


class Traced(Protocol):
    """Un corpus et son index : la part d'un texte qui en est copiée, par passages d'au moins `least` mots."""

    @property
    def least(self) -> int: ...

    @property
    def reference(self) -> float: ...

    def share(self, texts: Iterable[str]) -> float: ...


class DataModule(Protocol):
    """Un module de données préparé ; `template` est celui de conversations, `labels` celles d'une classification."""

    task: str
    tokenizer: Any
    template: Any
    labels: tuple[str, ...]
    since: tuple[str, ...]
    seed: int
    max_length: int
    partial: bool
    formats: bool
    eval_batches: int | None

    @property
    def statistics(self) -> Statistics: ...

    @property
    def credit(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def bytes_per_target(self) -> float: ...

    @property
    def reads_whole_validation(self) -> bool: ...

    def openings(self) -> Sequence[str]: ...

    def open_index(self, progress: Callable[[int, int], None] = ..., *, build: bool) -> Traced | None: ...

    def order(self, *, world_size: int = 1, rank: int = 0) -> Order: ...

    def train_dataloader(self) -> Iterable[object]: ...

    def val_dataloader(self) -> Iterable[object]: ...

    def read_whole_validation(self) -> None: ...


@runtime_checkable
class LabelledData(Protocol):
    """Un module de textes étiquetés : (texte, étiquette, ...) de chaque moitié."""

    texts: Mapping[str, Sequence[tuple[str, str, str, str]]]
