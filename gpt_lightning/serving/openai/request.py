"""Lire une demande du protocole d'OpenAI et en faire des complétions à écrire ; `response` en fait des réponses.

Source : la documentation de l'API d'OpenAI, routes /v1/completions et /v1/chat/completions.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gpt_lightning.decoding.batching import Row
from gpt_lightning.decoding.text import continuation_decoder, prompt_ids, prompt_text
from gpt_lightning.errors import UserError, whole
from gpt_lightning.serving.choice import Choice
from gpt_lightning.serving.openai.fields import (
    CHOICES,
    COMMON,
    LONGEST,
    Field,
    Refused,
    any_value,
    boolean,
    exact,
    integer,
    length,
    read,
    scope,
    strategy,
    unsupported_field,
)
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.tokenizers.messages import read_messages, unfinished_answer
from gpt_lightning.tokenizers.template import Template
from gpt_lightning.typing import JsonObject
from gpt_lightning.wording import unknown_template

COMPLETION = COMMON | {
    "prompt": Field(any_value),
    "max_tokens": Field(length(0), 16),
    "n": Field(integer(1, CHOICES), 1),
    "echo": Field(boolean, False),
    "logprobs": Field(lambda name, value: None if value is False else whole(name, exact(value), 0, 5)),
}
CHAT = COMMON | {
    "messages": Field(any_value),
    "max_tokens": Field(length(1)),
    "max_completion_tokens": Field(length(1)),
    "n": Field(integer(1, CHOICES), 1),
    "logprobs": Field(boolean, False),
    "top_logprobs": Field(integer(0, 20)),
    "continue_final_message": Field(boolean),
    "add_generation_prompt": Field(boolean),
}


class ServedModel(NamedTuple):
    """Le modèle, pour qui lit une demande : son nom, son tokenizer, ses limites, son gabarit."""

    name: str
    tokenizer: Tokenizer
    context: int
    rows: int  # complétions qui s'écrivent ensemble, au plus
    template: Template | None = None
    created: int = 0
    unknown_template: bool = False  # il en a un que l'on ne reconnaît pas

    def entry(self) -> JsonObject:
        """Le modèle, tel que /v1/models le montre."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "gpt_lightning"}


@dataclass(frozen=True)
class Request:
    """Une demande lue : ses complétions, par texte de départ, et la forme de sa réponse."""

    id: str
    created: int
    model: ServedModel
    chat: bool
    groups: list[list[Choice]]
    prompts: list[list[int]]  # les jetons de chaque texte de départ
    n: int
    stream: bool
    usage: bool  # finir un flux par le compte des jetons
    top: int | None  # candidats montrés à chaque jeton ; None : aucune mesure
    max_tokens: int
    echoed: list[str | None] | None = None  # les textes de départ, à répéter devant leur complétion

    @property
    def choices(self) -> list[Choice]:
        """Toutes les complétions, dans l'ordre de leurs rangs."""
        return [choice for group in self.groups for choice in group]

    def token_usage(self, written: int) -> JsonObject:
        """Le compte des jetons, quand `written` ont été écrits."""
        prompt, cached = sum(map(len, self.prompts)), sum(group[0].row.cached for group in self.groups)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


def completion(body: JsonObject, model: ServedModel) -> Request:
    """Lit une demande de /v1/completions. Refused, qui nomme le champ, si elle n'a pas de sens."""
    values = read(body, COMPLETION)
    check_model(values["model"], model)
    prompts = _prompts(values["prompt"], values["n"], model)
    texts = [text for text, _ in prompts]
    decoders = [decoder(model.tokenizer, text, ids) for text, ids in prompts]
    echoed = texts if values["echo"] else None
    prompts_ids = [ids for _, ids in prompts]
    return _request(values, model, prompts_ids, decoders, top=values["logprobs"], echoed=echoed)


def chat(body: JsonObject, model: ServedModel) -> Request:
    """Lit une demande de /v1/chat/completions. Refused si le modèle n'a jamais appris à répondre."""
    values = read(body, CHAT)
    check_model(values["model"], model)
    if model.template is None:
        raise Refused(
            unknown_template("Ce modèle")
            if model.unknown_template
            else "Ce modèle n'a pas appris à répondre : /v1/completions continue un texte, et python train.py "
            "experiment=instruct lui apprend.",
            param="messages",
            code="not_a_chat_model",
        )
    if values["top_logprobs"] and not values["logprobs"]:
        raise Refused("top_logprobs demande logprobs=true.", param="top_logprobs")
    lengths = {values["max_tokens"], values["max_completion_tokens"]} - {None, LONGEST}
    if len(lengths) > 1:
        raise Refused(
            "max_tokens est l'ancien nom de max_completion_tokens : donnez l'un des deux.", param="max_tokens"
        )
    values["max_tokens"] = min(lengths, default=model.context)
    values["stop"] = (*values["stop"], *model.template.stop)
    try:
        messages = read_messages(values["messages"])
        ids = model.template.opening(messages)
    except UserError as error:
        raise Refused(str(error), param="messages") from None
    begun = unfinished_answer(messages)
    _check_ending(values, bool(begun))
    decode = continuation_decoder(model.tokenizer, begun, ids)
    top = (values["top_logprobs"] or 0) if values["logprobs"] else None
    return _request(values, model, [ids], [decode], top=top, is_chat=True)


