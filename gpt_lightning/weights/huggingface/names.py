"""Les tenseurs, dans les deux sens : une table de noms pour GPT-2, une pour Llama et les siens."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig


class Place(NamedTuple):
    """Un tenseur de Hugging Face, les nôtres qu'il contient, l'un après l'autre, et s'il est couché sur le côté."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


_QKV = ("att.W_query", "att.W_key", "att.W_value")
_GPT2_TOP = [
    Place("transformer.wte.weight", ("tok_emb.weight",)),
    Place("transformer.wpe.weight", ("pos_emb.weight",)),
    Place("transformer.ln_f.weight", ("final_norm.scale",)),
    Place("transformer.ln_f.bias", ("final_norm.shift",)),
]
# leur Conv1D range ses poids dans l'autre sens
_GPT2_BLOCK = [
    Place("ln_1.weight", ("norm1.scale",)),
    Place("ln_1.bias", ("norm1.shift",)),
    Place("attn.c_attn.weight", tuple(f"{name}.weight" for name in _QKV), True),
    Place("attn.c_attn.bias", tuple(f"{name}.bias" for name in _QKV)),
    Place("attn.c_proj.weight", ("att.out_proj.weight",), True),
    Place("attn.c_proj.bias", ("att.out_proj.bias",)),
    Place("ln_2.weight", ("norm2.scale",)),
    Place("ln_2.bias", ("norm2.shift",)),
    Place("mlp.c_fc.weight", ("ff.layers.0.weight",), True),
    Place("mlp.c_fc.bias", ("ff.layers.0.bias",)),
    Place("mlp.c_proj.weight", ("ff.layers.2.weight",), True),
    Place("mlp.c_proj.bias", ("ff.layers.2.bias",)),
]
_LLAMA_TOP = [
    Place("model.embed_tokens.weight", ("tok_emb.weight",)),
    Place("model.norm.weight", ("final_norm.scale",)),
]
_LLAMA_BLOCK = [
    Place("input_layernorm.weight", ("norm1.scale",)),
    Place("self_attn.q_proj.weight", ("att.W_query.weight",)),
    Place("self_attn.q_proj.bias", ("att.W_query.bias",)),
    Place("self_attn.k_proj.weight", ("att.W_key.weight",)),
    Place("self_attn.k_proj.bias", ("att.W_key.bias",)),
    Place("self_attn.v_proj.weight", ("att.W_value.weight",)),
    Place("self_attn.v_proj.bias", ("att.W_value.bias",)),
    Place("self_attn.q_norm.weight", ("att.q_norm.scale",)),
    Place("self_attn.k_norm.weight", ("att.k_norm.scale",)),
    Place("self_attn.o_proj.weight", ("att.out_proj.weight",)),
    Place("post_attention_layernorm.weight", ("norm2.scale",)),
    Place("mlp.gate_proj.weight", ("ff.gate.weight",)),
    Place("mlp.up_proj.weight", ("ff.layers.0.weight",)),
    Place("mlp.down_proj.weight", ("ff.layers.2.weight",)),
]
_HEADS = [Place("lm_head.weight", ("out_head.weight",)), Place("score.weight", ("class_head.weight",))]
# des tampons que d'anciennes versions enregistraient : ni appris, ni lus ici
BUFFERS = re.compile(r".*(\.attn\.(masked_)?bias|\.rotary_emb\.inv_freq)")


def places(config: GPTConfig) -> list[Place]:
    """La table complète pour cette configuration."""
    is_gpt2 = config.positions == "learned"
    top, block, prefix = (
        (_GPT2_TOP, _GPT2_BLOCK, "transformer.h") if is_gpt2 else (_LLAMA_TOP, _LLAMA_BLOCK, "model.layers")
    )
    return [*top, *_HEADS] + [
        Place(
            f"{prefix}.{layer}.{place.theirs}",
            tuple(f"trf_blocks.{layer}.{name}" for name in place.ours),
            place.transposed,
        )
        for layer in range(config.n_layers)
        for place in block
    ]


