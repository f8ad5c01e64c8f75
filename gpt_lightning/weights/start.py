"""Le point de départ d'un entraînement : un modèle neuf, ou les poids d'une source."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.weights.format import Description
from gpt_lightning.weights.loading import load_described
from gpt_lightning.weights.sources import newest_run

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
        given = self.architecture["vocab_size"]
        grown = self.state is not None and given is not None and given < n_ids
        architecture = {**self.architecture, "vocab_size": n_ids} if grown else self.architecture
        model = GPTModel(GPTConfig.for_vocabulary(architecture, n_ids))
        if self.state is not None:
            model.load_state_dict(_grown(self.state, given, model) if grown else self.state)
        return model


def _grown(state: Mapping[str, Tensor], known: int, model: GPTModel) -> dict[str, Tensor]:
    """Les tenseurs de `state`, dont le vocabulaire de `known` identifiants grandit jusqu'à celui de `model`.

    Un jeton nouveau part de la moyenne des autres : ni plus probable, ni plus étrange qu'un jeton quelconque.
    """
    rows = model.config.padded_vocab_size
    grown = dict(state)
    for name in ("tok_emb.weight", "out_head.weight"):
        old = state[name][:known]
        grown[name] = torch.cat((old, old.mean(0, keepdim=True).expand(rows - known, -1)))
    return grown


def starting_point(
    source: str | None, architecture: Mapping[str, Any], resumed: Description | None = None
) -> StartingPoint:
    """Le point de départ que `init_from` désigne ; sans lui, un modèle neuf de cette `architecture`.

    `auto` est le meilleur modèle de l'exécution de texte la plus récente, s'il y en a une. Une reprise a le modèle et
    le tokenizer de son checkpoint (`resumed`), qui apporte ses poids : la source d'origine n'est plus lue.
    """
    chosen = {key: architecture[key] for key in CHOSEN}
    if resumed is not None:
        return StartingPoint({**resumed.config.to_dict(), **chosen}, tokenizer=resumed.tokenizer)
    if source == "auto":
        found = newest_run(tasks=("text",))
        source = str(found) if found else None
    if not source:
        return StartingPoint(dict(architecture))
    # « best » est celui d'aujourd'hui
    model, known, source, _ = load_described(source, key="init_from", tasks=("text", "instruct"))
    return StartingPoint(
        {**model.config.to_dict(), **chosen}, source, known.tokenizer, dict(model.state_dict())
    )
