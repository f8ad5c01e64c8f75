"""Un jeu de données de la bibliothèque datasets : un dossier d'ici, ou un nom du hub, lu au fil de l'eau."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpt_lightning.data import columns
from gpt_lightning.data.documents.libraries import library
from gpt_lightning.data.reading import Piece
from gpt_lightning.errors import Interrupted, UserError

if TYPE_CHECKING:
    import datasets

SAVED = ("state.json", "dataset_dict.json")  # ce que Dataset.save_to_disk écrit
# ce que lèvent ses lecteurs devant un fichier abîmé, ou une demande qu'ils ne comprennent pas
NETWORK = ("httpx2", "httpcore2", "httpx", "httpcore", "requests", "urllib3", "aiohttp")
LIBRARIES = ("datasets", "huggingface_hub", "fsspec", "pyarrow", *NETWORK)
FAULTS = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, NotImplementedError, EOFError)


@dataclass(frozen=True)
class Dataset:
    """La part `part` du jeu `name`, dans sa configuration `config` s'il en a plusieurs. Aucun code n'en est exécuté."""

    name: str
    config: str | None = None
    part: str = "train"

    @cached_property
    def _builder(self) -> "datasets.DatasetBuilder":
        module = _datasets()
        with _faults(lambda: f"data.name={self.name} ne s'ouvre pas"):
            return module.load_dataset_builder(os.path.expanduser(self.name), self.config)

    def check(self) -> None:
        """UserError si le jeu, sa configuration ou sa part n'est pas là ; rien n'en est lu."""
        if not self.name:
            raise UserError("Il manque le jeu de données : data.name=dossier, ou data.name=nom/du_hub.")
        folder = Path(os.path.expanduser(self.name))
        if not folder.exists() and (
            folder.is_absolute() or self.name.startswith((".", "~")) or self.name.count("/") > 1
        ):
            raise UserError(f"data.name : {self.name} n'existe pas.")
        _datasets()

    def open(self) -> Any:
        """Ses lignes. UserError s'il ne s'ouvre pas, ou n'a pas cette part."""
        folder = Path(os.path.expanduser(self.name))
        if any((folder / name).is_file() for name in SAVED):
            return self._from_disk(folder)
        builder = self._builder
        with _faults(
            lambda: f"data.name={self.name} n'a pas data.split={self.part}", "data.limit= en lit le début"
        ):
            return builder.as_streaming_dataset(split=self.part)

    def _from_disk(self, folder: Path) -> Any:
        module = _datasets()
        with _faults(lambda: f"data.name={self.name} ne s'ouvre pas"):
            saved = module.load_from_disk(str(folder))
        parts = saved if isinstance(saved, dict) else {"train": saved}
        if self.part not in parts:
            raise UserError(f"data.split={self.part} : {self.name} a les parts {', '.join(parts)}.")
        return parts[self.part]

    def read(self, key: str, errors: str, skip: columns.Skip | None) -> Iterator[Piece]:
        """Les textes de la colonne `key`. UserError si elle n'y est pas, ou si une ligne ne se lit pas."""
        rows, where = self.open(), f"{self.name}, {self.part}"
        features = getattr(rows, "features", None) or {}
        texts = [
            name
            for name, kind in features.items()
            if getattr(kind, "dtype", "") in ("string", "large_string")
        ]
        if features and key not in texts:
            raise columns.missing(where, key, texts)
        if features:
            rows = rows.select_columns([key])
        yield from columns.documents(_values(rows, key, where), key, errors, skip)

    @property
    def stamp(self) -> list[object]:
        """De quoi savoir si le jeu a changé : ses fichiers, et leur version."""
        folder = Path(os.path.expanduser(self.name))
        if any((folder / name).is_file() for name in SAVED):
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            return [self.part, [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]]
        files = self._builder.config.data_files or {}
        named = [
            [str(split), [*map(str, listed)], repr(listed.origin_metadata)] for split, listed in files.items()
        ]
        return [self.part, self._builder.config_id, str(self._builder.hash), named]


@contextmanager
def _faults(what: Callable[[], str], advice: str = "") -> Iterator[None]:
    """Traduit ce que la bibliothèque lève : une phrase, et Interrupted si c'est le réseau ou le disque."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        origin = type(error).__module__.partition(".")[0]
        if not isinstance(error, (OSError, *FAULTS)) and origin not in LIBRARIES:
            raise
        why = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        network = isinstance(error, ConnectionError | TimeoutError) or origin in NETWORK
        more = advice or ("sans réseau, donnez un dossier d'ici" if network else "")
        kind = Interrupted if network else UserError
        raise kind(f"{what()} ({why}){f' : {more}' if more else ''}.") from None


def _values(rows: Iterable[dict[str, object]], key: str, where: str) -> Iterator[tuple[str, object]]:
    line = 0
    with _faults(lambda: f"{where} ne se lit plus après la ligne {line}"):
        for row in rows:
            line += 1
            if key not in row:
                raise columns.missing(f"{where}, ligne {line}", key, row)
            yield f"{where}, ligne {line}", row[key]


def _datasets() -> ModuleType:
    module = library("datasets", "un jeu de données", columns.EXTRA)
    module.disable_progress_bars()
    module.utils.logging.set_verbosity(module.utils.logging.CRITICAL)
    library("huggingface_hub", "un jeu de données", columns.EXTRA).utils.logging.set_verbosity_error()
    return module
