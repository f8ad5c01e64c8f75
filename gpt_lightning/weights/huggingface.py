"""GPT-2 au format de Hugging Face : une table de noms, lue dans les deux sens.

Le dossier contient config.json et model.safetensors (ou son index, s'il est en fragments, ou pytorch_model.bin).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig
from gpt_lightning.typing import JsonObject

CONFIG, WEIGHTS, INDEX, PICKLED = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
# nom ici, nom chez Hugging Face, transposé (leur Conv1D range ses poids dans l'autre sens)
_TOP = [
    ("tok_emb.weight", "transformer.wte.weight", False),
    ("pos_emb.weight", "transformer.wpe.weight", False),
    ("final_norm.scale", "transformer.ln_f.weight", False),
    ("final_norm.shift", "transformer.ln_f.bias", False),
    ("out_head.weight", "lm_head.weight", False),
    ("class_head.weight", "score.weight", False),
]
_BLOCK = [
    ("norm1.scale", "ln_1.weight", False),
    ("norm1.shift", "ln_1.bias", False),
    ("att.out_proj.weight", "attn.c_proj.weight", True),
    ("att.out_proj.bias", "attn.c_proj.bias", False),
    ("norm2.scale", "ln_2.weight", False),
    ("norm2.shift", "ln_2.bias", False),
    ("ff.layers.0.weight", "mlp.c_fc.weight", True),
    ("ff.layers.0.bias", "mlp.c_fc.bias", False),
    ("ff.layers.2.weight", "mlp.c_proj.weight", True),
    ("ff.layers.2.bias", "mlp.c_proj.bias", False),
]
_QKV = ("att.W_query", "att.W_key", "att.W_value")  # joints dans attn.c_attn
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
# ce que GPT-2 de Hugging Face sait faire et que ce modèle ne fait pas
_UNSUPPORTED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "layer_norm_epsilon": 1e-5,
}


def names(config: GPTConfig) -> list[tuple[str, str, bool]]:
    """La table complète pour cette configuration : (nom ici, nom chez Hugging Face, transposé)."""
    table = list(_TOP)
    for layer in range(config.n_layers):
        table += [
            (f"trf_blocks.{layer}.{ours}", f"transformer.h.{layer}.{theirs}", t) for ours, theirs, t in _BLOCK
        ]
    return table


def config_from(values: JsonObject, path: Path) -> GPTConfig:
    """La configuration de config.json. UserError si ce n'est pas un GPT-2 que ce modèle sait être."""
    if values.get("model_type") != "gpt2":
        raise UserError(
            f"{path} décrit une architecture {values.get('model_type')!r} : seul gpt2 se lit ici."
        )
    for key, only in _UNSUPPORTED.items():
        if values.get(key, only) != only:
            raise UserError(f"{path} : {key}={values[key]} n'existe pas dans ce modèle.")
    activation = values.get("activation_function", "gelu_new")
    if activation not in _ACTIVATIONS:
        raise UserError(f"{path} : l'activation {activation} n'existe pas dans ce modèle.")
    if values.get("n_inner") not in (None, 4 * values["n_embd"]):
        raise UserError(f"{path} : n_inner={values['n_inner']}, ce modèle n'a que 4 x n_embd.")
    return GPTConfig(
        vocab_size=values["vocab_size"],
        context_length=values.get("n_positions", 1024),
        emb_dim=values["n_embd"],
        n_heads=values["n_head"],
        n_layers=values["n_layer"],
        drop_rate=float(values.get("resid_pdrop", 0.1)),
        tie_weights=values.get("tie_word_embeddings", True),
        activation=_ACTIVATIONS[activation],
    )


def config_to(config: GPTConfig, eos_id: int | None, labels: Sequence[str] = ()) -> JsonObject:
    """config.json de cette configuration ; avec des étiquettes, celui d'un GPT2ForSequenceClassification.

    UserError qui nomme ce que GPT-2 n'a pas.
    """
    absent = [
        f"model.{key}={getattr(config, key)}"
        for key, values in (
            ("norm", ("layernorm",)),
            ("activation", ("gelu_tanh", "gelu")),
            ("positions", ("learned",)),
        )
        if getattr(config, key) not in values
    ]
    if absent:
        raise UserError(
            f"GPT-2 n'a pas {', '.join(absent)} : pas d'export format=hf ; format=safetensors garde tout."
        )
    classifies = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: rank for rank, label in enumerate(labels)},
        "pad_token_id": eos_id,  # ce qui complète un lot : le dernier jeton qui n'en est pas est lu
    }
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2ForSequenceClassification" if labels else "GPT2LMHeadModel"],
        **(classifies if labels else {}),
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.emb_dim,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "activation_function": "gelu_new" if config.activation == "gelu_tanh" else "gelu",
        "resid_pdrop": config.drop_rate,
        "embd_pdrop": config.drop_rate,
        "attn_pdrop": config.drop_rate,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
    }


