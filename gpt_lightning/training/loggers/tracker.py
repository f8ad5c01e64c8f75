"""Un service qui suit les exécutions : une par dossier, que sa reprise continue ; une panne n'arrête rien."""

import importlib
import logging
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from gpt_lightning import durable
from gpt_lightning.errors import UserError
from gpt_lightning.layout import OUTPUTS, RECORD
from gpt_lightning.typing import Settings

log = logging.getLogger("gpt_lightning")
IDENTITY = "identity"  # dans .hydra/ : le numéro sous lequel les services connaissent cette exécution


class Tracker(Logger):
    """Ce que les services ont en commun. `library` est leur module Python.

    Seul le premier processus ouvre le service, et il l'ouvre avant d'entraîner : là, une panne est une UserError ;
    ensuite, le journal la dit une fois, et l'entraînement continue sans lui.
    """

    library = ""

    def __init__(self, *, folder: str, name: str, project: str) -> None:
        super().__init__()
        try:
            self.module: Any = importlib.import_module(self.library)
        except ImportError:
            raise UserError(
                f"logger={self.library} demande {self.library} : pip install 'gpt_lightning[{self.library}]'."
            ) from None
        self.folder, self.project = Path(folder), project
        self._name = name or "/".join(self.folder.parts).removeprefix(f"{OUTPUTS}/")
        self._open = False
        self._step = 0

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return self._name

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """Les erreurs qui sont de ce service, ou du système."""
        return (OSError,)

    @rank_zero_only
    def begin(self, values: Settings) -> None:
        """Ouvre l'exécution, ou la continue si son dossier a déjà un numéro ; `values` sont ceux de config.yaml.

        UserError si le service refuse.
        """
        path = self.folder / RECORD / IDENTITY
        resumes = path.exists()
        identity = path.read_text(encoding="utf-8").strip() if resumes else uuid.uuid4().hex[:12]
        try:
            self._begin(identity, values, resumes)
        except self.failures as error:
            raise UserError(f"logger={self.library} ne peut pas commencer : {_first(error)}.") from error
        durable.write_text(path, identity + "\n")
        self._open = True

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._step = step or 0
        self._try(self._log, dict(metrics), self._step)

    def log_hyperparams(self, params: Any, metrics: Mapping[str, float] | None = None) -> None:
        """N'écrit que `metrics`, les nombres de la fin, sous « final/ » : les réglages sont là depuis `begin`."""
        if metrics:
            self._try(self._log, {f"final/{key}": value for key, value in metrics.items()}, self._step)

    def log_text(self, tag: str, text: str, step: int) -> None:
        """Écrit un texte d'exemple."""
        self._try(self._text, tag, text, step)

    def finalize(self, status: str) -> None:
        self._try(self._finish, status == "success")
        self._open = False

    def _try(self, work: Callable[..., None], *arguments: object) -> None:
        """Exécute `work` si le service est ouvert ; s'il tombe, le journal le dit, et plus rien ne lui est envoyé."""
        if not self._open:
            return
        try:
            work(*arguments)
        except self.failures as error:
            self._open = False
            log.warning(
                f"logger={self.library} ne répond plus ({_first(error)}) : l'entraînement continue sans lui."
            )

    def _begin(self, identity: str, values: Settings, resumes: bool) -> None:
        raise NotImplementedError

    def _log(self, metrics: dict[str, float], step: int) -> None:
        raise NotImplementedError

    def _text(self, tag: str, text: str, step: int) -> None:
        raise NotImplementedError

    def _finish(self, done: bool) -> None:
        raise NotImplementedError


def _first(error: Exception) -> str:
    """Le début de ce que dit une erreur, d'un seul tenant."""
    return " ".join(str(error).split())[:200].rstrip(".")
