"""Les réglages qu'une table d'entraînements doit montrer pour qu'on les distingue."""

from collections.abc import Mapping, Sequence
from typing import Any

TELLING = (
    "optim.lr",
    "model.n_layers",
    "model.emb_dim",
    "model.context_length",
    "model.drop_rate",
    "data.source",
    "data.batch_size",
    "data.max_length",
    "tokenizer.size",
    "optim.schedule",
    "optim.weight_decay",
    "seed",
)


def hyperparameters(settings: Mapping[str, Any], typed: Sequence[str]) -> dict[str, int | float | str]:
    """Les réglages qui distinguent un entraînement, {"optim.lr": 0.002 ...} : ceux que la commande donne (`typed`,
    « clé=valeur ») d'abord, puis les plus parlants."""
    chosen: dict[str, Any] = {}
    for key in [*(one.partition("=")[0].lstrip("+") for one in typed), *TELLING]:
        group, _, leaf = key.partition(".")
        value = settings.get(group) if not leaf else (settings.get(group) or {}).get(leaf)
        if isinstance(value, dict) or (value is None and key in TELLING):
            value = next((one.partition("=")[2] for one in typed if one.startswith(f"{key}=")), None)
        if value is not None:
            chosen.setdefault(key, value)
    return {key: v if isinstance(v, int | float | str) else str(v) for key, v in chosen.items()}
