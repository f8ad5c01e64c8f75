"""Trackio : les mesures, les textes et les réglages, dans une base de cette machine, ou dans un Space."""

import contextlib
import io
import sqlite3
from typing import Any

from gpt_lightning.training.loggers.tracker import Tracker
from gpt_lightning.typing import Settings


class Trackio(Tracker):
    """Une exécution de trackio, que son nom désigne : le numéro de son dossier y est donc. Un Space est privé."""

    library = "trackio"

    def __init__(self, *, folder: str, name: str, project: str, space_id: str | None = None) -> None:
        super().__init__(folder=folder, name=name, project=project)
        self.space_id = space_id
        self._run: Any = None

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return (OSError, ValueError, RuntimeError, sqlite3.Error)

    def _begin(self, identity: str, values: Settings, resumes: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # trackio y parle
            self._run = self.module.init(
                project=self.project,
                name=f"{self.version} {identity}",
                space_id=self.space_id,
                private=True,
                config=values,
                resume="allow",
                embed=False,
            )

    def _log(self, metrics: dict[str, float], step: int) -> None:
        self._run.log(metrics, step=step)

    def _text(self, tag: str, text: str, step: int) -> None:
        quoted = "\n".join("    " + line for line in text.splitlines())
        self._run.log({tag: self.module.Markdown(quoted)}, step=step)

    def _finish(self, done: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()
