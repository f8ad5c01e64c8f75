"""Le décodage : des logits au texte. Filtres purs, stratégie gelée, une seule boucle de génération."""

from gpt_lightning.decoding.filters import (
    echantillonner_multinomial,
    softmax_avec_temperature,
    top_k_sampling,
    top_p_sampling,
)
from gpt_lightning.decoding.generation import generate, stream
from gpt_lightning.decoding.strategy import Strategy
from gpt_lightning.decoding.text import Continuation, TextStream
from gpt_lightning.decoding.token import Token

__all__ = [
    "Continuation",
    "Strategy",
    "TextStream",
    "Token",
    "echantillonner_multinomial",
    "generate",
    "softmax_avec_temperature",
    "stream",
    "top_k_sampling",
    "top_p_sampling",
]
