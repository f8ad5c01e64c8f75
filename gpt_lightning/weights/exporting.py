"""Écrire des poids pour ailleurs : un dossier de Hugging Face, ou un fichier safetensors."""

import json
from pathlib import Path
from typing import Any

from gpt_lightning import durable, messages
from gpt_lightning.errors import UserError, choice
from gpt_lightning.model import GPTModel, cost
from gpt_lightning.tokenizers import (
    END_OF_TEXT,
    ChatTokenizer,
    Tokenizer,
    TrainedTokenizer,
    huggingface_files,
    merges_of,
)
from gpt_lightning.tokenizers.chat import MARKS
from gpt_lightning.tokenizers.template import jinja
from gpt_lightning.weights import format as form
from gpt_lightning.weights import huggingface

FORMATS = ("hf", "safetensors")


def export(
    model: GPTModel,
    tokenizer: Tokenizer | None,
    to: Path,
    kind: str,
    known: form.Description | None = None,
) -> list[str]:
    """Écrit `model` et son tokenizer dans le dossier `to`, au format hf ou safetensors ; rend les fichiers écrits.

    `known` est ce que la source des poids disait d'elle. UserError si le format est inconnu, si le dossier contient
    déjà un modèle, si le modèle a une option que le format n'a pas, ou si le disque refuse ; il n'en reste alors rien.
    """
    choice("format", kind, FORMATS)
    if (to / huggingface.WEIGHTS).exists():
        raise UserError(f"{to} contient déjà un modèle : choisissez un autre dossier avec to=.")
    known = known or form.Description(model.config, tokenizer)
    write = _huggingface if kind == "hf" else _safetensors
    with durable.filling(to) as beside:  # tout, ou rien
        written = write(model, tokenizer, form.describe(known), beside)
        if isinstance(tokenizer, TrainedTokenizer):
            written += [path.name for path in tokenizer.save(beside)]
        (beside / "README.md").write_text(_card(known), encoding="utf-8")
    return [*written, "README.md"]


def _card(known: form.Description) -> str:
    """La carte du modèle : ce qu'il est, ce qu'il a lu, et sous quelle licence."""
    parameters = messages.magnitude(cost.n_parameters(known.config))
    corpus = known.corpus or "inconnu de ce fichier"
    return (
        f"# Un GPT de {parameters} de paramètres\n\n"
        f"Écrit par gpt_lightning : {known.config.n_layers} couches, largeur {known.config.emb_dim}, contexte de "
        f"{known.config.context_length} jetons, vocabulaire de {known.config.vocab_size}.\n\n"
        f"Corpus d'entraînement : {corpus}.\n"
    )


def _tensors(model: GPTModel) -> dict:
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_weights:
        del state["out_head.weight"]  # la même matrice que tok_emb
    return state


def _safetensors(
    model: GPTModel, tokenizer: Tokenizer | None, description: dict[str, Any], to: Path
) -> list[str]:
    from safetensors.torch import save_file

    text = json.dumps(description, ensure_ascii=False, indent=1)
    save_file(_tensors(model), to / huggingface.WEIGHTS, metadata={form.KEY: text})
    (to / f"{form.KEY}.json").write_text(text, encoding="utf-8")
    return [huggingface.WEIGHTS, f"{form.KEY}.json"]


def _huggingface(
    model: GPTModel, tokenizer: Tokenizer | None, description: dict[str, Any], to: Path
) -> list[str]:
    from safetensors.torch import save_file

    config = huggingface.config_to(model.config, tokenizer.eos_id if tokenizer else None)
    files = {huggingface.CONFIG: config, f"{form.KEY}.json": description}
    texts = {name: json.dumps(content, ensure_ascii=False, indent=1) for name, content in files.items()}
    if merges := merges_of(tokenizer):
        special = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": model.config.context_length}
        special |= {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "unk")}
        marks = MARKS if isinstance(tokenizer, ChatTokenizer) else ()
        if marks:
            special |= {"eos_token": marks[1], "additional_special_tokens": list(marks)}
        if description.get("template"):
            special["chat_template"] = jinja(description["template"])
        texts |= huggingface_files(merges, marks) | {"tokenizer_config.json": json.dumps(special, indent=1)}
    state = huggingface.state_to(_tensors(model), model.config)
    save_file(state, to / huggingface.WEIGHTS, metadata={"format": "pt"})
    for name, text in texts.items():
        (to / name).write_text(text, encoding="utf-8")
    return [huggingface.WEIGHTS, *texts]
