"""Un modèle pour l'inférence : trouvé, chargé, mis sur un appareil dans une précision."""

from typing import NamedTuple

import torch

from gpt_lightning import messages
from gpt_lightning.errors import UserError, choice
from gpt_lightning.model import GPTModel
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.weights.loading import load_described

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def to_device(model: GPTModel, device: str = "auto", dtype: str = "auto") -> GPTModel:
    """Le modèle sur `device` (auto, cpu, cuda, mps), en `dtype` (auto, fp32, bf16).

    `auto` prend le GPU s'il y en a un, et bf16 s'il le calcule (CUDA 8.0 et plus), fp32 sinon.
    UserError si l'appareil n'est pas là ou si le choix n'existe pas.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    kind = str(device).partition(":")[0]
    if kind not in present:
        raise UserError(f"device={device} : les choix sont auto, cpu, cuda, mps.")
    index = str(device).partition(":")[2] or "0"
    if kind == "cuda" and present[kind] and not (index.isdigit() and int(index) < torch.cuda.device_count()):
        raise UserError(f"device={device} : il y a {torch.cuda.device_count()} GPU, numérotés à partir de 0.")
    if not present[kind]:
        raise UserError(f"device={device}, mais cet appareil n'est pas visible ici : essayez device=auto.")
    choice("dtype", dtype, ("auto", *DTYPES))
    if dtype == "auto":
        native = kind == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
        dtype = "bf16" if native else "fp32"
    return model.to(device, DTYPES[dtype])


class Inference(NamedTuple):
    """Le nom de la source, le modèle sur son appareil, son tokenizer, et un début de texte dans sa langue."""

    source: str
    model: GPTModel
    tokenizer: Tokenizer
    prompt: str


def load_for_inference(
    source: str | None, *, n_heads: int | None = None, device: str = "auto", dtype: str = "auto"
) -> Inference:
    """Ce qu'il faut pour écrire avec `source`, désignée comme pour `load`. UserError sans tokenizer.

    Le début de texte est vide si la source n'en garde pas : le modèle commence alors un document.
    """
    model, known, source, _ = load_described(source, n_heads=n_heads)
    if known.tokenizer is None:
        raise UserError(messages.no_tokenizer(source))
    prompt = known.prompts[0] if known.prompts else ""
    return Inference(source, to_device(model, device, dtype), known.tokenizer, prompt)
