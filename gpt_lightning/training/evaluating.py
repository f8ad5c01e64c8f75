"""Faire calculer au modèle autre chose qu'un pas, et le rendre comme il était."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Le modèle est en évaluation (sans dropout), puis de nouveau dans son mode, même après une erreur."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
