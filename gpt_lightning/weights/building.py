"""Construire un modèle de ses tenseurs, vérifiés un par un."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.classifier import GPTClassifier


def build(config: GPTConfig, state: dict[str, Tensor], path: Path, n_labels: int = 0) -> GPTModel:
    """Construit un modèle de ces tenseurs, sans les copier ; avec des étiquettes, un modèle qui classe.

    UserError qui nomme le tenseur absent ou mal formé.
    """
    check_blocks(config, state, path)
    with torch.device("meta"):
        model = GPTClassifier(config, n_labels, draw=False) if n_labels else GPTModel(config, draw=False)
    empty = model.state_dict()
    if config.tie_weights and "tok_emb.weight" in state:
        state = {**state, "out_head.weight": state["tok_emb.weight"]}
    for name, tensor in empty.items():
        if name not in state:
            raise UserError(f"{path} : il manque le tenseur {name}.")
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{path} : le tenseur {name} a la forme {tuple(state[name].shape)}, il faudrait {tuple(tensor.shape)}."
            )
    model.load_state_dict({name: state[name] for name in empty}, assign=True)
    if config.tie_weights:
        model.out_head.weight = model.tok_emb.weight
    return model.requires_grad_(True).eval()


def check_blocks(config: GPTConfig, state: Mapping[str, Tensor], path: Path) -> None:
    """UserError si ces tenseurs n'ont pas les blocs annoncés : avant d'en construire un million."""
    blocks = len({name.split(".")[1] for name in state if name.startswith("trf_blocks.")})
    if config.n_layers > blocks:
        raise UserError(f"{path} : il manque le tenseur trf_blocks.{blocks}, sur {config.n_layers} annoncés.")
    if config.n_layers < blocks:
        raise UserError(f"{path} annonce {config.n_layers} blocs (n_layers) et en contient {blocks}.")
