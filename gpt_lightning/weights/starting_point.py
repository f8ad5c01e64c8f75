"""Le point de départ d'un entraînement : un modèle neuf, ou les poids d'une source."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.lora import LoRAConfig, adapt
from gpt_lightning.model.tasks import TEXT, starting_tasks
from gpt_lightning.model.trainable import is_added, learn_only
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.typing import Settings
from gpt_lightning.weights.adapters import fingerprint
from gpt_lightning.weights.format import newest_of
from gpt_lightning.weights.loading import Resumed, load_and_describe

CHOSEN = ("drop_rate", "kernels")  # ce que `model` règle même quand les poids disent le reste


@dataclass(frozen=True)
class StartingPoint:
    """L'architecture (clés de `model`), et si les poids viennent d'une source : leur tokenizer, leurs tenseurs, et les
    étiquettes d'un modèle qui classe."""

    architecture: Settings
    source: str | None = None
    tokenizer: Tokenizer | None = None
    state: dict[str, Tensor] | None = None
    labels: tuple[str, ...] = ()
    template: str = ""  # celui d'un modèle qui répond
    unknown_template: bool = False  # il en a un que l'on ne reconnaît pas
    base: str = ""  # l'empreinte et l'origine des poids qu'une reprise a adaptés
    base_source: str = ""

    def build(
        self, n_ids: int, *, n_labels: int = 0, lora: LoRAConfig | None = None, train_on: str = "all"
    ) -> GPTModel:
        """Construit le modèle de départ, pour un tokenizer de `n_ids` identifiants ; avec `n_labels`, il classe.

        Ses adaptateurs sont ceux de `lora` ; seuls les paramètres de `train_on` apprendront. UserError si les
        adaptateurs n'ont rien à adapter.
        """
        given = self.architecture["vocab_size"]
        grown = self.state is not None and given is not None and given < n_ids
        if grown and train_on != "all":
            raise UserError(
                f"train_on={train_on} n'apprend pas les embeddings, et les jetons de chatml, nouveaux pour ce modèle, "
                f"y resteraient tous les mêmes : prenez data.template=texte, ou train_on=all."
            )
        architecture = {**self.architecture, "vocab_size": n_ids} if grown else self.architecture
        config = GPTConfig.for_vocabulary(architecture, n_ids)
        model = GPTClassifier(config, n_labels) if n_labels else GPTModel(config)
        if self.state is not None:
            state = _grow(self.state, given, model) if grown else dict(self.state)
            fresh = {name: tensor for name, tensor in model.state_dict().items() if name not in state}
            model.load_state_dict({**fresh, **state})
        if lora is not None:
            adapt(model, lora)
        return learn_only(model, train_on)

    def identity(self, model: GPTModel) -> tuple[str, str]:
        """L'empreinte et l'origine des poids dont `model`, qui vient d'être construit, part."""
        if self.base:
            return self.base, self.base_source
        return fingerprint(model.state_dict(), model.config), self.source or ""


def _grow(state: Mapping[str, Tensor], n_known: int, model: GPTModel) -> dict[str, Tensor]:
    """Agrandit le vocabulaire de `state`, de `n_known` identifiants, jusqu'à celui de `model`.

    Un jeton nouveau part de la moyenne des autres : ni plus probable, ni plus étrange qu'un jeton quelconque.
    """
    rows = model.config.padded_vocab_size
    grown = dict(state)
    for name in ("tok_emb.weight", "out_head.weight"):
        old = state[name][:n_known]
        grown[name] = torch.cat((old, old.mean(0, keepdim=True).expand(rows - n_known, -1)))
    return grown


def starting_point(
    source: str | None,
    architecture: Mapping[str, object],
    resumed: Resumed | None = None,
    *,
    task: str = TEXT.name,
    base: str | None = None,
) -> StartingPoint:
    """Le point de départ que `init_from` désigne ; sans lui, un modèle neuf de cette `architecture`.

    `auto` est le meilleur modèle de l'exécution de texte la plus récente, s'il y en a une. Une reprise a le modèle et
    le tokenizer de son checkpoint (`resumed`), qui apporte ses poids : la source d'origine n'est plus lue, sauf pour
    des adaptateurs gardés seuls.
    """
    chosen = {key: architecture[key] for key in CHOSEN}
    if resumed is not None:
        description = resumed.description
        return StartingPoint(
            {**description.config.to_dict(), **chosen},
            tokenizer=description.tokenizer,
            state=_base_of(resumed.base) if resumed.base else None,
            labels=description.labels,
            template=description.template,
            base=description.base,
            base_source=description.base_source,
        )
    if source == "auto":
        run = newest_of(TEXT.name)
        source = str(run) if run else None
    if not source:
        return StartingPoint(dict(architecture))
    # « best » est celui d'aujourd'hui
    model, description, source, *_ = load_and_describe(
        source, key="init_from", tasks=starting_tasks(task), base=base
    )
    # toutes ses clés : à celle qui manquerait, une reprise donnerait la valeur du modèle par défaut
    return StartingPoint(
        {**asdict(model.config), **chosen},
        source,
        description.tokenizer,
        dict(model.state_dict()),
        description.labels,
        description.template,
        description.unknown_template,
    )


def _base_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Les tenseurs d'un modèle adapté, moins ceux que le checkpoint apporte."""
    return {name: tensor for name, tensor in state.items() if not is_added(name)}
