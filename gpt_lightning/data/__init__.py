"""Lire du texte et en faire des lots : corpus -> base de jetons -> fenêtres -> chargeur -> LightningDataModule.

Les noms sont chargés à la demande : lire un corpus ne charge ni torch ni lightning.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "ConversationDataModule": "gpt_lightning.data.instruct.module",
    "DatasetsDataModule": "gpt_lightning.data.datasets",
    "ShardsDataModule": "gpt_lightning.data.shards.module",
    "LabelledDataModule": "gpt_lightning.data.classify.module",
    "SlidingWindowDataModule": "gpt_lightning.data.text",
    "SlidingWindowDataset": "gpt_lightning.data.windows",
    "TrainLoader": "gpt_lightning.data.loader",
    "WindowLoader": "gpt_lightning.data.loader",
    "TokenStore": "gpt_lightning.data.store",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
