"""L'ancien chemin de `SlidingWindowDataModule`, qu'un config.yaml peut encore nommer : gardé jusqu'à 1.0."""

from gpt_lightning.data.text import SlidingWindowDataModule as SlidingWindowDataModule
