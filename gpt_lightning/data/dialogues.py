"""L'ancien chemin de `ConversationDataModule`, qu'un config.yaml peut encore nommer : gardé jusqu'à 1.0."""

from gpt_lightning.data.instruct.module import ConversationDataModule as ConversationDataModule
