"""Le petit vocabulaire du livre : neuf mots, et les logits d'un modèle qui vient de lire « every effort moves you »."""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from gpt_lightning.model import GPTModel
    from gpt_lightning.tokenizers import Tokenizer

VOCABULARY = ("closer", "every", "effort", "forward", "inches", "moves", "pizza", "toward", "you")
LOGITS = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])


def subject(settings: dict[str, Any]) -> "tuple[GPTModel, Tokenizer, str]":
    """(modèle, tokenizer, texte de départ) d'une démonstration : `prompt`, ou le début que le checkpoint garde."""
    from gpt_lightning.weights import load_for_inference

    _, model, tokenizer, opening = load_for_inference(settings["ckpt_path"], device="cpu", dtype="fp32")
    return model, tokenizer, opening if settings["prompt"] is None else settings["prompt"]


def quoted(prompt: str) -> str:
    """Le texte de départ dans un titre ; vide, c'est un début de document."""
    return f"après « {prompt} »" if prompt else "au début d'un texte"


@torch.no_grad()
def next_token(model: "GPTModel", tokenizer: "Tokenizer", prompt: str) -> torch.Tensor:
    """Les logits du jeton qui suit `prompt`, (V,)."""
    from gpt_lightning.decoding.text import prompt_ids

    ids = prompt_ids(tokenizer, prompt)[-model.config.context_length :]
    return model.next_logits(torch.tensor([ids]))[0].float()


def shown(tokenizer: "Tokenizer", token: int) -> str:
    """Un jeton lisible dans une figure : « · » est une espace, « ↵ » un retour à la ligne."""
    return tokenizer.decode([token]).replace("\n", "↵").replace(" ", "·").replace("$", r"\$") or "∅"
