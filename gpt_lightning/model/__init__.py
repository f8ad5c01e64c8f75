"""Le modèle : un GPT-2 écrit à la main. Ne dépend que de torch."""

from gpt_lightning.model import cost, reference
from gpt_lightning.model.cache import KVCache
from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.fast.cross_entropy import linear_cross_entropy
from gpt_lightning.model.gpt import (
    GELU,
    FeedForward,
    GPTModel,
    LayerNorm,
    MultiHeadAttention,
    TransformerBlock,
)
from gpt_lightning.model.variants import RMSNorm

__all__ = [
    "GELU",
    "FeedForward",
    "GPTConfig",
    "GPTModel",
    "KVCache",
    "LayerNorm",
    "MultiHeadAttention",
    "RMSNorm",
    "TransformerBlock",
    "cost",
    "linear_cross_entropy",
    "reference",
]
