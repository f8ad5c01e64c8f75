"""Des adaptateurs sans leur base : calculer l'empreinte d'un modèle, et retrouver celui sur lequel ils ont appris."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

    Elle ne compte ni le remplissage du vocabulaire, ni la tête si elle est l'embedding, ni des adaptateurs, ni une tête
    de classification : c'est l'empreinte de la base, où qu'elle soit écrite.
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
    description: Description,
    path: Path,
    base: str | None,
    load: Callable[[str], GPTModel],
) -> dict[str, Tensor]:
    """Ajoute à `state` les tenseurs de sa base : celle que `base` désigne, sinon celle dont l'empreinte est la bonne.

    `load` lit un modèle. UserError si la base donnée n'est pas la sienne, ou si aucune d'ici ne l'est.
    """
    if base is not None:
        given = load(base).state_dict()
        given_print = fingerprint(given, description.config)
        if given_print != description.base:
            raise UserError(
                _another_base(str(path), description.base, description.base_source, base, given_print)
            )
        return {**_cast_base(given, description.config), **state}
    if path not in _looking:  # la base d'une base se cherche, mais jamais deux fois la même
        with looking(path):
            for source in _candidates(description):
                candidate = _load_if_base(source, description, load)
                if candidate is not None:
                    log.info(f"Base       : {source}, retrouvée par son empreinte")
                    return {**_cast_base(candidate, description.config), **state}
    raise UserError(_no_base(str(path), description.base, description.base_source))


_looking: list[Path] = []  # les fichiers d'adaptateurs dont la base se cherche


@contextmanager
def looking(path: Path) -> Iterator[None]:
    """La base de `path` se cherche. UserError si elle se cherchait déjà : il serait sa propre base."""
    if path in _looking:
        raise UserError(f"{path} est sa propre base : donnez la vraie avec base_path=.")
    _looking.append(path)
    try:
        yield
    finally:
        _looking.remove(path)


def _load_if_base(
    source: str, description: Description, load: Callable[[str], GPTModel]
) -> Mapping[str, Tensor] | None:
    """Charge `source` ; ses tenseurs si elle est la base cherchée, sinon None."""
    try:
        state = load(source).state_dict()
    except UserError:  # parti, abîmé, ou sans réseau
        return None
    return state if fingerprint(state, description.config) == description.base else None


def _cast_base(state: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """La base telle que ses adaptateurs l'ont vue : en float32, et le remplissage de `config` ajouté à son vocabulaire,
    des lignes nulles, que rien ne lit."""
    padded = {name: tensor.float() for name, tensor in state.items()}
    for name in ("tok_emb.weight", "out_head.weight"):
        rows = padded[name][: config.vocab_size]
        padded[name] = torch.nn.functional.pad(rows, (0, 0, 0, config.padded_vocab_size - len(rows)))
    return padded


def _candidates(description: Description) -> Iterator[str]:
    """Les endroits où chercher la base : son origine, puis les meilleurs modèles d'ici, le plus récent d'abord."""
    if description.base_source:
        yield description.base_source
    if len(_looking) > 1:
        return  # d'un candidat, seule l'origine se suit
    yield from map(str, layout.best_models())


def _another_base(path: str, base: str, source: str, given: str, given_print: str) -> str:
    """La phrase qui refuse un modèle sur lequel ces adaptateurs n'ont pas appris."""
    origin = f"{source}, " if source else ""
    return (
        f"{path} a été appris sur un autre modèle ({origin}empreinte {base}) que {given} (empreinte {given_print}) : "
        f"donnez base_path= le sien."
    )


def _no_base(path: str, base: str, source: str) -> str:
    """La phrase qui refuse des adaptateurs dont la base n'est pas ici."""
    origin = f", qui venait de {source}" if source else ""
    return (
        f"{path} n'a que des adaptateurs, et leur base (empreinte {base}{origin}) n'est pas ici : donnez-la avec "
        f"base_path=."
    )
