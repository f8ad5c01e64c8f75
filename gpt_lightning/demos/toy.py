"""Le petit vocabulaire du livre : neuf mots, et les logits d'un modèle qui vient de lire « every effort moves you »."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich
import torch

from gpt_lightning import durable
from gpt_lightning.typing import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from gpt_lightning.model import GPTModel
    from gpt_lightning.tokenizers import Tokenizer

VOCABULARY = ("closer", "every", "effort", "forward", "inches", "moves", "pizza", "toward", "you")
LOGITS = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])


def subject(settings: Settings) -> "tuple[GPTModel, Tokenizer, str]":
    """Le modèle, le tokenizer et le texte de départ : `prompt`, ou le début que le checkpoint garde."""
    from gpt_lightning.weights import load_for_inference

    where = {key: settings[key] for key in ("n_heads", "device", "dtype", "threads")}
    _, model, tokenizer, opening, *_ = load_for_inference(
        settings["ckpt_path"], base=settings["base_path"], **where
    )
    return model, tokenizer, opening if settings["prompt"] is None else settings["prompt"]


def quote(prompt: str) -> str:
    """Le texte de départ dans un titre ; vide, c'est un début de document."""
    return f"après « {prompt} »" if prompt else "au début d'un texte"


@torch.no_grad()
def next_token(model: "GPTModel", tokenizer: "Tokenizer", prompt: str) -> torch.Tensor:
    """Les logits du jeton qui suit `prompt`, (V,)."""
    from gpt_lightning.decoding.text import prompt_ids

    ids = prompt_ids(tokenizer, prompt)[-model.config.context_length :]
    device = next(model.parameters()).device
    return model.next_logits(torch.tensor([ids], device=device))[0].float().cpu()


def readable_token(tokenizer: "Tokenizer", token: int) -> str:
    r"""Un jeton lisible : « · » est une espace, « ↵ » un retour à la ligne, \xe2 un octet sans son caractère."""
    try:
        text = tokenizer.token_bytes(token).decode("utf-8", errors="backslashreplace")
    except KeyError:  # une ligne de remplissage du vocabulaire
        return "∅"
    return text.replace("\n", "↵").replace(" ", "·") or "∅"


def in_figure(word: str) -> str:
    """`word` pour matplotlib, qui lirait « $ » comme une formule."""
    return word.replace("$", r"\$")


def report(contents: Sequence[object], settings: Settings, name: str) -> None:
    """Montre des tables et des textes, et les écrit aussi dans `output_dir`/name.txt si ce dossier est donné."""
    from rich.console import Console

    _print(rich.get_console(), contents)
    if settings["output_dir"]:
        path = Path(settings["output_dir"]) / f"{name}.txt"
        text = io.StringIO()
        _print(Console(file=text, width=rich.get_console().width), contents)
        with durable.refusals(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(path, text.getvalue())
        print(path)


def _print(console: "Console", contents: Sequence[object]) -> None:
    for content in contents:
        console.print(content, markup=False, highlight=False, soft_wrap=isinstance(content, str))
