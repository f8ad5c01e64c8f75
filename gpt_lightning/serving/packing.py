"""Mettre des poids dans un fichier : des octets, et la place de chaque tenseur. page/local/weights.js les relit."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

KINDS = ("int8", "f16")
GROUP = 64  # nombres qui partagent une échelle, au plus
LEAST = 16  # au moins, sinon une échelle par ligne


def pack(state: Mapping[str, Tensor], kind: str) -> tuple[bytes, list[JsonObject]]:
    """Les tenseurs de `state`, bout à bout, et leur description ; leurs matrices en `kind`, le reste en float32.

    UserError si un poids n'est pas un nombre, ou ne tient pas dans `kind`.
    """
    content, entries = bytearray(), []
    for name, tensor in state.items():
        values = tensor.detach().float().cpu().contiguous()
        if not bool(values.isfinite().all()):
            raise UserError(f"Le poids {name} n'est pas un nombre : ce modèle a divergé, ou il est abîmé.")
        entry: JsonObject = {"name": name, "at": len(content), "count": values.numel()}
        if values.dim() < 2:
            content += values.numpy().astype("<f4").tobytes()
            entry["kind"] = "f32"
        elif kind == "f16":
            if float(values.abs().max()) > torch.finfo(torch.float16).max:
                raise UserError(f"Le poids {name} ne tient pas dans un float16 : quant=int8.")
            content += values.numpy().astype("<f2").tobytes()
            entry["kind"] = "f16"
        else:
            scales, steps = quantise(values)
            content += scales.numpy().astype("<f4").tobytes() + steps.numpy().tobytes()
            entry |= {"kind": "int8", "group": values.numel() // scales.numel()}
        content += bytes(-len(content) % 4)
        entries.append(entry)
    return bytes(content), entries


def quantise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Une échelle par groupe, (G,), et des entiers de -127 à 127, (G, N) : leur produit est le poids arrondi."""
    width = values.shape[-1]
    group = math.gcd(width, GROUP)
    groups = values.reshape(-1, group if group >= LEAST else width)
    scales = groups.abs().amax(-1) / 127
    steps = (groups / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round().clamp(-127, 127)
    return scales, steps.to(torch.int8)
