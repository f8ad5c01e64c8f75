"""Les réglages d'un modèle dans un GGUF, dans les deux sens : gpt2, llama, qwen2, qwen3."""

import logging
from collections.abc import Mapping, Sequence

from gpt_lightning.errors import UserError, whole
from gpt_lightning.model import GPTConfig
from gpt_lightning.typing import State
from gpt_lightning.weights.gguf.header import Header
from gpt_lightning.weights.huggingface.families import FAMILIES, canonical, nearest

log = logging.getLogger("gpt_lightning")
# ce que chacune demande ; llama.cpp n'a pas la GELU exacte
ARCHITECTURES: dict[str, Mapping[str, Sequence[object]]] = {
    "gpt2": {**FAMILIES["gpt2"].needs, "activation": ("gelu_tanh",)},
    **{name: FAMILIES[name].needs for name in ("llama", "qwen2", "qwen3")},
}
_WIDTHS = {
    "context_length": "context_length",
    "emb_dim": "embedding_length",
    "n_layers": "block_count",
    "hidden_dim": "feed_forward_length",
    "n_heads": "attention.head_count",
}
_EPS = {"gpt2": "attention.layer_norm_epsilon"}
_RMS_EPS = "attention.layer_norm_rms_epsilon"
_KV_HEADS, _BASE, _TURNED = "attention.head_count_kv", "rope.freq_base", "rope.dimension_count"
_KEY, _VALUE, _WINDOW = "attention.key_length", "attention.value_length", "attention.sliding_window"
_READ = {*_WIDTHS.values(), *_EPS.values(), _RMS_EPS, _KV_HEADS, _BASE, _TURNED, _KEY, _VALUE, _WINDOW}
# les autres réglages que l'on sait lire, et leurs valeurs sans effet ; None : toutes
_NEUTRAL: dict[str, tuple[object, ...] | None] = {
    "vocab_size": None,
    "tensor_data_layout": None,
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0, 1),
    "rope.scaling.finetuned": None,
    "rope.scale_linear": (0, 1),
    "attention.causal": (True,),
    "attention.max_alibi_bias": (0,),
    "attention.clamp_kqv": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "logit_scale": (0, 1),
    "use_parallel_residual": (False,),
}


def config_from(header: Header) -> GPTConfig:
    """La configuration que disent ces réglages. UserError, qui les nomme, si ce modèle ne sait pas l'être."""
    kind, content = header.architecture, header.get("general.type", str, "model")
    if content != "model":
        raise UserError(f"il contient un {content[:40]!r}, et non un modèle.")
    if header.get("split.count", int, 1) > 1:
        raise UserError(
            "c'est un morceau d'un modèle en plusieurs fichiers : llama-gguf-split --merge les réunit."
        )
    if kind not in ARCHITECTURES:
        raise UserError(
            f"il décrit une architecture {kind[:40]!r} : on lit et on écrit {', '.join(ARCHITECTURES)}."
        )
    _refuse_others(header)
    missing = [key for key in _WIDTHS.values() if f"{kind}.{key}" not in header.values]
    if missing or "token_embd.weight" not in header.entries:
        raise UserError(f"il décrit un {kind} et ne dit pas {', '.join(missing) or 'token_embd.weight'}.")
    fields: State = {name: choices[0] for name, choices in ARCHITECTURES[kind].items()}
    fields |= {name: _width(header, key) for name, key in _WIDTHS.items()}
    fields["vocab_size"] = header.entries["token_embd.weight"].shape[0]
    fields["norm_eps"] = header.get(f"{kind}.{_EPS.get(kind, _RMS_EPS)}", float, 1e-5)
    fields["tie_weights"] = "output.weight" not in header.entries
    if kind != "gpt2":
        fields["n_kv_heads"] = _width(header, _KV_HEADS, fields["n_heads"])
        fields["rope_base"] = header.get(f"{kind}.{_BASE}", float, 10_000.0)
        heads = whole(_WIDTHS["n_heads"], fields["n_heads"])
        fields["head_dim"] = _width(header, _KEY, fields["emb_dim"] // heads)
        for key in (_VALUE, _TURNED):
            if _width(header, key, fields["head_dim"]) != fields["head_dim"]:
                raise UserError(f"{kind}.{key} n'est pas la largeur d'une tête ({fields['head_dim']}).")
        fields["context_length"] = _cut_to_window(header, fields["context_length"])
    return canonical(GPTConfig(**fields))


def _refuse_others(header: Header) -> None:
    """UserError qui nomme les réglages de cette architecture que ce modèle n'a pas."""
    prefix = f"{header.architecture}."
    given = {
        key.removeprefix(prefix): value for key, value in header.values.items() if key.startswith(prefix)
    }
    unscaled = given.get("rope.scaling.type") == "none"
    others = [
        f"{prefix}{key}={str(value)[:40]}"
        for key, value in given.items()
        if key not in _READ
        and not (unscaled and key.startswith("rope.scaling."))
        and (key not in _NEUTRAL or (_NEUTRAL[key] is not None and value not in (_NEUTRAL[key] or ())))
    ]
    if others:
        raise UserError(f"il a ce que ce modèle n'a pas : {' ; '.join(others)[:300]}.")


def _width(header: Header, key: str, default: object = None) -> int:
    """Un réglage entier ; une valeur par couche, que ce modèle n'a pas, est refusée."""
    key = f"{header.architecture}.{key}"
    value = header.values.get(key, default)
    if isinstance(value, list):
        raise UserError(f"{key} a une valeur par couche, et ce modèle n'en a qu'une.")
    return whole(key, value)


def _cut_to_window(header: Header, context: int) -> int:
    """Le contexte, coupé à la fenêtre glissante : jusque-là, une couche voit tout."""
    window = _width(header, _WINDOW, context)
    if window < context:
        log.warning(
            f"{header.path} : ses couches ne voient que {window} jetons en arrière, et celles d'ici n'ont pas de "
            f"fenêtre : model.context_length={window} au lieu de {context}."
        )
    return min(window, context)


def architecture_of(config: GPTConfig) -> str:
    """L'architecture d'un GGUF de cette configuration ; UserError, qui dit ce qu'il faudrait, si aucune ne l'est."""
    return nearest(config, ARCHITECTURES, "Aucune architecture de GGUF n'est ce modèle")


def values_of(config: GPTConfig) -> dict[str, int | float]:
    """Les réglages de cette configuration, sous les noms de son architecture."""
    kind = architecture_of(config)
    ours = {name: getattr(config, name) for name in _WIDTHS} | {"hidden_dim": config.hidden_width}
    values = {theirs: ours[name] for name, theirs in _WIDTHS.items()}
    values[_EPS.get(kind, _RMS_EPS)] = float(config.norm_eps)
    if kind != "gpt2":
        values |= {
            _KV_HEADS: config.kv_heads,
            _BASE: float(config.rope_base),
            "vocab_size": config.vocab_size,
        }
        values |= dict.fromkeys((_TURNED, _KEY, _VALUE), config.head_width)
    return {f"{kind}.{key}": value for key, value in values.items()}
