"""Un dossier de peft, dans les deux sens : adapter_config.json et adapter_model.safetensors.

Chaque clé d'adapter_config.json est comprise, sans effet sur ce que le modèle calcule, ou refusée par son nom.

Légende des formes : K entrées, N sorties, R rang.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpt_lightning.errors import UserError, choice, number, whole
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.lora import ALL, A, B, LoRAConfig, target_layers
from gpt_lightning.typing import JsonObject
from gpt_lightning.weights.huggingface import matrices, with_prefix
from gpt_lightning.weights.huggingface.folder import Tensors
from gpt_lightning.weights.untrusted import Damaged, read_json

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
MOST_RANK, MOST_NAMES = 1 << 16, 1 << 12
MOST_PADDED = 8  # fois les nombres du fichier : des rangs inégaux se complètent de zéros
_UNDERSTOOD = {
    "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern", "base_model_name_or_path",
    "target_modules", "exclude_modules", "layers_to_transform",
}  # fmt: skip
# ce qui décrit le fichier, ou n'a servi qu'à l'entraînement ; peft met lui-même `fan_in_fan_out` d'accord avec la base
_NEUTRAL = {
    "auto_mapping", "peft_version", "revision", "inference_mode", "fan_in_fan_out", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "runtime_config", "megatron_core", "qalora_group_size", "ensure_weight_tying",
}  # fmt: skip
# les autres départs (pissa, olora, loftq ...) changent aussi la base
_FIXED: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
    "layers_pattern": (None, "", [], "h", ["h"], "layers", ["layers"]),
}
_NONE: tuple[object, ...] = (None, False, [], {})  # ce que vaut une clé que rien n'allume


def read(folder: Path) -> tuple[JsonObject, Mapping[str, Tensor]]:
    """Lit adapter_config.json, et de quoi lire les tenseurs. UserError, qui les nomme, sur ce qui n'existe pas ici."""
    values: JsonObject = {"peft_type": None, **read_json(folder / CONFIG)}
    wrong = [f"{_short(key)}={_short(value)}" for key, value in values.items() if not _is_here(key, value)]
    if wrong:
        raise UserError(
            f"{folder / CONFIG} demande ce que LoRA n'a pas ici : {', '.join(wrong[:6])}. Ajoutez ces adaptateurs à "
            f"leur base par peft (merge_and_unload), et donnez le dossier de Hugging Face obtenu."
        )
    for key in _UNDERSTOOD:
        if isinstance(values.get(key), list | dict) and len(values[key]) > MOST_NAMES:
            raise UserError(f"{folder / CONFIG} : {key} a bien trop de noms ({len(values[key])}).")
    file = next((folder / name for name in (WEIGHTS, PICKLED) if (folder / name).exists()), None)
    if file is None:
        raise UserError(f"{folder} n'a ni {WEIGHTS}, ni {PICKLED}.")
    return values, Tensors([file])


def _short(value: object) -> str:
    """Ce qu'une phrase montre d'un nom ou d'une valeur venus d'ailleurs."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:80])


def _is_here(key: str, value: object) -> bool:
    """Faux si cette clé, à cette valeur, demande un calcul qui n'existe pas ici."""
    if key in _FIXED:
        return value in _FIXED[key]
    return key in _UNDERSTOOD or key in _NEUTRAL or value in _NONE


def base_of(values: JsonObject, folder: Path) -> str:
    """La base que le dossier nomme, si elle est sur ce disque. UserError, qui dit quoi donner, sinon."""
    name = str(values.get("base_model_name_or_path") or "")
    if name and Path(name).is_dir():
        return name
    if not name:
        raise UserError(f"{folder} ne dit pas sur quelle base il a appris : donnez-la avec base_path=.")
    raise UserError(
        f"{folder} a appris sur {_short(name)}, qui n'est pas un dossier d'ici : base_path= le donne, "
        f"ou base_path=hf:{_short(name)} s'il est sur le hub."
    )


