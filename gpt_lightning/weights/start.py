"""Le point de départ d'un entraînement : un modèle neuf, ou les poids d'une source."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.weights.format import Description
from gpt_lightning.weights.loading import load_described

CHOSEN = ("drop_rate", "kernels")  # ce que `model` règle même quand les poids disent le reste


@dataclass(frozen=True)
class StartingPoint:
    """L'architecture (clés de `model`), et si les poids viennent d'une source : leur tokenizer, leurs tenseurs."""

    architecture: dict[str, Any]
    source: str | None = None
    tokenizer: Tokenizer | None = None
    state: dict[str, Tensor] | None = None

    def build(self, n_ids: int) -> GPTModel:
        """Le modèle de départ, pour un tokenizer de `n_ids` identifiants."""
        model = GPTModel(GPTConfig.for_vocabulary(self.architecture, n_ids))
        if self.state is not None:
            model.load_state_dict(self.state)
        return model


def starting_point(
    source: str | None, architecture: Mapping[str, Any], resumed: Description | None = None
) -> StartingPoint:
    """Le point de départ que `init_from` désigne ; sans lui, un modèle neuf de cette `architecture`.

    Une reprise a le modèle et le tokenizer de son checkpoint (`resumed`), qui apporte ses poids : la source d'origine
    n'est plus lue.
    """
    chosen = {key: architecture[key] for key in CHOSEN}
    if resumed is not None:
        return StartingPoint({**resumed.config.to_dict(), **chosen}, tokenizer=resumed.tokenizer)
    if not source:
        return StartingPoint(dict(architecture))
    model, known, source, _ = load_described(source, key="init_from")  # « best » est celui d'aujourd'hui
    return StartingPoint(
        {**model.config.to_dict(), **chosen}, source, known.tokenizer, dict(model.state_dict())
    )
