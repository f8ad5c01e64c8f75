"""`load` : de n'importe quelle source de poids connue à un modèle et son tokenizer."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gpt_lightning import messages
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import Tokenizer, from_state, gpt2
from gpt_lightning.weights import huggingface, original
from gpt_lightning.weights.files import read_json, read_torch, reading
from gpt_lightning.weights.sources import find_checkpoint

FORMAT_VERSION = 1
OURS = "gpt_lightning"  # la clé de nos métadonnées, dans un .ckpt, un .safetensors, ou gpt_lightning.json
HUB = "hf:"
log = logging.getLogger(OURS)


def load(source: str | None = None, *, n_heads: int | None = None) -> tuple[GPTModel, Tokenizer | None]:
    """Le modèle (en évaluation, sur CPU) et son tokenizer (None si la source n'en dit rien).

    `source` : None ou `best` (meilleur checkpoint de la course la plus récente), `last`, un dossier de course, un
    .ckpt ; un fichier ou un dossier safetensors de `export` ; un dossier GPT-2 de Hugging Face, ou `hf:nom` ; le
    gpt-model.pt du projet d'origine, dont `n_heads` peut compléter la configuration. Rien n'est jamais exécuté.
    ValueError, en une phrase qui nomme le fichier et le tenseur, sur tout ce qui n'est pas cela.
    """
    if source and source.startswith(HUB):
        return _from_huggingface(huggingface.download(source.removeprefix(HUB)))
    path = find_checkpoint(source)
    if path.is_dir():
        return _from_folder(path)
    if path.suffix == ".safetensors":
        return _from_safetensors(path)
    content = read_torch(path)
    if isinstance(content, dict) and OURS in content:
        return _from_checkpoint(path, content)
    if original.is_original(content):
        return _from_original(path, original.state_of(content), n_heads)
    seen = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
    raise ValueError(f"{path} : architecture inconnue (on y trouve {seen}).")


def resumable_step(path: str) -> int:
    """Le pas d'optimiseur d'un checkpoint complet. ValueError s'il n'a que les poids, ou n'est pas des nôtres."""
    content = read_torch(Path(path))
    if not isinstance(content, dict) or OURS not in content:
        raise ValueError(
            f"{path} n'est pas un checkpoint de gpt_lightning : init_from= part des poids d'ailleurs."
        )
    if "optimizer_states" not in content:
        raise ValueError(
            f"{path} n'a que les poids : reprenez last.ckpt, ou partez de ces poids avec init_from=."
        )
    return content["global_step"]


def _from_checkpoint(path: Path, checkpoint: dict[str, Any]) -> tuple[GPTModel, Tokenizer]:
    config, tokenizer = described(checkpoint[OURS], path)
    state = {name.removeprefix("model."): tensor for name, tensor in checkpoint.get("state_dict", {}).items()}
    return build(config, state, path), tokenizer


def _from_safetensors(path: Path) -> tuple[GPTModel, Tokenizer | None]:
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if OURS in metadata:
            config, tokenizer = described(json.loads(metadata[OURS]), path)
            return build(config, {name: file.get_tensor(name) for name in file.keys()}, path), tokenizer  # noqa: SIM118
    return _from_folder(path.parent)


def _from_folder(folder: Path) -> tuple[GPTModel, Tokenizer | None]:
    if (folder / huggingface.CONFIG).exists():
        return _from_huggingface(folder)
    ours = sorted(folder.glob("*.safetensors"))
    if len(ours) == 1 and _has_metadata(ours[0]):
        return _from_safetensors(ours[0])
    raise ValueError(
        f"{folder} n'est ni une course (checkpoints/), ni un dossier de Hugging Face (config.json), ni un export "
        f"safetensors."
    )


def _has_metadata(path: Path) -> bool:
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        return OURS in (file.metadata() or {})


def _from_huggingface(folder: Path) -> tuple[GPTModel, Tokenizer | None]:
    values, tensors = huggingface.read_folder(folder)
    config = huggingface.config_from(values, folder / huggingface.CONFIG)
    tokenizer = gpt2() if config.vocab_size == 50257 else None
    if (folder / f"{OURS}.json").exists():  # notre export : des options et un tokenizer que GPT-2 ne dit pas
        exported, tokenizer = described(read_json(folder / f"{OURS}.json"), folder / f"{OURS}.json")
        config = replace(exported, vocab_padding=1)
    return build(config, huggingface.state_from(tensors, config), folder), tokenizer


def _from_original(
    path: Path, state: dict[str, Tensor], n_heads: int | None
) -> tuple[GPTModel, Tokenizer | None]:
    config = original.config_from(state, path, n_heads)
    if n_heads is None:
        log.warning(messages.guessed_heads(str(path), config.n_heads))
    return build(config, state, path), gpt2() if config.vocab_size == 50257 else None


def described(ours: Any, path: Path) -> tuple[GPTConfig, Tokenizer | None]:
    """La configuration et le tokenizer de nos métadonnées. ValueError si elles sont d'un autre format."""
    version = ours.get("format_version") if isinstance(ours, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} est au format {version}, ce programme lit le {FORMAT_VERSION}.")
    return GPTConfig.from_dict(ours["model"]), from_state(ours["tokenizer"]) if ours["tokenizer"] else None


class _NoDraws(TorchFunctionMode):
    """Ne tire aucun poids au hasard : sur `meta` cela ne sert à rien, et charge le compilateur de torch (2 s)."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build(config: GPTConfig, state: dict[str, Tensor], path: Path) -> GPTModel:
    """Un modèle fait de ces tenseurs, sans les copier. ValueError qui nomme le tenseur absent ou mal formé."""
    with torch.device("meta"), _NoDraws():
        model = GPTModel(config)
    expected = model.state_dict()
    if config.tie_weights and "tok_emb.weight" in state:
        state = {**state, "out_head.weight": state["tok_emb.weight"]}
    for name, tensor in expected.items():
        if name not in state:
            raise ValueError(f"{path} : il manque le tenseur {name}.")
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"{path} : le tenseur {name} a la forme {tuple(state[name].shape)}, il faudrait {tuple(tensor.shape)}."
            )
    model.load_state_dict({name: state[name] for name in expected}, assign=True)
    if config.tie_weights:
        model.out_head.weight = model.tok_emb.weight
    return model.requires_grad_(True).eval()
