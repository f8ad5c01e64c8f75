"""Écrire un GGUF : les réglages, puis les tenseurs un par un, à côté de sa place, qu'il prend d'un coup."""

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gpt_lightning import durable
from gpt_lightning.errors import UserError, choice
from gpt_lightning.model import GPTModel, cost
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.tokenizers.template import Template
from gpt_lightning.weights import format as form
from gpt_lightning.weights.gguf import tokenizer as gguf_tokenizer
from gpt_lightning.weights.gguf.architecture import architecture_of, values_of
from gpt_lightning.weights.gguf.names import EMBEDDINGS, POSITIONS, interleave, places
from gpt_lightning.weights.gguf.reading import CORPUS, NEEDS_EXTRA, PROMPTS
from gpt_lightning.weights.huggingface.names import join, present
from gpt_lightning.wording import magnitude

if TYPE_CHECKING:
    import gguf

log = logging.getLogger("gpt_lightning")
BLOCK = 32  # nombres quantifiés ensemble
QUANTS = ("f16", "f32", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
_LICENCE = re.compile(r"\b(CC[ -](?:BY(?:-[A-Z]{2})*|0)(?: \d\.\d)?|MIT|Apache[- ]2\.0)\b")


def write(model: GPTModel, description: form.Description, to: Path, quant: str | None) -> None:
    """Écrit `model` dans le fichier `to`, ses matrices en `quant`. UserError si GGUF ne sait pas le dire.

    Une norme, un biais et les positions restent en float32 ; sous huit bits, l'embedding et la tête restent en q8_0.
    """
    quant = choice("quant", quant or QUANTS[0], QUANTS)
    try:
        import gguf
    except ImportError:
        raise UserError(f"format=gguf {NEEDS_EXTRA}") from None
    if description.labels:
        raise UserError("GGUF n'a pas de place pour une tête qui classe : format=hf l'écrit.")
    if description.tokenizer is None:
        raise UserError(
            "Un GGUF contient son tokenizer, et ce modèle ne dit pas le sien : format=hf s'en passe."
        )
    logging.getLogger("gguf").setLevel(
        logging.ERROR
    )  # il raconte ce qu'il écrit, et sous le nom du brouillon
    config, kind = model.config, architecture_of(model.config)
    _refuse_widths(model, quant, kind)
    writer = gguf.GGUFWriter(None, kind)
    _describe(writer, model, description)
    for key, value in values_of(config).items():
        if isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    _add_tokenizer(writer, description.tokenizer, description, config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if quant == "f32" else f"MOSTLY_{quant.upper()}"])
    if quant.startswith("q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, tensor in _tensors(model, kind):
        stored = gguf.GGMLQuantizationType[_type_of(name, tensor, quant)]
        size = math.prod(gguf.quant_shape_to_byte_shape(tensor.shape, stored))
        writer.add_tensor_info(name, tuple(tensor.shape), np.dtype(np.float32), size, stored)
    with durable.refusals(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    with durable.replacing(to) as beside, contextlib.closing(writer):
        writer.write_header_to_file(beside)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in _tensors(model, kind):
            stored = gguf.GGMLQuantizationType[_type_of(name, tensor, quant)]
            writer.write_tensor_data(gguf.quantize(tensor.float().numpy(), stored))


def _tensors(model: GPTModel, kind: str) -> Iterator[tuple[str, Tensor]]:
    """Les tenseurs sous leurs noms de GGUF, assemblés un par un."""
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if model.config.tie_weights:
        del state["out_head.weight"]  # la même matrice que tok_emb
    for place in present(places(model.config), state, model.config):
        yield place.theirs, interleave(join(place, state, model.config), place.theirs, kind, model.config)


def _type_of(name: str, tensor: Tensor, quant: str) -> str:
    """Le type d'un tenseur : celui de `quant` pour une matrice ; float16 si ses lignes ne se coupent pas en blocs."""
    if tensor.dim() < 2 or name == POSITIONS:
        return "F32"
    if quant.startswith("q") and tensor.shape[-1] % BLOCK:
        return "F16"
    return "Q8_0" if name in EMBEDDINGS and quant.startswith(("q4", "q5")) else quant.upper()


def _refuse_widths(model: GPTModel, quant: str, kind: str) -> None:
    """UserError si aucune matrice ne se coupe en blocs de 32 nombres, ou si un nombre ne tient pas en float16."""
    width = model.config.emb_dim
    if quant.startswith("q") and width % BLOCK:
        raise UserError(
            f"quant={quant} range les nombres par {BLOCK}, et une ligne d'ici en a {width} : quant=f16 les garde."
        )
    for name, tensor in _tensors(model, kind):
        if _type_of(name, tensor, quant) == "F16" and tensor.abs().max() > torch.finfo(torch.float16).max:
            raise UserError(
                f"quant={quant} ne contient pas les nombres de {name}, trop grands : prenez quant=bf16."
            )


def _describe(writer: "gguf.GGUFWriter", model: GPTModel, description: form.Description) -> None:
    """Ce qu'est ce modèle, ce qu'il a lu, et sous quelle licence."""
    parameters = magnitude(cost.n_parameters(model.config))
    writer.add_type("model")
    writer.add_name(f"gpt_lightning {parameters}")
    writer.add_description(f"Un GPT de {parameters} de paramètres, écrit par gpt_lightning.")
    if description.corpus:
        writer.add_uint32("general.dataset.count", 1)
        writer.add_string(CORPUS, description.corpus)
        if licence := _LICENCE.search(description.corpus):
            writer.add_license(licence[1].lower().replace(" ", "-"))
    if description.prompts:
        writer.add_array(PROMPTS, list(description.prompts))


def _add_tokenizer(
    writer: "gguf.GGUFWriter", tokenizer: Tokenizer, description: form.Description, vocab_size: int
) -> None:
    if tokenizer.eos_id is None:
        raise UserError(
            "Un GGUF dit toujours quel jeton finit un texte, et ce tokenizer n'en a pas : format=safetensors."
        )
    table, start = gguf_tokenizer.write(tokenizer, vocab_size), getattr(tokenizer, "bos_id", None)
    writer.add_tokenizer_model(table.model)
    writer.add_tokenizer_pre(table.pre)
    writer.add_token_list(table.tokens)
    writer.add_token_types(table.types)
    if table.scores:
        writer.add_token_scores(table.scores)
    if table.merges:
        writer.add_token_merges(table.merges)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_pad_token_id(tokenizer.eos_id)
    writer.add_bos_token_id(tokenizer.eos_id if start is None else start)
    writer.add_add_bos_token(start is not None)
    if description.template:
        writer.add_chat_template(Template(description.template, tokenizer).jinja())
    elif description.unknown_template:
        log.warning("Son gabarit de conversation n'est pas reconnu : ce GGUF n'en a pas.")
