"""Écrire des poids pour d'autres outils : un dossier de Hugging Face, de peft ou safetensors, un GGUF."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gpt_lightning import durable
from gpt_lightning.errors import UserError, choice
from gpt_lightning.model import GPTConfig, GPTModel, cost
from gpt_lightning.model.trainable import is_added
from gpt_lightning.tokenizers import (
    ByteLevelTokenizer,
    ChatTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
    TrainedTokenizer,
    huggingface_files,
    merges_of,
)
from gpt_lightning.tokenizers.chat import MARKS
from gpt_lightning.tokenizers.special import exported_options
from gpt_lightning.tokenizers.template import Template
from gpt_lightning.weights import format as form
from gpt_lightning.weights import gguf, huggingface, huggingface_tokenizer, peft
from gpt_lightning.weights.gguf import tokenizer as gguf_tokenizer
from gpt_lightning.wording import magnitude

log = logging.getLogger("gpt_lightning")
FORMATS = ("hf", "safetensors", "lora", "peft", "gguf")
APART = ("lora", "peft")  # ils n'écrivent que des adaptateurs
ADAPTERS = "adapters.safetensors"


def export(
    model: GPTModel,
    tokenizer: Tokenizer | None,
    to: Path,
    kind: str,
    description: form.Description | None = None,
    *,
    adapted: Mapping[str, Tensor] | None = None,
    merge: bool | None = None,
    quant: str | None = None,
) -> list[str]:
    """Écrit `model` et son tokenizer dans le dossier `to`, au format `kind` ; renvoie le nom des fichiers écrits.

    Au format gguf, `to` est un fichier, et `quant` le type de ses matrices.

    `description` est celle de la source des poids, `adapted` ses tenseurs avant que ses adaptateurs n'y soient
    ajoutés ; `merge` ajoute ses adaptateurs aux matrices (None : oui, sauf pour lora et peft, qui n'écrivent qu'eux).

    UserError si le format est inconnu, ne va pas à ce modèle ou à `merge`, si le dossier contient déjà un modèle, ou si
    le disque refuse ; il n'en reste alors rien.
    """
    choice("format", kind, FORMATS)
    choice("merge", merge, (None, True, False))
    _refuse_adapters(adapted is not None, kind, merge)
    _refuse_places(to, kind, quant)
    description = description or form.Description(model.config, tokenizer)
    apart = kind in APART or merge is False
    if not apart:
        description = description._replace(lora=None, base="", base_source="")
    if kind == "gguf":
        gguf.write(model, description, to, quant)
        return [to.name]
    tensors = adapted if apart and adapted is not None else model.state_dict()
    with durable.filling(to) as beside:  # tout, ou rien
        if kind == "hf":
            names = _write_huggingface(model, description, beside)
        elif kind == "peft":
            names = _write_peft(tensors, description, beside)
        else:
            names = _write_safetensors(tensors, description, beside, alone=kind == "lora")
        if isinstance(description.tokenizer, TrainedTokenizer):
            names += [path.name for path in description.tokenizer.save(beside)]
        card = _card(description) + (_peft_card(description.base_source) if kind == "peft" else "")
        (beside / "README.md").write_text(card, encoding="utf-8")
    return [*names, "README.md"]


def _refuse_places(to: Path, kind: str, quant: str | None) -> None:
    if kind != "gguf":
        if quant is not None:
            raise UserError(
                f"quant= ne sert qu'à format=gguf ou format=page : retirez-le, ou prenez format=gguf to={to}.gguf."
            )
        if huggingface.weights_of(to) or any((to / name).exists() for name in (ADAPTERS, peft.WEIGHTS)):
            raise UserError(f"{to} contient déjà un modèle : choisissez un autre dossier avec to=.")
    elif to.suffix != ".gguf":
        raise UserError(f"format=gguf écrit un fichier : to={to}.gguf.")
    elif to.exists():
        raise UserError(f"{to} existe déjà : choisissez un autre nom avec to=.")


def _refuse_adapters(has_some: bool, kind: str, merge: bool | None) -> None:
    if not has_some:
        if kind in APART or merge is not None:
            asked = f"format={kind}" if kind in APART else f"merge={str(merge).lower()}"
            raise UserError(
                f"{asked} demande des adaptateurs, et ce modèle n'en a pas : train.py lora=default en apprend."
            )
    elif kind in APART and merge:
        raise UserError(
            f"format={kind} écrit les adaptateurs à part : retirez merge=true, ou prenez format=safetensors."
        )
    elif kind in ("hf", "gguf") and merge is False:
        raise UserError(
            f"format={kind} n'a pas de place pour des adaptateurs : merge=true, ou format=peft, lora ou safetensors."
        )


def _card(description: form.Description) -> str:
    """La carte du modèle : ce qu'il est, ce qu'il a lu, et sous quelle licence."""
    config, lora = description.config, description.lora
    parameters = magnitude(cost.n_parameters(config))
    corpus = description.corpus or "inconnu de ce fichier"
    adapted = ""
    if lora is not None:
        adapted = (
            f"Adaptateurs LoRA de rang {lora.rank} sur {', '.join(lora.modules)}, appris sur le modèle "
            f"d'empreinte {description.base} ({description.base_source or 'origine inconnue'}).\n\n"
        )
    if description.labels:
        adapted += f"Il classe un texte : {', '.join(description.labels)}.\n\n"
    return (
        f"# Un GPT de {parameters} de paramètres\n\n"
        f"Écrit par gpt_lightning : {config.n_layers} couches, largeur {config.emb_dim}, contexte de "
        f"{config.context_length} jetons, vocabulaire de {config.vocab_size}.\n\n"
        f"{adapted}Corpus d'entraînement : {corpus}.\n"
    )


def _peft_card(source: str) -> str:
    """Comment poser ces adaptateurs sur leur base, par peft puis ici ; `source` est l'endroit d'où elle venait."""
    base = peft.findable(source)
    asked = source or "sa_base"
    first = "" if base else f"python -m gpt_lightning export ckpt_path={asked} format=hf to=base\n"
    return (
        f"\n```bash\n{first}python -m gpt_lightning generate ckpt_path=ce_dossier base_path={asked}\n```\n\n"
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base or "base"}")\n'
        'model = PeftModel.from_pretrained(base, "ce_dossier")\n```\n'
    )


def _tensors(state: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    if config.tie_weights:
        tensors.pop("out_head.weight", None)  # la même matrice que tok_emb
    return tensors


def _write_safetensors(
    state: Mapping[str, Tensor], description: form.Description, to: Path, *, alone: bool
) -> list[str]:
    from safetensors.torch import save_file

    tensors = _tensors(state, description.config)
    if alone:
        tensors = {name: tensor for name, tensor in tensors.items() if is_added(name)}
    name = ADAPTERS if alone else huggingface.WEIGHTS
    text = json.dumps(form.describe(description), ensure_ascii=False, indent=1)
    save_file(tensors, to / name, metadata={form.KEY: text})
    (to / f"{form.KEY}.json").write_text(text, encoding="utf-8")
    return [name, f"{form.KEY}.json"]


def _write_huggingface(model: GPTModel, description: form.Description, to: Path) -> list[str]:
    from safetensors.torch import save_file

    tokenizer = description.tokenizer
    config = huggingface.config_to(model.config, tokenizer.eos_id if tokenizer else None, description.labels)
    config["torch_dtype"] = str(model.tok_emb.weight.dtype).removeprefix("torch.")
    files = {huggingface.CONFIG: config, f"{form.KEY}.json": form.describe(description)}
    texts = {name: json.dumps(content, ensure_ascii=False, indent=1) for name, content in files.items()}
    if tokenizer is not None:
        texts |= _tokenizer_files(tokenizer, description)
    state = huggingface.state_to(_tensors(model.state_dict(), model.config), model.config)
    save_file(state, to / huggingface.WEIGHTS, metadata={"format": "pt"})
    for name, text in texts.items():
        (to / name).write_text(text, encoding="utf-8")
    return [huggingface.WEIGHTS, *texts]


def _write_peft(state: Mapping[str, Tensor], description: form.Description, to: Path) -> list[str]:
    from safetensors.torch import save_file

    huggingface.family_of(description.config)  # sans elle, transformers n'a pas de base où les poser
    if description.labels:
        raise UserError(
            "format=peft n'a pas de place pour une tête de classification : format=lora la garde."
        )
    assert description.lora is not None
    values, tensors = peft.write_to(state, description.config, description.lora, description.base_source)
    save_file(tensors, to / peft.WEIGHTS, metadata={"format": "pt"})
    files = {peft.CONFIG: values, f"{form.KEY}.json": form.describe(description)}
    texts = {name: json.dumps(content, ensure_ascii=False, indent=1) for name, content in files.items()}
    if description.tokenizer is not None:
        texts |= _tokenizer_files(description.tokenizer, description)
    for name, text in texts.items():
        (to / name).write_text(text, encoding="utf-8")
    return [peft.WEIGHTS, *texts]


def _tokenizer_files(tokenizer: Tokenizer, description: form.Description) -> dict[str, str]:
    """Les fichiers du tokenizer et du gabarit, tels qu'AutoTokenizer les lit ; aucun s'il ne sait pas l'être."""
    marks = MARKS if isinstance(tokenizer, ChatTokenizer) else ()
    base = tokenizer.base if isinstance(tokenizer, ChatTokenizer) else tokenizer
    if isinstance(base, HuggingFaceTokenizer):
        files = {huggingface_tokenizer.JSON: base.file()}
    elif (merges := merges_of(tokenizer)) is not None:
        files = huggingface_files(merges, marks)
    elif isinstance(base, ByteLevelTokenizer):
        values = gguf_tokenizer.file_of(tokenizer)
        # un jeton ajouté que le vocabulaire n'a pas y prendrait un autre identifiant
        values["model"]["vocab"] |= {added["content"]: added["id"] for added in values["added_tokens"]}
        files = {huggingface_tokenizer.JSON: json.dumps(values, ensure_ascii=False)}
    else:
        kind = tokenizer.state()["kind"]
        log.warning(f"Le tokenizer {kind} n'a pas de fichier que transformers lise : ce dossier n'en a pas.")
        return {}
    options = exported_options(tokenizer)
    if description.labels and "eos_token" in options:
        options["pad_token"] = options["eos_token"]
    if description.template:
        options["chat_template"] = Template(description.template, tokenizer).jinja()
    elif description.unknown_template:
        log.warning(
            "Son gabarit de conversation n'est pas reconnu : ce dossier n'en a pas, copiez-y le sien."
        )
    options["model_max_length"] = description.config.context_length
    text = json.dumps(options, ensure_ascii=False, indent=1)
    return {**files, huggingface_tokenizer.OPTIONS: text}
