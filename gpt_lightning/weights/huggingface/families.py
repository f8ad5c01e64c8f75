"""config.json, dans les deux sens : une famille est une table de ses clés, de ses défauts, et de ce qu'elle demande."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from gpt_lightning.errors import UserError, whole
from gpt_lightning.model import GPTConfig
from gpt_lightning.typing import JsonObject, State
from gpt_lightning.weights.huggingface.unsupported import refuse_traits, rope_base

log = logging.getLogger("gpt_lightning")


class Family(NamedTuple):
    """Un `model_type` de transformers.

    `keys` sont nos noms et les siens, `defaults` ce que vaut une clé absente, `needs` les valeurs que
    notre configuration peut avoir, `fixed` celles de ses clés à lui que nous savons lire ; la première est le défaut.
    """

    classes: str  # début du nom de ses classes
    keys: Mapping[str, str]
    defaults: JsonObject
    needs: Mapping[str, Sequence[object]]
    fixed: Mapping[str, Sequence[object]]


_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
_GPT2 = Family(
    "GPT2",
    {
        "vocab_size": "vocab_size",
        "context_length": "n_positions",
        "emb_dim": "n_embd",
        "n_heads": "n_head",
        "n_layers": "n_layer",
        "hidden_dim": "n_inner",
        "drop_rate": "resid_pdrop",
        "norm_eps": "layer_norm_epsilon",
        "tie_weights": "tie_word_embeddings",
    },
    {
        "n_positions": 1024,
        "n_inner": None,
        "resid_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    {
        "norm": ("layernorm",),
        "activation": ("gelu_tanh", "gelu"),
        "positions": ("learned",),
        "qk_norm": (False,),
        "n_kv_heads": (None,),
        "head_dim": (None,),
    },
    {
        "activation_function": tuple(_ACTIVATIONS),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
)
_SILU = ("silu", "swish")
_LLAMA = Family(
    "Llama",
    {
        "vocab_size": "vocab_size",
        "context_length": "max_position_embeddings",
        "emb_dim": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
        "n_kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "hidden_dim": "intermediate_size",
        "drop_rate": "attention_dropout",
        "norm_eps": "rms_norm_eps",
        "tie_weights": "tie_word_embeddings",
    },
    {
        "max_position_embeddings": 2048,
        "num_key_value_heads": None,
        "head_dim": None,
        "attention_dropout": 0.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
    {
        "norm": ("rmsnorm",),
        "activation": ("swiglu",),
        "positions": ("rope",),
        "bias": (False,),
        "qkv_bias": (False,),
        "qk_norm": (False,),
    },
    {"hidden_act": _SILU, "attention_bias": (False,), "mlp_bias": (False,)},
)
_QWEN = _LLAMA.defaults | {"max_position_embeddings": 32768, "num_key_value_heads": 32}
FAMILIES = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _LLAMA._replace(
        classes="Mistral",
        defaults=_LLAMA.defaults | {"max_position_embeddings": 131072, "num_key_value_heads": 8},
        fixed={"hidden_act": _SILU},
    ),
    "qwen2": _LLAMA._replace(
        classes="Qwen2",
        defaults=_QWEN,
        needs={**_LLAMA.needs, "qkv_bias": (True,)},
        fixed={"hidden_act": _SILU},
    ),
    "qwen3": _LLAMA._replace(
        classes="Qwen3",
        defaults=_QWEN | {"head_dim": 128},
        needs={**_LLAMA.needs, "qk_norm": (True,)},
        fixed={"hidden_act": _SILU, "attention_bias": (False,)},
    ),
}


def config_from(values: JsonObject, path: Path) -> GPTConfig:
    """La configuration de config.json. UserError, qui nomme ce qu'il a de plus, si ce modèle ne sait pas l'être."""
    kind = str(values.get("model_type"))
    family = FAMILIES.get(kind)
    refuse_traits(values, (family or _LLAMA).fixed, path)
    if family is None:
        raise UserError(f"{path} décrit une architecture {kind[:40]!r} : on lit {', '.join(FAMILIES)}.")
    values = {**family.defaults, **values}
    missing = [theirs for theirs in family.keys.values() if theirs not in values]
    if missing:
        raise UserError(f"{path} décrit un {kind} et ne dit pas {', '.join(missing)}.")
    fields: State = {name: choices[0] for name, choices in family.needs.items()}
    fields |= {ours: values[theirs] for ours, theirs in family.keys.items()}
    if kind == "gpt2":
        fields["activation"] = _ACTIVATIONS[values.get("activation_function", "gelu_new")]
    else:
        fields["rope_base"] = rope_base(values)
        fields["context_length"] = _cut_to_window(kind, values, path)
    return canonical(GPTConfig(**fields))


def canonical(config: GPTConfig) -> GPTConfig:
    """`config`, où ce qui se déduit du reste est null."""
    values = asdict(config)
    shares = config.emb_dim == config.n_heads * config.head_width
    values["n_kv_heads"] = None if config.kv_heads == config.n_heads else config.kv_heads
    values["head_dim"] = None if shares else config.head_width
    bare = GPTConfig(**{**values, "hidden_dim": None})
    return bare if bare.hidden_width == config.hidden_width else GPTConfig(**values)


def _cut_to_window(kind: str, values: JsonObject, path: Path) -> int:
    """Le contexte, coupé à la fenêtre glissante si une couche s'en sert : jusque-là, elle voit tout."""
    context = whole(f"{path} : max_position_embeddings", values["max_position_embeddings"])
    window = values.get("sliding_window", 4096) if kind != "llama" else None
    if kind.startswith("qwen"):
        types = values.get("layer_types")
        layers = values["num_hidden_layers"] - values.get("max_window_layers", 28)
        slides = layers > 0 if types is None else "sliding_attention" in types
        window = window if slides and values.get("use_sliding_window") else None
    if window is None or whole(f"{path} : sliding_window", window) >= context:
        return context
    log.warning(
        f"{path} : ses couches ne voient que {window} jetons en arrière (sliding_window), et celles d'ici n'ont pas de "
        f"fenêtre : model.context_length={window} au lieu de {context}."
    )
    return int(window)


