"""Les mesures d'un entraînement, lues par Prometheus : `metrics_port=`, sur cette machine seulement."""

import re
from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from gpt_lightning.errors import UserError
from gpt_lightning.typing import Settings

HOST = "127.0.0.1"
SPACE = "gpt_lightning"  # le début de chaque nom, comme ceux du serveur


class Prometheus(Logger):
    """Sert http://127.0.0.1:`port`/metrics : la dernière valeur de chaque mesure, de `begin` à la fin."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self._server: Any = None

    @property
    def name(self) -> str:
        return "prometheus"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def begin(self, values: Settings) -> None:
        """Ouvre le port. UserError s'il est pris."""
        try:
            self._server, _ = start_http_server(self.port, HOST, self._registry)
        except OSError as error:
            raise UserError(
                f"metrics_port={self.port} ne s'ouvre pas ({error.strerror}) : choisissez un autre port."
            ) from None

    def log_hyperparams(self, params: object, *args: object, **kwargs: object) -> None:
        """N'écrit rien : ce journal n'a que des mesures."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for key, value in {**metrics, "step": step or 0}.items():
            name = metric_name(key)
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, f"{key}, à la dernière mesure.", registry=self._registry)
            self._gauges[name].set(value)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ferme le port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def metric_name(key: str) -> str:
    """Le nom d'une mesure chez Prometheus : train/loss est gpt_lightning_train_loss."""
    plain = re.sub(r"\W+", "_", key)
    own = plain if plain.startswith(("train_", "val_")) else f"train_{plain}"
    return f"{SPACE}_{own}"
