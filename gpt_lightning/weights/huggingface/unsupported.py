"""Ce que d'autres modèles ont et que celui d'ici n'a pas, par les clés de config.json qui le disent."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

_NONE: tuple[object, ...] = (None, False, 0, [], {})
_FULL = ("full_attention", "sliding_attention")
# clé : (ce qu'elle ajoute, ses valeurs sans effet)
_TRAITS: dict[str, tuple[str, tuple[object, ...]]] = {
    "quantization_config": ("des poids quantifiés", _NONE),
    "num_local_experts": ("un mélange d'experts (MoE)", _NONE),
    "num_experts": ("un mélange d'experts (MoE)", _NONE),
    "n_routed_experts": ("un mélange d'experts (MoE)", _NONE),
    "attn_logit_softcapping": ("des scores d'attention plafonnés (soft-capping)", _NONE),
    "final_logit_softcapping": ("des logits plafonnés (soft-capping)", _NONE),
    "query_pre_attn_scalar": ("une autre échelle d'attention", _NONE),
    "attention_multiplier": ("une autre échelle d'attention", (None, 1)),
    "embedding_multiplier": ("des embeddings mis à l'échelle", (None, 1)),
    "residual_multiplier": ("un flux résiduel mis à l'échelle", (None, 1)),
    "logits_scaling": ("des logits mis à l'échelle", (None, 1)),
    "logit_scale": ("des logits mis à l'échelle", (None, 1)),
    "partial_rotary_factor": ("un rope d'une partie de chaque tête", (None, 1)),
    "rotary_pct": ("un rope d'une partie de chaque tête", (None, 1)),
    "no_rope_layers": ("des couches sans rope", _NONE),
    "alibi": ("des positions ALiBi", _NONE),
    "kv_lora_rank": ("une attention latente (MLA)", _NONE),
    "attention_chunk_size": ("une attention par morceaux", _NONE),
    "clip_qkv": ("des Q, K et V bornés", _NONE),
    "use_parallel_residual": ("des blocs en parallèle", _NONE),
    "parallel_attn": ("des blocs en parallèle", _NONE),
    "vision_config": ("des images", _NONE),
    "audio_config": ("du son", _NONE),
    "is_encoder_decoder": ("un encodeur", _NONE),
}


def refuse_traits(values: JsonObject, fixed: Mapping[str, Sequence[object]], path: Path) -> None:
    """UserError qui nomme, tout à la fois, ce que cette configuration demande et qui n'existe pas ici.

    `fixed` sont les valeurs permises de quelques clés.
    """
    has = [
        f"{what} ({key}={_short(values[key])})"
        for key, (what, without) in _TRAITS.items()
        if key in values and values[key] not in without
    ]
    has += [
        f"{key}={_short(values[key])}"
        for key, choices in fixed.items()
        if key in values and values[key] not in choices
    ]
    others = [kind for kind in values.get("layer_types") or () if kind not in _FULL]
    has += [f"des couches {_short(others[0])} (layer_types)"] if others else []
    has += _rope_traits(values)
    if has:
        kind = _short(values.get("model_type"))
        raise UserError(f"{path} décrit un {kind} qui a ce que ce modèle n'a pas : {' ; '.join(has)}.")


def rope_base(values: JsonObject) -> float:
    """La base de rope : transformers 5 l'écrit dans `rope_parameters`, les versions d'avant à côté."""
    return _rope(values).get("rope_theta") or values.get("rope_theta") or 10_000.0


def _rope(values: JsonObject) -> JsonObject:
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    return rope if isinstance(rope, dict) else {"rope_type": rope}


def _rope_traits(values: JsonObject) -> list[str]:
    rope = _rope(values)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if any(isinstance(value, dict) for value in rope.values()):
        return ["un rope par genre de couche (rope_parameters)"]
    if kind != "default":
        return [f"des positions étirées, comme celles de Llama 3.1 et 3.2 (rope_scaling={_short(kind)})"]
    part = rope.get("partial_rotary_factor")
    return (
        [] if part in (None, 1) else [f"un rope d'une partie de chaque tête (partial_rotary_factor={part})"]
    )


def _short(value: object) -> str:
    return str(value)[:60]
