"""Des adaptateurs sans leur base : l'empreinte d'un modèle, et retrouver celui sur lequel ils ont appris."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning import layout
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.lora import is_adapter
from gpt_lightning.model.trainable import is_added
from gpt_lightning.weights.format import Description

log = logging.getLogger("gpt_lightning")


def fingerprint(state: Mapping[str, Tensor], config: GPTConfig) -> str:
    """L'empreinte des poids d'un modèle : leurs noms, leurs formes et leurs nombres en float32.

    Le remplissage du vocabulaire, la tête si elle est l'embedding, des adaptateurs et une tête de classement n'en sont
    pas : c'est l'empreinte de la base, où qu'elle soit écrite.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if (name == "out_head.weight" and config.tie_weights) or is_added(name):
            continue
        tensor = state[name]
        if name in ("tok_emb.weight", "out_head.weight"):
            tensor = tensor[: config.vocab_size]
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def is_partial(state: Mapping[str, Tensor]) -> bool:
    """Vrai pour un fichier qui n'a que des adaptateurs."""
    return "tok_emb.weight" not in state and any(map(is_adapter, state))


def complete(
    state: Mapping[str, Tensor],
    known: Description,
    path: Path,
    base: str | None,
    load: Callable[[str], GPTModel],
) -> dict[str, Tensor]:
    """Les tenseurs de `state`, et ceux de sa base : celle que `base` désigne, ou celle qui a son empreinte.

    `load` lit un modèle. UserError si la base donnée n'est pas la sienne, ou si aucune ne l'est.
    """
    if base is not None:
        found = load(base).state_dict()
        other = fingerprint(found, known.config)
        if other != known.base:
            raise UserError(_another_base(str(path), known.base, known.base_source, base, other))
        return {**_padded(found, known.config), **state}
    if path not in _looking:  # la base d'une base se cherche, mais jamais deux fois la même
        _looking.append(path)
        try:
            for source in _candidates(known):
                one = _found(source, known, load)
                if one is not None:
                    log.info(f"Base       : {source}, retrouvée par son empreinte")
                    return {**_padded(one, known.config), **state}
        finally:
            _looking.remove(path)
    raise UserError(_no_base(str(path), known.base, known.base_source))


_looking: list[Path] = []  # les fichiers d'adaptateurs dont la base se cherche


def _found(source: str, known: Description, load: Callable[[str], GPTModel]) -> Mapping[str, Tensor] | None:
    """Les tenseurs de `source`, si elle est la base cherchée."""
    try:
        state = load(source).state_dict()
    except UserError:  # parti, abîmé, ou sans réseau
        return None
    return state if fingerprint(state, known.config) == known.base else None


def _padded(state: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """`state`, dont le vocabulaire a le remplissage de `config` : des lignes nulles, qui ne sont jamais lues."""
    padded = dict(state)
    for name in ("tok_emb.weight", "out_head.weight"):
        rows = state[name][: config.vocab_size]
        padded[name] = torch.nn.functional.pad(rows, (0, 0, 0, config.padded_vocab_size - len(rows)))
    return padded


def _candidates(known: Description) -> Iterator[str]:
    """Où chercher la base : d'où elle venait, puis les meilleurs modèles d'ici, du plus récent au plus ancien."""
    if known.base_source:
        yield known.base_source
    if len(_looking) > 1:
        return  # d'un candidat, on ne suit que l'origine
    yield from map(str, layout.best_models())


def _another_base(path: str, base: str, source: str, given: str, other: str) -> str:
    """Des adaptateurs, et un modèle qui n'est pas celui sur lequel ils ont appris."""
    came = f"{source}, " if source else ""
    return (
        f"{path} a été appris sur un autre modèle ({came}empreinte {base}) que {given} (empreinte {other}) : donnez "
        f"base_path= le sien."
    )


def _no_base(path: str, base: str, source: str) -> str:
    """Des adaptateurs dont la base n'est pas ici."""
    came = f", qui venait de {source}" if source else ""
    return (
        f"{path} n'a que des adaptateurs, et leur base (empreinte {base}{came}) n'est pas ici : donnez-la avec "
        f"base_path=."
    )
