"""Répondre à la page : un texte qui s'écrit avec ses candidats, le jeton suivant, la surprise, l'attention."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpt_lightning.decoding.batching import Batch, Row
from gpt_lightning.decoding.context import Reader
from gpt_lightning.decoding.logprobs import Scored, score_tokens
from gpt_lightning.decoding.strategy import check_numbers
from gpt_lightning.decoding.text import prompt_ids, prompt_text
from gpt_lightning.errors import UserError
from gpt_lightning.serving.choice import Choice, Delta
from gpt_lightning.serving.openai import fields, request
from gpt_lightning.serving.openai.fields import Field, Refused
from gpt_lightning.serving.openai.request import ServedModel
from gpt_lightning.serving.openai.response import FINISH, text_increments, token_text
from gpt_lightning.typing import JsonObject

CANDIDATES = 10  # montrés pour un jeton écrit
WINDOWS = 8  # contextes qu'un texte mesuré peut remplir
DRAWN = 96  # jetons dont l'attention se dessine
STRATEGY = {name: fields.COMMON[name] for name in (*fields.SAMPLING, *fields.OURS)}
TEXT = {"text": Field(fields.any_value)}
NEXT = TEXT | STRATEGY | {"candidates": Field(fields.integer(1, 1000), 50)}
SCORE = TEXT | {"candidates": Field(fields.integer(0, 50), CANDIDATES)}
CONTINUE = TEXT | STRATEGY | {"seed": fields.COMMON["seed"], "max_tokens": Field(fields.length(1), 40)}
PAGE = Path(__file__).with_name("page")
# à côté du paquet dans les sources ; avec la page, une fois installé
DOCS = PAGE.parents[2] / "docs" / "decodage.md"
TYPES = {
    ".md": "text/plain",
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class Shape(NamedTuple):
    """La présentation du modèle : sa forme, un texte pour commencer, et le début de la commande qui l'ouvre."""

    layers: int
    heads: int
    vocabulary: int
    parameters: int
    prompt: str = ""  # un début de texte dans la langue du modèle
    command: str = "python generate.py"
    # l'autre modèle : {names, les deux noms ; same, vrai si le tokenizer est le même ; adapter, vrai si c'est ce modèle
    # sans ses adaptateurs}
    other: JsonObject | None = None
    corpus: bool = False  # vrai si /api/trace répond


def describe(model: ServedModel, shape: Shape) -> JsonObject:
    """Le modèle, tel que la page le présente."""
    eos = model.tokenizer.eos_id
    return {
        "name": model.name,
        "context": model.context,
        "chat": model.template is not None,
        "end": eos,
        "docs": DOCS.exists() or (PAGE / DOCS.name).exists(),
        **shape._asdict(),
    }


def text_ids(model: ServedModel, value: object) -> list[int]:
    """Les jetons d'un texte, ou d'une liste d'identifiants. Refused s'ils ne se lisent pas."""
    try:
        if isinstance(value, str):
            return prompt_ids(model.tokenizer, value)
        return request.token_ids("text", value, model.tokenizer)
    except UserError as error:
        raise Refused(str(error), param="text", code="invalid_value") from None


def token(model: ServedModel, index: int) -> JsonObject:
    """Un jeton : son identifiant, son texte, ses octets."""
    return {
        "id": index,
        "token": token_text(model.tokenizer, index),
        "bytes": list(model.tokenizer.token_bytes(index)),
    }


def tokens_of(model: ServedModel, ids: list[int]) -> JsonObject:
    """Les jetons d'un texte, et s'ils sont bien ceux que ce texte redonnerait."""
    text = prompt_text(model.tokenizer, ids)
    try:
        same = prompt_ids(model.tokenizer, text) == ids
    except UserError:
        same = False
    pairs = zip(ids, text_increments(model.tokenizer, ids), strict=True)
    return {
        "tokens": [token(model, index) | {"text": increment} for index, increment in pairs],
        "unread": 0,  # jetons du début que le modèle ne lit pas
        "text": text,
        "faithful": same,
    }


@torch.inference_mode()
def next_logits(batch: Batch, ids: list[int]) -> Tensor:
    """Les logits du jeton suivant, en float32 sur le CPU : (1, V). UserError si l'un n'est pas un nombre.

    Ce que le lot garde du début du texte n'est pas relu.
    """
    reader = Reader(batch.model, [ids], 0, batch.prefixes)
    logits = reader.prefill().float().cpu()
    check_numbers(logits)
    reader.remember()
    return logits


def next_token(model: ServedModel, ids: list[int], logits: Tensor, values: JsonObject) -> JsonObject:
    """Tous les logits, en base64, et les premiers candidats, avant et après les filtres."""
    window = ids[-model.context :]
    filtered = fields.strategy(values)(logits, torch.tensor([window]), len(window))[0].softmax(-1)
    rows = score_tokens(logits, [int(logits.argmax())], values["candidates"])[0].top
    candidates = [
        token(model, index)
        | {"logit": float(logits[0, index]), "logprob": trace, "filtered": float(filtered[index])}
        for index, trace in rows
    ]
    raw = base64.b64encode(logits[0].numpy().astype("<f4").tobytes()).decode()
    text = tokens_of(model, window) | {"unread": len(ids) - len(window)}
    return text | {"vocabulary": logits.shape[1], "candidates": candidates, "logits": raw}


def surprises(model: ServedModel, ids: list[int], scores: list[Scored]) -> JsonObject:
    """La mesure de chaque jeton d'un texte, et la perte moyenne, en nats."""
    tokens = [token(model, ids[0]) | {"logprob": None, "rank": None, "candidates": []}]
    for score in scores:
        rivals = [token(model, index) | {"logprob": trace} for index, trace in score.top]
        measure = {"logprob": score.logprob, "rank": score.rank, "candidates": rivals}
        tokens.append(token(model, score.id) | measure)
    loss = -sum(score.logprob for score in scores) / len(scores) if scores else None
    return {"tokens": tokens, "loss": loss}


def continuation(model: ServedModel, ids: list[int], values: JsonObject) -> Choice:
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


def chunk(model: ServedModel, piece: Delta, before: str) -> JsonObject:
    """Un morceau de cette complétion, qui vient après `before` : ses jetons, leur texte et leurs candidats."""
    tokens, text = [], before + piece.text
    ends = [*(shown.offset for shown in piece.tokens[1:]), len(text)]
    for (score, start, filtered), end in zip(piece.tokens, ends, strict=False):
        rivals = [
            token(model, index) | {"logprob": trace, "filtered": after}
            for (index, trace), after in zip(score.top, filtered, strict=True)
        ]
        measure = {
            "text": text[start:end],
            "logprob": score.logprob,
            "rank": score.rank,
            "candidates": rivals,
        }
        tokens.append(token(model, score.id) | measure)
    return {
        "text": piece.text,
        "tokens": tokens,
        "finish_reason": FINISH[piece.reason] if piece.reason else None,
    }


def attention_fields(shape: Shape) -> dict[str, Field]:
    """Les champs d'une demande d'attention : le texte, et une couche de ce modèle."""
    return TEXT | {"layer": Field(fields.integer(0, shape.layers - 1), 0)}


@torch.inference_mode()
def attention_weights(network: Any, ids: list[int], layer: int, device: torch.device) -> JsonObject:
    """Les poids d'attention d'une couche, (H, T, T) en base64."""
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