def _check_ending(values: JsonObject, begun: bool) -> None:
    """Refused si la demande dit autre chose de la dernière réponse que ce que le gabarit en fait : la continuer."""
    for name, meant in (("continue_final_message", begun), ("add_generation_prompt", not begun)):
        if values[name] not in (None, meant):
            raise Refused(
                f"{name} : une conversation qui finit par un message de l'assistant est continuée, et toute autre "
                "reçoit une réponse ; retirez ce champ.",
                param=name,
            )


def _request(
    values: JsonObject,
    model: ServedModel,
    prompts: list[list[int]],
    decoders: Sequence[Callable[[list[int]], str]],
    *,
    top: int | None,
    echoed: list[str | None] | None = None,
    is_chat: bool = False,
) -> Request:
    n, most = values["n"], values["max_tokens"]
    if n > model.rows:
        raise Refused(f"n={n} : ce serveur écrit {model.rows} complétions ensemble, au plus.", param="n")
    if values["best_of"] not in (None, 1, n):
        raise unsupported_field("best_of")
    for ids in prompts:
        refuse_too_long(model, ids, most, "messages" if is_chat else "prompt")
    options = {"strategy": strategy(values), "max_new_tokens": most, "seed": values["seed"], "top": top}
    options |= {"eos_id": model.tokenizer.eos_id, "scope": scope(values)}
    groups = [
        [
            Choice(rank, Row(ids, rank=rank, **options), decode, values["stop"])
            for rank in range(first * n, (first + 1) * n)
        ]
        for first, (ids, decode) in enumerate(zip(prompts, decoders, strict=True))
    ]
    return Request(
        id=f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=model,
        chat=is_chat,
        groups=groups,
        prompts=prompts,
        n=n,
        stream=values["stream"],
        usage=values["stream_options"],
        top=top,
        max_tokens=most,
        echoed=echoed,
    )


def refuse_too_long(model: ServedModel, ids: Sequence[int], most: int, param: str) -> None:
    """Refused, au nom du champ `param`, si `ids` et `most` jetons de plus ne tiennent pas dans le contexte."""
    if len(ids) + (most > 0 and len(ids) == model.context) > model.context:
        raise Refused(
            f"{len(ids)} jetons, et ce modèle en lit {model.context}, complétion comprise : raccourcissez le texte.",
            param=param,
            code="context_length_exceeded",
        )


def check_model(name: str | None, model: ServedModel) -> None:
    """Refused (404) si ce n'est pas le nom du modèle servi ; aucun nom est le sien."""
    if name and name != model.name:
        raise Refused(
            f"Le modèle {name[:60]} n'est pas ici : ce serveur a {model.name}.",
            status=404,
            param="model",
            code="model_not_found",
        )


def _prompts(value: object, n: int, model: ServedModel) -> list[tuple[str | None, list[int]]]:
    """Les textes de départ (None, s'il n'y a que des jetons) et leurs jetons ; `value` en est un, ou une liste."""
    if value is None:
        value = ""
    listed = value if isinstance(value, list) else [value]
    if value and isinstance(value, list) and all(isinstance(token, int) for token in value):
        listed = [value]
    if not listed:
        raise Refused("prompt est une liste vide.", param="prompt")
    if len(listed) * n > CHOICES:  # avant de lire des textes par milliers
        raise Refused(
            f"{len(listed)} textes et n={n} : une demande a {CHOICES} complétions au plus.", param="n"
        )
    return [_prompt(prompt, model) for prompt in listed]


def _prompt(value: object, model: ServedModel) -> tuple[str | None, list[int]]:
    try:
        if isinstance(value, str):
            return value, prompt_ids(model.tokenizer, value)
        return None, token_ids("prompt", value, model.tokenizer)
    except UserError as error:
        raise Refused(str(error), param="prompt", code="invalid_value") from None


def token_ids(name: str, value: object, tokenizer: Tokenizer) -> list[int]:
    """Des identifiants du vocabulaire. UserError sinon."""
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{name} : il faut un texte, des identifiants de jetons, ou une liste des uns ou des autres."
        )
    return [whole(name, token, 0, tokenizer.vocab_size - 1) for token in value]


def decoder(tokenizer: Tokenizer, text: str | None, ids: list[int]) -> Callable[[list[int]], str]:
    """Le décodeur de la complétion de `text`, dont `ids` sont les jetons ; sans texte, ils en tiennent lieu."""
    return continuation_decoder(tokenizer, prompt_text(tokenizer, ids) if text is None else text, ids)
