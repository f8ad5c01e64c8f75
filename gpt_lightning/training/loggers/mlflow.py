"""MLflow : les mesures, les textes et les réglages, dans une base SQLite de cette machine, ou sur un serveur."""

import os
import time
from pathlib import Path
from typing import Any

from gpt_lightning.layout import OUTPUTS
from gpt_lightning.training.loggers.tracker import Tracker
from gpt_lightning.typing import Settings

MARK = "gpt_lightning.run"  # l'étiquette d'une exécution : le numéro de son dossier
BASE = OUTPUTS / "mlflow.db"


class MLflow(Tracker):
    """Une exécution de MLflow, que l'étiquette MARK retrouve ; ses textes et ses réglages en sont les « artifacts »."""

    library = "mlflow"

    def __init__(self, *, folder: str, name: str, project: str, tracking_uri: str | None = None) -> None:
        super().__init__(folder=folder, name=name, project=project)
        self.tracking_uri = (
            tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{BASE.as_posix()}"
        )
        self._client: Any = None
        self._run = ""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return (OSError, self.module.exceptions.MlflowException)

    def _begin(self, identity: str, values: Settings, resumes: bool) -> None:
        local = self.tracking_uri.startswith("sqlite:///")
        if local:
            base = Path(self.tracking_uri.removeprefix("sqlite:///"))
            base.parent.mkdir(parents=True, exist_ok=True)
        self._client = self.module.MlflowClient(self.tracking_uri)
        experiment = self._client.get_experiment_by_name(self.project)
        if experiment is None:
            artifacts = (base.parent / "mlartifacts").resolve().as_uri() if local else None
            number = self._client.create_experiment(self.project, artifact_location=artifacts)
        else:
            number = experiment.experiment_id
        wanted = f"tags.`{MARK}` = '{identity}'"
        runs = self._client.search_runs([number], wanted) if resumes else []
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            run = self._client.create_run(number, run_name=self.version, tags={MARK: identity})
            self._run = run.info.run_id
        self._client.log_dict(self._run, values, "config.yaml")
        params = self._client.get_run(self._run).data.params
        for key, value in _leaves(values):
            if key not in params:  # MLflow n'en change pas : config.yaml, lui, dit ceux de la reprise
                self._client.log_param(self._run, key, value)

    def _log(self, metrics: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        entities = self.module.entities
        points = [entities.Metric(key, value, now, step) for key, value in metrics.items()]
        self._client.log_batch(self._run, metrics=points)

    def _text(self, tag: str, text: str, step: int) -> None:
        self._client.log_text(self._run, text, f"{tag}/step_{step:07d}.txt")

    def _finish(self, done: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if done else "FAILED")


def _leaves(values: Settings, prefix: str = "") -> list[tuple[str, str]]:
    """Les réglages, un par clé avec des points, en texte."""
    leaves = list[tuple[str, str]]()
    for key, value in values.items():
        if isinstance(value, dict):
            leaves += _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            leaves.append((f"{prefix}{key}", str(value)[:500]))
    return leaves
