"""L'ancien chemin de `LabelledDataModule`, qu'un config.yaml peut encore nommer : gardé jusqu'à 1.0."""

from gpt_lightning.data.classify.module import LabelledDataModule as LabelledDataModule