def state_from(
    values: JsonObject, theirs: Mapping[str, Tensor], config: GPTConfig
) -> tuple[LoRAConfig, dict[str, Tensor]]:
    """Ces adaptateurs sous nos noms, pour un modèle de cette configuration, et les réglages qu'ils suivent.

    Tous prennent le plus grand rang et la même échelle : les autres rangs se complètent de zéros, et ce qu'une autre
    échelle a de plus va dans B. UserError, ou Damaged, qui nomme la clé ou le tenseur qui ne va pas.
    """
    common, ours = _settings(values, values.get("r", 8), values.get("lora_alpha", 8)), _matrices(config)
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    for module, names in _pairs(theirs, ours, config, values).items():
        own = _settings(
            values,
            _of_pattern(values, "rank_pattern", module, common.rank),
            _of_pattern(values, "alpha_pattern", module, common.alpha),
        )
        a, b = (theirs[name].float() for name in names)
        fits = a.dim() == b.dim() == 2 and len(a) == own.rank == b.shape[1]
        if not fits or len(b) % len(ours[module]):
            raise Damaged(f"le tenseur {names[0]}, ou son {B}, n'a pas la forme du rang {own.rank} annoncé.")
        if not math.isclose(own.scale, common.scale, rel_tol=1e-12):
            b = b * (own.scale / common.scale)
        parts |= _divide(ours[module], a, b)
    rank = max(len(a) for a, _ in parts.values())
    padded = sum(rank * (a.shape[1] + len(b)) for a, b in parts.values())
    if padded > MOST_PADDED * max(sum(a.numel() + b.numel() for a, b in parts.values()), 1):
        raise UserError(f"rank_pattern donne des rangs trop inégaux : le plus grand, {rank}, irait à tous.")
    lora = LoRAConfig(
        rank=rank,
        alpha=common.scale * (math.sqrt(rank) if common.rslora else rank),
        modules=tuple(_designate(parts, [our for names in ours.values() for our in names], _ending)),
        rslora=common.rslora,
        drop_rate=common.drop_rate,
    )
    state = {}
    for layer, (a, b) in parts.items():
        state[f"{layer}.{A}"] = pad(a, (0, 0, 0, rank - len(a))).contiguous()
        state[f"{layer}.{B}"] = pad(b, (0, rank - b.shape[1])).contiguous()
    return lora, state


def _settings(values: JsonObject, rank: object, alpha: object) -> LoRAConfig:
    return LoRAConfig(
        rank=whole("r", rank, 1, MOST_RANK),
        alpha=number("lora_alpha", alpha, above=0),
        rslora=choice("use_rslora", values.get("use_rslora", False), (True, False)),
        drop_rate=number("lora_dropout", values.get("lora_dropout", 0.0), 0, 1),
    )


def _matrices(config: GPTConfig) -> dict[str, tuple[str, ...]]:
    """Les couches de transformers qui s'adaptent, et les nôtres que chacune contient."""
    with torch.device("meta"):
        layers = {
            name for name, _ in target_layers(GPTModel(config, draw=False), LoRAConfig(modules=("all",)))
        }
    return {theirs: ours for theirs, ours in matrices(config).items() if layers.issuperset(ours)}


def _pairs(
    theirs: Mapping[str, Tensor], ours: Collection[str], config: GPTConfig, values: JsonObject
) -> dict[str, tuple[str, str]]:
    """Les noms de A et de B de chaque couche adaptée : le fichier et les réglages désignent les mêmes."""
    names: dict[tuple[str, str], str] = {}
    for name in theirs:
        match = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.({A}|{B})\.weight", name)
        module = with_prefix(match[1], config) if match else ""
        if match is None or module not in ours or (module, match[2]) in names:
            raise UserError(
                f"le tenseur {_short(name)} n'a pas de place ici, où seules les matrices des blocs s'adaptent, chacune "
                f"une fois."
            )
        names[module, match[2]] = name
    adapted = {module for module, _ in names}
    asked = {module for module in ours if _is_asked(module, adapted, values)}
    for module in sorted(asked | adapted):
        if module not in asked or (module, A) not in names or (module, B) not in names:
            raise Damaged(f"les tenseurs de {module} manquent, ou {CONFIG} ne désigne pas cette couche.")
    if not adapted:
        raise UserError("aucun adaptateur n'y est.")
    return {module: (names[module, A], names[module, B]) for module in ours if module in adapted}


def _is_asked(module: str, adapted: Collection[str], values: JsonObject) -> bool:
    """Vrai si adapter_config.json désigne cette couche, comme peft le comprend.

    Une expression régulière n'est jamais évaluée : elle a désigné les couches du fichier.
    """
    targets, layers = values.get("target_modules"), values.get("layers_to_transform")
    asked = module in adapted if isinstance(targets, str) else _ends(module, _names(values, "target_modules"))
    chosen = [layers] if isinstance(layers, int) else layers
    if chosen and not isinstance(chosen, list):
        raise UserError(f"layers_to_transform vaut {_short(layers)} : il faut des numéros de couches.")
    within = not chosen or int(module.split(".")[2]) in chosen
    return asked and within and not _ends(module, _names(values, "exclude_modules"))


