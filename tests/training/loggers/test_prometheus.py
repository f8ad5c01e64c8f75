"""metrics_port= : les mesures d'un entraînement, sur cette machine seulement, le temps qu'il dure."""

import socket
import urllib.error
import urllib.request

import pytest

from gpt_lightning.errors import UserError
from gpt_lightning.training.loggers import Prometheus


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_figures_are_there_until_the_end(port):
    served = Prometheus(port)
    served.begin({})
    served.log_metrics({"train/loss": 4.5, "lr": 0.001, "tokens": 640}, 10)
    served.log_metrics({"val/loss": 4.25}, 12)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    assert {
        "gpt_lightning_train_loss 4.5",
        "gpt_lightning_val_loss 4.25",
        "gpt_lightning_train_lr 0.001",
        "gpt_lightning_train_tokens 640.0",
        "gpt_lightning_train_step 12.0",
    } <= set(lines)
    assert served._server.server_address[0] == "127.0.0.1"
    served.finalize("success")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30)


def test_a_taken_port_is_said(port):
    first = Prometheus(port)
    first.begin({})
    with pytest.raises(UserError, match=f"metrics_port={port}"):
        Prometheus(port).begin({})
    first.finalize("success")
