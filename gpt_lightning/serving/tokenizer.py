"""Les routes d'un tokenizer, telles que vLLM les définit : /tokenizer_info, /tokenize et /detokenize.

`lm_eval --model local-completions` les demande, pour couper un texte comme le modèle servi. Comme chez vLLM, un jeton
spécial écrit dans le texte en est un.
"""

from starlette.requests import Request as HTTPRequest
from starlette.responses import Response
from starlette.routing import Route

from gpt_lightning.decoding.text import opening_id
from gpt_lightning.errors import UserError
from gpt_lightning.serving.openai import fields, request
from gpt_lightning.serving.openai.fields import Field, Refused
from gpt_lightning.serving.openai.request import ServedModel
from gpt_lightning.serving.openai.response import token_text
from gpt_lightning.serving.replies import call_in_thread, read_body, to_json
from gpt_lightning.tokenizers.special import exported_options, special_tokens
from gpt_lightning.typing import JsonObject

MODEL = {"model": Field(fields.text)}
TOKENIZE = MODEL | {
    "prompt": Field(fields.text),
    "messages": Field(fields.any_value),
    "add_special_tokens": Field(fields.boolean),
    "add_generation_prompt": Field(fields.boolean),
    "continue_final_message": Field(fields.boolean),
    "return_token_strs": Field(fields.boolean, False),
}
DETOKENIZE = MODEL | {"tokens": Field(fields.any_value)}


def routes(model: ServedModel) -> list[Route]:
    """Les trois routes, pour ce modèle."""

    async def show(asked: HTTPRequest) -> Response:
        return await call_in_thread(to_json, describe, model)

    async def encode(asked: HTTPRequest) -> Response:
        values = await call_in_thread(read_body, tokenize, await asked.body(), model)
        return await call_in_thread(to_json, lambda: values)

    async def decode(asked: HTTPRequest) -> Response:
        values = await call_in_thread(read_body, detokenize, await asked.body(), model)
        return await call_in_thread(to_json, lambda: values)

    return [
        Route("/tokenizer_info", show),
        Route("/tokenize", encode, methods=["POST"]),
        Route("/detokenize", decode, methods=["POST"]),
    ]


def describe(model: ServedModel) -> JsonObject:
    """Ce que tokenizer_config.json en dirait : sa classe, ses jetons spéciaux, son gabarit, le contexte du modèle."""
    template = {} if model.template is None else {"chat_template": model.template.jinja()}
    options = {"tokenizer_class": type(model.tokenizer).__name__, **exported_options(model.tokenizer)}
    return {**options, **special_tokens(model.tokenizer), "model_max_length": model.context, **template}


def tokenize(body: JsonObject, model: ServedModel) -> JsonObject:
    """Les jetons d'un texte, ou d'une conversation dans le gabarit du modèle."""
    values = fields.read(body, TOKENIZE)
    request.check_model(values["model"], model)
    if (values["prompt"] is None) == (values["messages"] is None):
        raise Refused("Il faut un texte (prompt) ou une conversation (messages).", param="prompt")
    if values["prompt"] is None:
        ids = request.conversation(values, model)[0]
    else:
        ids = _encode(values["prompt"], model)
        opening = opening_id(model.tokenizer)
        if opening is not None and values["add_special_tokens"] is not False:
            ids = [opening, *ids]
    texts = [token_text(model.tokenizer, index) for index in ids] if values["return_token_strs"] else None
    return {"count": len(ids), "max_model_len": model.context, "tokens": ids, "token_strs": texts}


def _encode(text: str, model: ServedModel) -> list[int]:
    try:
        return model.tokenizer.encode(text, special=True)
    except UserError as error:
        raise Refused(str(error), param="prompt", code="invalid_value") from None


def detokenize(body: JsonObject, model: ServedModel) -> JsonObject:
    """Le texte de ces jetons ; aucun n'en fait pas."""
    values = fields.read(body, DETOKENIZE)
    request.check_model(values["model"], model)
    if values["tokens"] == []:
        return {"prompt": ""}
    try:
        ids = request.token_ids("tokens", values["tokens"], model.tokenizer)
    except UserError as error:
        raise Refused(str(error), param="tokens", code="invalid_value") from None
    return {"prompt": model.tokenizer.decode(ids)}