def state_from(theirs: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Met les tenseurs de Hugging Face sous nos noms, lus et rangés un par un.

    UserError sur un tenseur qui n'a pas de place ici, sauf des biais nuls : rien n'est laissé en silence.
    """
    return fill(places(config), theirs, {with_prefix(name, config): name for name in theirs}, config)


def fill(
    table: Sequence[Place], theirs: Mapping[str, Tensor], by_name: dict[str, str], config: GPTConfig
) -> dict[str, Tensor]:
    """Met les tenseurs `theirs` à leur place de `table` ; `by_name` donne leur nom, d'après celui de la table."""
    state: dict[str, Tensor] = {}
    for place in table:
        if place.theirs not in by_name or not all(_belongs(name, config) for name in place.ours):
            continue
        tensor = theirs[by_name.pop(place.theirs)]
        parts = (tensor.T if place.transposed else tensor).chunk(len(place.ours))
        if place.transposed or len(parts) > 1:
            parts = tuple(part.clone(memory_format=torch.contiguous_format) for part in parts)
        state |= zip(place.ours, parts, strict=True)
    if config.tie_weights and "tok_emb.weight" in state:
        state["out_head.weight"] = state["tok_emb.weight"]
    for name, given in by_name.items():
        tied = name == "lm_head.weight" and config.tie_weights
        if not (tied or BUFFERS.fullmatch(name) or (name.endswith("bias") and not theirs[given].any())):
            raise UserError(f"le tenseur {given} n'a pas de place dans ce modèle.")
    return state


def matrices(config: GPTConfig) -> dict[str, tuple[str, ...]]:
    """Les couches qui ont un poids, et les nôtres que chacune contient."""
    return {
        place.theirs.removesuffix(".weight"): tuple(name.removesuffix(".weight") for name in place.ours)
        for place in places(config)
        if place.theirs.endswith(".weight")
    }


def with_prefix(name: str, config: GPTConfig) -> str:
    """Les fichiers d'un modèle sans tête n'ont pas le préfixe de celui qui en a une."""
    base = "transformer." if config.positions == "learned" else "model."
    return name if name.startswith((base, "lm_head.", "score.")) else f"{base}{name}"


def _belongs(name: str, config: GPTConfig) -> bool:
    """Vrai si un modèle de cette configuration a le paramètre `name`, d'une des tables."""
    if name.endswith((".bias", ".shift")):
        return config.qkv_bias if ".W_" in name else config.bias
    if name.endswith(("q_norm.scale", "k_norm.scale")):
        return config.qk_norm
    return not (name == "out_head.weight" and config.tie_weights)


def state_to(state: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Met nos tenseurs sous les noms de Hugging Face ; un biais que GPT-2 a toujours devient des zéros."""
    return {place.theirs: join(place, state, config) for place in present(places(config), state, config)}


def present(table: Sequence[Place], state: Mapping[str, Tensor], config: GPTConfig) -> list[Place]:
    """Les places de `table` que ce modèle remplit, biais de GPT-2 compris."""
    is_gpt2 = config.positions == "learned"
    biased = (".bias", ".shift")
    return [
        place for place in table if place.ours[0] in state or (is_gpt2 and place.ours[0].endswith(biased))
    ]


def join(place: Place, state: Mapping[str, Tensor], config: GPTConfig) -> Tensor:
    """Le tenseur de cette place : les nôtres, bout à bout."""
    parts = [state[our] if our in state else _zeros(our, state) for our in place.ours]
    if place.ours[0] in ("tok_emb.weight", "out_head.weight"):
        parts = [parts[0][: config.vocab_size]]  # sans les lignes de remplissage
    joined = torch.cat(parts) if len(parts) > 1 else parts[0]
    return (joined.T if place.transposed else joined).contiguous()


def _zeros(name: str, state: Mapping[str, Tensor]) -> Tensor:
    """Un biais ou un décalage que notre modèle n'a pas : autant de zéros que de lignes au poids qu'il suit."""
    weight = state[name.replace(".shift", ".scale").replace(".bias", ".weight")]
    return weight.new_zeros(len(weight))
