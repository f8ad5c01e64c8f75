"""Lire des poids : un checkpoint, jamais de code. `weights_only=True` partout."""

import pickle
from pathlib import Path
from typing import Any

import torch

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import Tokenizer, from_state
from gpt_lightning.weights.sources import find_checkpoint

FORMAT_VERSION = 1


def load(source: str | None = None, *, n_heads: int | None = None) -> tuple[GPTModel, Tokenizer | None]:
    """Le modèle (en évaluation, sur CPU) et son tokenizer.

    `source` : None ou best (meilleur checkpoint de la course la plus récente), last, un dossier de course, un
    fichier .ckpt. ValueError, en une phrase, si le fichier manque, n'est pas lisible sans exécuter du code, ou
    n'est pas un checkpoint connu.
    """
    path = find_checkpoint(source)
    return _from_checkpoint(path, read(path))


def read(path: Path) -> dict[str, Any]:
    """Le contenu d'un fichier torch, sans exécuter de code et sans copier les poids. ValueError sinon."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} n'est pas lisible sans risque : ce n'est pas un fichier de poids, il est abîmé, ou il contient "
            f"du code, qui ne sera jamais exécuté ({str(error).splitlines()[0][:120]})."
        ) from None


def _from_checkpoint(path: Path, checkpoint: dict[str, Any]) -> tuple[GPTModel, Tokenizer]:
    ours = checkpoint.get("gpt_lightning") if isinstance(checkpoint, dict) else None
    if not isinstance(ours, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} n'est pas un checkpoint de gpt_lightning.")
    if ours.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} est au format {ours.get('format_version')}, ce programme lit le {FORMAT_VERSION}."
        )
    state = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
    return build(GPTConfig.from_dict(ours["model"]), state, path), from_state(ours["tokenizer"])


def build(config: GPTConfig, state: dict[str, torch.Tensor], path: Path) -> GPTModel:
    """Un modèle fait de ces tenseurs, sans les copier. ValueError qui nomme le tenseur absent ou mal formé."""
    with torch.device("meta"):
        model = GPTModel(config)
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in state:
            raise ValueError(f"{path} : il manque le tenseur {name}.")
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"{path} : le tenseur {name} a la forme {tuple(state[name].shape)}, "
                f"il faudrait {tuple(tensor.shape)}."
            )
    model.load_state_dict({name: state[name] for name in expected}, assign=True)
    if config.tie_weights:
        model.out_head.weight = model.tok_emb.weight
    _restore_buffers(model)
    return model.eval()


def _restore_buffers(model: GPTModel) -> None:
    """Les tampons non sauvés (fréquences de rope) sont encore sur meta : les recalculer."""
    for block in model.trf_blocks:
        if hasattr(block.att.rotary, "frequencies"):
            block.att.rotary = type(block.att.rotary)(model.config)
