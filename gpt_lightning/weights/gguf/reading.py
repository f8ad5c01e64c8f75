"""Lire un GGUF : l'en-tête, puis ses tenseurs un par un, remis en float32."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig
from gpt_lightning.weights import format as form
from gpt_lightning.weights import huggingface_template
from gpt_lightning.weights.gguf import tokenizer as gguf_tokenizer
from gpt_lightning.weights.gguf.architecture import config_from
from gpt_lightning.weights.gguf.header import Header, read_header
from gpt_lightning.weights.gguf.names import interleave, places
from gpt_lightning.weights.huggingface.names import fill

log = logging.getLogger("gpt_lightning")
NEEDS_EXTRA = "demande l'extra gguf : pip install -c constraints.txt -e '.[gguf]'."
CORPUS, PROMPTS, TEMPLATE = "general.dataset.0.name", "gpt_lightning.prompts", "tokenizer.chat_template"
_PLAIN = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<i2")}


def read(path: Path) -> tuple[form.Description, dict[str, Tensor]]:
    """La description d'un modèle et ses tenseurs, sous nos noms. UserError, qui dit pourquoi, s'il ne se lit pas."""
    header = read_header(path)
    config = config_from(header)
    tokenizer, why_not = gguf_tokenizer.read(header, config.vocab_size)
    corpus, prompts = header.get(CORPUS, str, ""), tuple(header.texts(PROMPTS))
    description = form.Description(config, tokenizer, prompts, corpus)
    if tokenizer is None:
        log.warning(f"{path} : son tokenizer ne se lit pas, {why_not} ; les poids se chargent, le texte non.")
    elif TEMPLATE in header.values:
        options = {**gguf_tokenizer.options(header), "chat_template": header.get(TEMPLATE, str, "")}
        description = huggingface_template.with_template(description, options)
    tensors = _Tensors(header, config)
    return description, fill(places(config), tensors, {name: name for name in tensors}, config)


class _Tensors(Mapping[str, Tensor]):
    """Les tenseurs d'un GGUF, en float32, chacun lu quand on le demande : jamais deux fois les poids."""

    def __init__(self, header: Header, config: GPTConfig) -> None:
        self._header, self._config = header, config

    def __getitem__(self, name: str) -> Tensor:
        shape, kind, start, length = self._header.entries[name]
        raw = np.fromfile(self._header.path, np.uint8, length, offset=start)
        if kind.name in _PLAIN:
            tensor = torch.from_numpy(raw.view(_PLAIN[kind.name]))
            tensor = tensor.view(torch.bfloat16) if kind.name == "BF16" else tensor
        else:
            tensor = torch.from_numpy(_dequantize(raw.reshape(*shape[:-1], -1), kind.name))
        tensor = tensor.reshape(shape).to(torch.float32)
        return interleave(tensor, name, self._header.architecture, self._config, undo=True)

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.entries)

    def __len__(self) -> int:
        return len(self._header.entries)


def _dequantize(raw: np.ndarray, kind: str) -> np.ndarray:
    try:
        import gguf
    except ImportError:
        raise UserError(f"le type {kind} {NEEDS_EXTRA}") from None
    with np.errstate(all="ignore"):  # une échelle abîmée est infinie, ou n'en est pas une
        return gguf.dequantize(raw, gguf.GGMLQuantizationType[kind])
