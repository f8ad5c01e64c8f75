"""Le film d'un entraînement : ses images, ou les checkpoints qui en tiennent lieu, par pas."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning import durable
from gpt_lightning.errors import UserError
from gpt_lightning.layout import BEST, CHECKPOINTS, FILM, LAST, STEPS, film_images, run_of
from gpt_lightning.model.lora import LoRAConfig, merge
from gpt_lightning.weights import format as form

LARGEST = torch.finfo(torch.float16).max


def write_image(
    path: Path, state: Mapping[str, Tensor], description: form.Description, lora: LoRAConfig | None = None
) -> None:
    """Écrit dans `path` les poids d'un modèle en float16, que toute commande ouvre comme un export safetensors.

    `lora` : ses adaptateurs, qui s'ajoutent à leurs matrices. WriteError si le disque refuse.
    """
    from safetensors.torch import save_file

    state = state if lora is None else merge(state, lora)
    tied = description.config.tie_weights
    tensors = {
        name: tensor.detach().float().clamp(-LARGEST, LARGEST).half().cpu().contiguous()
        for name, tensor in state.items()
        if not (tied and name == "out_head.weight")
    }
    text = json.dumps(form.describe(description))
    with durable.replacing(path) as beside:
        save_file(tensors, beside, metadata={form.KEY: text})


def film_of(source: str) -> dict[int, Path]:
    """Les images du film de l'exécution dont `source` est un fichier, par pas ; sans film, ses checkpoints.

    Vide si `source` n'est pas un fichier d'une exécution. Une exécution en cours en a de plus en plus.
    """
    path = Path(source)
    if path.parent.name not in (CHECKPOINTS, FILM) or not path.is_file():
        return {}
    run = run_of(path)
    images = film_images(run / FILM)
    return images if len(images) > 1 else _checkpoints(run / CHECKPOINTS)


def base_for(path: Path, base: str | None) -> str | None:
    """La base (`base_path`) d'une image du film : `base` pour un checkpoint ; une image a tous ses poids."""
    return base if path.parent.name == CHECKPOINTS else None


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Les checkpoints d'un dossier, par pas : le numéro de chacun, ou celui qu'il dit."""
    checkpoints = {int(path.stem.removeprefix("step_")): path for path in folder.glob(STEPS)}
    for name in (BEST, LAST):
        if (step := _step_of(folder / name)) is not None:
            checkpoints.setdefault(step, folder / name)
    return dict(sorted(checkpoints.items()))


def _step_of(path: Path) -> int | None:
    """Le pas qu'un checkpoint dit ; None s'il n'est pas là, ou ne se lit pas."""
    try:
        return form.step_of(path)
    except (
        UserError,
        OSError,
        KeyError,
        TypeError,
        AssertionError,
    ):  # il s'écrit, ou vient d'une autre version
        return None