def labels_of(values: JsonObject, theirs: dict[str, Tensor], path: Path) -> tuple[str, ...]:
    """Les étiquettes d'un GPT2ForSequenceClassification, dans l'ordre de ses lignes ; rien pour un autre modèle."""
    if "score.weight" not in theirs:
        return ()
    count, given = len(theirs["score.weight"]), values.get("id2label")
    by_rank = {str(rank): str(label) for rank, label in given.items()} if isinstance(given, dict) else {}
    labels = tuple(by_rank.get(str(rank), f"LABEL_{rank}") for rank in range(count))
    if count < 2 or len(set(labels)) < count:
        raise UserError(
            f"{path} : {count} notes par texte, nommées {', '.join(labels[:8])} : ce n'est pas classer."
        )
    return labels


def state_from(theirs: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Met les tenseurs de Hugging Face sous nos noms ; laisse ce que `config` n'a pas (des biais nuls)."""
    theirs = {_with_prefix(name): tensor for name, tensor in theirs.items()}
    state = {
        ours: theirs[name].T.contiguous() if transposed else theirs[name]
        for ours, name, transposed in names(config)
        if name in theirs
    }
    for layer in range(config.n_layers):
        for kind in ("weight", "bias"):
            joined = theirs.get(f"transformer.h.{layer}.attn.c_attn.{kind}")
            if joined is not None:
                parts = joined.chunk(3, dim=-1)
                for name, part in zip(_QKV, parts, strict=True):
                    state[f"trf_blocks.{layer}.{name}.{kind}"] = (
                        part.T if kind == "weight" else part
                    ).contiguous()
    return state


def _with_prefix(name: str) -> str:
    """Les fichiers de GPTModel n'ont pas le préfixe `transformer.` de GPT2LMHeadModel."""
    return name if name.startswith(("transformer.", "lm_head.", "score.")) else f"transformer.{name}"


def state_to(state: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Met nos tenseurs sous les noms de Hugging Face ; un biais absent devient des zéros, qui ne changent rien."""
    size = config.emb_dim
    theirs = {}
    for ours, name, transposed in names(config):
        if ours == "out_head.weight" and config.tie_weights:
            continue
        tensor = state.get(ours)
        if ours == "class_head.weight" and tensor is None:
            continue
        if tensor is None:
            tensor = torch.zeros(4 * size if ours.endswith("layers.0.bias") else size)
        if ours in ("tok_emb.weight", "out_head.weight"):
            tensor = tensor[: config.vocab_size]  # sans les lignes de remplissage
        theirs[name] = (tensor.T if transposed else tensor).contiguous()
    for layer in range(config.n_layers):
        for kind in ("weight", "bias"):
            parts = [state.get(f"trf_blocks.{layer}.{name}.{kind}", torch.zeros(size)) for name in _QKV]
            theirs[f"transformer.h.{layer}.attn.c_attn.{kind}"] = (
                torch.cat(parts).T.contiguous() if kind == "weight" else torch.cat(parts)
            )
    return theirs


def read_folder(folder: Path) -> tuple[JsonObject, dict[str, Tensor]]:
    """Lit config.json et les tenseurs d'un dossier, fragments réunis. UserError s'il manque un fichier."""
    from safetensors.torch import load_file

    from gpt_lightning.weights.untrusted import read_json, read_torch, reading, regular

    values = read_json(folder / CONFIG)
    kinds = (INDEX, WEIGHTS, f"{PICKLED}.index.json", PICKLED)  # les safetensors d'abord
    weights = next((name for name in kinds if (folder / name).exists()), None)
    if weights is None:
        raise UserError(f"{folder} n'a ni {WEIGHTS}, ni {INDEX}, ni {PICKLED}.")
    shards = [weights]
    if weights.endswith(".json"):
        shards = sorted({str(shard) for shard in read_json(folder / weights)["weight_map"].values()})
        outside = next((shard for shard in shards if Path(shard).name != shard), None)
        if outside is not None:
            raise UserError(f"{folder / weights} nomme {outside}, hors de son dossier.")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        regular(folder / shard)
        if shard.endswith(".bin"):
            tensors |= read_torch(folder / shard)
        else:
            with reading(folder / shard):
                tensors |= load_file(folder / shard)
    return values, tensors


def download(name: str) -> Path:
    """Télécharge le modèle `name` (organisation/modèle) du hub, et renvoie son dossier.

    UserError sans l'extra, ou sans réseau.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError("hf: demande l'extra hf : pip install -c constraints.txt -e '.[hf]'.") from None
    patterns = [CONFIG, "model*.safetensors", INDEX, *TOKENIZER_FILES]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if not any(folder.glob("model*.safetensors")):  # un vieux dépôt n'a que des .bin
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, "pytorch_model*.bin*"]))
        return folder
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"hf:{name} ne se télécharge pas ({type(error).__name__}) : vérifiez le nom et le réseau, "
            f"ou donnez un dossier local."
        ) from None
