"""Ce que la page demande : un texte qui s'écrit avec ses candidats, le jeton suivant, la surprise, l'attention."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpt_lightning.decoding.batching import Row
from gpt_lightning.decoding.logprobs import Scored, score_tokens
from gpt_lightning.decoding.strategy import check_numbers
from gpt_lightning.decoding.text import prompt_ids
from gpt_lightning.errors import UserError
from gpt_lightning.serving.choice import Choice, Delta
from gpt_lightning.serving.openai import fields, request
from gpt_lightning.serving.openai.fields import Field, Refused
from gpt_lightning.serving.openai.request import ServedModel
from gpt_lightning.serving.openai.response import FINISH, added, token_text

CANDIDATES = 10  # montrés pour un jeton écrit
WINDOWS = 8  # contextes qu'un texte mesuré peut remplir
LOOKED = 96  # jetons dont l'attention se dessine
STRATEGY = {name: fields.COMMON[name] for name in (*fields.SAMPLING, *fields.OURS)}
TEXT = {"text": Field(fields.anything)}
NEXT = TEXT | STRATEGY | {"candidates": Field(fields.integer(1, 1000), 50)}
SCORE = TEXT | {"candidates": Field(fields.integer(0, 50), CANDIDATES)}
CONTINUE = (
    TEXT | STRATEGY | {"seed": fields.COMMON["seed"], "max_tokens": Field(fields.integer(1, 1 << 20), 40)}
)
ATTENTION = TEXT | {"layer": Field(fields.integer(0, 1 << 20), 0)}
PAGE = Path(__file__).with_name("page")
DOCS = Path(__file__).parents[2] / "docs" / "decodage.md"  # il n'est pas dans une roue
TYPES = {
    ".md": "text/plain",
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class Shape(NamedTuple):
    """Ce que la page dit du modèle : sa forme, un texte pour commencer, et le début de la commande qui l'ouvre."""

    layers: int
    heads: int
    vocabulary: int
    parameters: int
    prompt: str = ""  # un début de texte dans la langue du modèle
    command: str = "python generate.py"


def described(model: ServedModel, shape: Shape) -> dict[str, Any]:
    """Le modèle, tel que la page le présente."""
    eos = model.tokenizer.eos_id
    return {
        "name": model.name,
        "context": model.context,
        "chat": model.template is not None,
        "end": eos,
        "docs": DOCS.exists(),
        **shape._asdict(),
    }


def text_ids(model: ServedModel, value: Any) -> list[int]:
    """Les jetons d'un texte, ou d'une liste d'identifiants. Refused s'ils ne se lisent pas."""
    try:
        if isinstance(value, str):
            return prompt_ids(model.tokenizer, value)
        return request.token_ids("text", value, model.tokenizer)
    except UserError as error:
        raise Refused(str(error), param="text", code="invalid_value") from None


def token(model: ServedModel, index: int) -> dict[str, Any]:
    """Un jeton : son identifiant, son texte, ses octets."""
    return {
        "id": index,
        "token": token_text(model.tokenizer, index),
        "bytes": list(model.tokenizer.token_bytes(index)),
    }


def opened(model: ServedModel, ids: list[int]) -> dict[str, Any]:
    """Les jetons d'un texte, et s'ils sont bien ceux que ce texte redonnerait."""
    text = model.tokenizer.decode(ids)
    try:
        same = model.tokenizer.encode(text) == ids
    except UserError:
        same = False
    pairs = zip(ids, added(model.tokenizer, ids), strict=True)
    return {
        "tokens": [token(model, index) | {"text": more} for index, more in pairs],
        "unread": 0,  # jetons du début que le modèle ne lit pas
        "text": text,
        "faithful": same,
    }


@torch.inference_mode()
def next_logits(network: Any, ids: list[int], device: torch.device) -> Tensor:
    """Les logits du jeton suivant, en float32 sur le CPU : (1, V). UserError si l'un n'est pas un nombre."""
    found: Tensor = network.next_logits(torch.tensor([ids], device=device)).float().cpu()
    check_numbers(found)
    return found