def family_of(config: GPTConfig) -> str:
    """Le `model_type` de cette configuration ; UserError, qui nomme ce qu'il faudrait changer, si aucun ne l'est."""
    needs = {name: family.needs for name, family in FAMILIES.items()}
    closest = nearest(config, needs, "Aucune famille de Hugging Face n'est ce modèle")
    if closest == "llama" and config.emb_dim % config.n_heads:
        return "mistral"  # le même modèle, à qui transformers permet une tête de largeur quelconque
    return closest


def nearest(config: GPTConfig, needs: Mapping[str, Mapping[str, Sequence[object]]], sentence: str) -> str:
    """Celle des familles, dont `needs` dit ce qu'elles demandent, qui est cette configuration.

    UserError, qui commence par `sentence` et nomme ce qu'il faudrait changer, si aucune ne l'est.
    """
    by_family = {name: _mismatches(config, needed) for name, needed in needs.items()}
    closest = min(by_family, key=lambda name: len(by_family[name]))
    if changes := by_family[closest]:
        raise UserError(
            f"{sentence} : {closest}, la plus proche, demande {', '.join(changes)} ; format=safetensors garde tout."
        )
    return closest


def _mismatches(config: GPTConfig, needs: Mapping[str, Sequence[object]]) -> list[str]:
    """Ce qu'il faudrait changer à `config` pour être de cette famille."""
    values = asdict(canonical(config))
    return [
        f"model.{key}={_spell(choices[0])} au lieu de model.{key}={_spell(values[key])}"
        for key, choices in needs.items()
        if values[key] not in choices
    ]


def _spell(value: object) -> str:
    """Une valeur telle qu'on la tape."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def config_to(config: GPTConfig, eos_id: int | None, labels: Sequence[str] = ()) -> JsonObject:
    """config.json de cette configuration ; avec des étiquettes, celui d'un modèle qui classe.

    UserError qui nomme ce qu'aucune famille n'a.
    """
    kind = family_of(config)
    family = FAMILIES[kind]
    widths = {"n_kv_heads": config.kv_heads, "head_dim": config.head_width, "hidden_dim": config.hidden_width}
    values = {**asdict(config), **widths}
    task = "ForSequenceClassification" if labels else "LMHeadModel" if kind == "gpt2" else "ForCausalLM"
    classifies = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: rank for rank, label in enumerate(labels)},
        "pad_token_id": eos_id,  # ce qui complète un lot : le dernier jeton qui n'en est pas est lu
    }
    if kind == "gpt2":
        own: JsonObject = {
            "activation_function": "gelu_new" if config.activation == "gelu_tanh" else "gelu",
            "embd_pdrop": config.drop_rate,
            "attn_pdrop": config.drop_rate,
        }
    else:
        own = {"rope_theta": config.rope_base}
        own |= {} if kind == "llama" else {"sliding_window": None}
        own |= {"use_sliding_window": False} if kind.startswith("qwen") else {}
    return {
        "model_type": kind,
        "architectures": [family.classes + task],
        **(classifies if labels else {}),
        **{theirs: values[ours] for ours, theirs in family.keys.items()},
        **{key: choices[0] for key, choices in family.fixed.items()},
        **own,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
    }


def labels_of(values: JsonObject, theirs: Mapping[str, Tensor], path: Path) -> tuple[str, ...]:
    """Les étiquettes d'un ...ForSequenceClassification, dans l'ordre de ses lignes ; rien pour un autre modèle."""
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