def _names(values: JsonObject, key: str) -> list[str]:
    names = values.get(key) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{key} vaut {_short(names)} : il faut une liste de noms de couches.")
    return names


def _ends(module: str, names: Collection[str]) -> bool:
    return any(f".{module}".endswith(f".{name}") for name in names)


def _of_pattern(values: JsonObject, key: str, module: str, default: object) -> object:
    """Le rang, ou l'alpha, de cette couche ; UserError si un nom est une expression régulière, jamais évaluée."""
    patterns = values.get(key) or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"\^?[\w.]+", name) for name in patterns):
        raise UserError(f"{key}={_short(patterns)} : il faut des noms de couches et leurs valeurs.")
    for name, value in patterns.items():
        if module == name.removeprefix("^") or _ends(module, [name]):
            return value
    return default


def _divide(layers: tuple[str, ...], a: Tensor, b: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """A (R, K) et B (N, R) d'une couche, partagés entre les nôtres : ses lignes de B, et ce qu'elles lisent de A."""
    if len(layers) == 1 or not b.any():
        return {layer: (a, rows) for layer, rows in zip(layers, b.chunk(len(layers)), strict=True)}
    return {
        layer: (a[read], rows[:, read])
        for layer, rows in zip(layers, b.chunk(len(layers)), strict=True)
        if (read := rows.any(0)).any()
    }


def _designate(chosen: Collection[str], every: Collection[str], ending: Callable[[str], str]) -> list[str]:
    """Les noms qui désignent ces couches : leur fin, si elle n'en désigne pas d'autre."""
    others = {ending(name) for name in every if name not in chosen}
    return sorted({name if ending(name) in others else ending(name) for name in chosen})


def _ending(layer: str) -> str:
    return next(suffix for suffix in ALL if layer.endswith(f".{suffix}"))


def write_to(
    state: Mapping[str, Tensor], config: GPTConfig, lora: LoRAConfig, base: str
) -> tuple[JsonObject, dict[str, Tensor]]:
    """adapter_config.json, et les tenseurs, de ces adaptateurs ; `base` est l'endroit d'où venait leur base.

    Q, K et V de GPT-2 ne font qu'une couche, de rang 3R : leurs A l'un sous l'autre, leurs B en diagonale.
    """
    ours, tensors = _matrices(config), {}
    adapted = {
        module: names for module, names in ours.items() if any(f"{name}.{A}" in state for name in names)
    }
    for module, names in adapted.items():
        pairs = [(state.get(f"{name}.{A}"), state.get(f"{name}.{B}")) for name in names]
        like = next((a, b) for a, b in pairs if a is not None and b is not None)
        empty = tuple(map(torch.zeros_like, like))
        filled = [(empty[0] if a is None else a, empty[1] if b is None else b) for a, b in pairs]
        tensors[f"{PREFIX}{module}.{A}.weight"] = torch.cat([a for a, _ in filled]).contiguous()
        tensors[f"{PREFIX}{module}.{B}.weight"] = torch.block_diag(*(b for _, b in filled)).contiguous()
    joined = {module.rpartition(".")[2]: len(names) for module, names in adapted.items() if len(names) > 1}
    ranks = {leaf: count * lora.rank for leaf, count in joined.items()}
    alphas = {  # la même échelle, malgré le rang
        leaf: lora.alpha * (math.sqrt(count) if lora.rslora else count) for leaf, count in joined.items()
    }
    alone = all(len(names) > 1 for names in adapted.values())
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": findable(base),
        "r": max(ranks.values()) if alone else lora.rank,
        "lora_alpha": max(alphas.values()) if alone else lora.alpha,
        "rank_pattern": {} if alone else ranks,
        "alpha_pattern": {} if alone else alphas,
        "use_rslora": lora.rslora,
        "lora_dropout": lora.drop_rate,
        "target_modules": _designate(adapted, ours, lambda module: module.rpartition(".")[2]),
        "fan_in_fan_out": config.positions == "learned",  # les poids de GPT-2 sont couchés sur le côté
        "bias": "none",
        "inference_mode": True,
    }
    return values, tensors


def findable(base: str) -> str | None:
    """La base telle que transformers la trouve : un dossier de Hugging Face, ou un nom du hub."""
    if base.startswith("hf:"):
        return base.removeprefix("hf:")
    return base if base and (Path(base) / "config.json").exists() else None