def following(
    model: ServedModel, ids: list[int], logits: Tensor, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Tous les logits, en base64, et les premiers candidats, avant et après les filtres."""
    kept = ids[-model.context :]
    filtered = fields.strategy(values)(logits, torch.tensor([kept]), len(kept))[0].softmax(-1)
    rows = score_tokens(logits, [int(logits.argmax())], values["candidates"])[0].top
    candidates = [
        token(model, index)
        | {"logit": float(logits[0, index]), "logprob": trace, "filtered": float(filtered[index])}
        for index, trace in rows
    ]
    raw = base64.b64encode(logits[0].numpy().astype("<f4").tobytes()).decode()
    known = opened(model, kept) | {"unread": len(ids) - len(kept)}
    return known | {"vocabulary": logits.shape[1], "candidates": candidates, "logits": raw}


def surprises(model: ServedModel, ids: list[int], found: list[Scored]) -> dict[str, Any]:
    """La mesure de chaque jeton d'un texte, et la perte moyenne, en nats."""
    tokens = [token(model, ids[0]) | {"logprob": None, "rank": None, "candidates": []}]
    for one in found:
        rivals = [token(model, index) | {"logprob": trace} for index, trace in one.top]
        tokens.append(token(model, one.id) | {"logprob": one.logprob, "rank": one.rank, "candidates": rivals})
    loss = -sum(one.logprob for one in found) / len(found) if found else None
    return {"tokens": tokens, "loss": loss}


def continued(model: ServedModel, ids: list[int], values: Mapping[str, Any]) -> Choice:
    """La complétion à écrire pour une demande de la page, avec les candidats de chaque jeton."""
    request.refuse_too_long(model, ids, values["max_tokens"], "text")
    row = Row(
        ids,
        fields.strategy(values),
        values["max_tokens"],
        eos_id=model.tokenizer.eos_id,
        seed=values["seed"],
        top=CANDIDATES,
        filtered=True,
    )
    return Choice(
        0,
        row,
        request.decoder(model.tokenizer, values["text"] if isinstance(values["text"], str) else None, ids),
    )


def written(model: ServedModel, piece: Delta, before: str) -> dict[str, Any]:
    """Un morceau de cette complétion, qui vient après `before` : ses jetons, ce que chacun ajoute, et leurs candidats."""
    tokens, whole = [], before + piece.text
    ends = [*(one.offset for one in piece.tokens[1:]), len(whole)]
    for (one, start, kept), end in zip(piece.tokens, ends, strict=False):
        rivals = [
            token(model, index) | {"logprob": trace, "filtered": after}
            for (index, trace), after in zip(one.top, kept, strict=True)
        ]
        said = {"text": whole[start:end], "logprob": one.logprob, "rank": one.rank, "candidates": rivals}
        tokens.append(token(model, one.id) | said)
    return {
        "text": piece.text,
        "tokens": tokens,
        "finish_reason": FINISH[piece.reason] if piece.reason else None,
    }


@torch.inference_mode()
def looked(network: Any, ids: list[int], layer: int, device: torch.device) -> dict[str, Any]:
    """Les poids d'attention d'une couche, (H, T, T) en base64. UserError si la couche n'existe pas."""
    config = network.config
    if layer >= config.n_layers:
        raise UserError(
            f"layer={layer} : le modèle a {config.n_layers} couches, de 0 à {config.n_layers - 1}."
        )
    weights = network.attention(torch.tensor([ids], device=device), layer)[0].float().cpu()
    return {
        "heads": len(weights),
        "length": len(ids),
        "weights": base64.b64encode(weights.numpy().astype("<f4").tobytes()).decode(),
    }


def page_files() -> Iterator[tuple[str, bytes, str]]:
    """Les fichiers de la page, lus une fois : leur nom, leur contenu, leur type."""
    for path in [*sorted(PAGE.iterdir()), *([DOCS] if DOCS.exists() else [])]:
        if path.suffix in TYPES:
            yield path.name, path.read_bytes(), TYPES[path.suffix]
