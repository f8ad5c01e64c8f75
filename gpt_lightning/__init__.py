"""gpt_lightning : un GPT écrit à la main, sur le châssis de PyTorch Lightning et de Hydra.

    >>> from gpt_lightning import GPTConfig, GPTModel, Strategy, generate, load

Un nom public se charge quand on s'en sert : importer le paquet ne charge pas torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "GPTConfig": "gpt_lightning.model",
    "GPTModel": "gpt_lightning.model",
    "Strategy": "gpt_lightning.decoding",
    "generate": "gpt_lightning.decoding",
    "load": "gpt_lightning.weights",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
