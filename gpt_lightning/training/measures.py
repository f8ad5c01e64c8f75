"""Retenir les mesures qui décident de quelque chose : la même commande, sur la même machine, décide pareil.

Une mesure dépend de la charge de l'instant ; ce qu'elle choisit (la précision, la compilation) change les nombres de
l'entraînement. Elle se fait donc une fois, et reste dans un fichier JSON à côté des bases de jetons : un nombre par
description de la mesure. Si ce fichier manque, est abîmé ou ne s'écrit pas, chaque processus mesure de nouveau,
une fois. L'effacer fait tout mesurer de nouveau.
"""

import contextlib
import json
import math
import platform
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from gpt_lightning import durable
from gpt_lightning.errors import UserError
from gpt_lightning.weights.untrusted import read_json

NAME = "measures.json"
MOST = 1 << 20  # octets ; une mesure en prend cent cinquante
_here: dict[tuple[Path | None, str], float] = {}  # ce que ce processus a mesuré, même s'il n'a pu l'écrire


class Measure(NamedTuple):
    """Une mesure, et le fichier d'où elle vient ; None si ce processus l'a faite."""

    value: float
    source: Path | None


def recall(what: str, measure: Callable[[], float], *, low: float, high: float) -> Measure:
    """La mesure que `what` décrit entièrement : celle du fichier, sinon `measure()`, qui y est alors retenue.

    Hors de [low, high], une valeur lue ne compte pas. Si un autre processus a mesuré pendant ce temps, sa mesure, déjà
    écrite, l'emporte. Rien ici n'échoue si le fichier ne peut ni se lire ni s'écrire.
    """
    path = file()

    def reread() -> float | None:
        value = _read(path).get(what)
        return value if value is not None and low <= value <= high else None

    value, mine = reread(), (path, what)
    if value is None and mine not in _here:
        _here[mine] = measure()
        value = reread()
    if value is not None:
        return Measure(value, path)
    _keep(path, what, _here[mine])
    return Measure(_here[mine], None)


def file() -> Path | None:
    """Le fichier des mesures : measures.json, dans le dossier des bases de jetons ; None pour qui n'a pas de foyer."""
    try:
        return durable.cache_folder() / NAME
    except RuntimeError:
        return None


def _read(path: Path | None) -> dict[str, float]:
    """Les mesures de ce fichier ; aucune s'il manque ou n'est pas lisible, et rien de ce qui n'est pas un nombre."""
    try:
        if path is None or path.stat().st_size > MOST:
            return {}
        values = read_json(path)
    except (OSError, UserError):
        return {}
    return {
        what: value for what, value in values.items() if isinstance(value, float) and math.isfinite(value)
    }


def _keep(path: Path | None, what: str, value: float) -> None:
    if path is None:
        return
    with contextlib.suppress(OSError, durable.WriteError):  # on s'en passe
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(path, json.dumps({**_read(path), what: value}, indent=1) + "\n")


@lru_cache
def processor() -> str:
    """Le processeur, par ce dont la vitesse de ses produits dépend : son nom, sa révision, ses instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # ailleurs que sous Linux
        lines = []
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    model = [fields[key] for key in ("model name", "cpu family", "model", "stepping") if key in fields]
    probes = {"AMX": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}
    flags = [flag for flag, name in probes.items() if getattr(torch.cpu, name, lambda: False)()]
    return " ".join([*(model or [platform.processor()]), torch.backends.cpu.get_cpu_capability(), *flags])
