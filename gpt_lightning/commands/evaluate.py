"""Mesurer un modèle : `python -m gpt_lightning evaluate ckpt_path=best data=text data.path=texte.txt`."""

from typing import Any

from gpt_lightning import cli, messages
from gpt_lightning.cli import console
from gpt_lightning.commands import idle
from gpt_lightning.commands.corpus import prepared, unread
from gpt_lightning.errors import UserError, choice

SPLITS = ("val", "train", "all")


def evaluate(settings: dict[str, Any]) -> float:
    """Écrit la perte, la perplexité et les bits par octet du modèle de `ckpt_path` sur `data` ; rend la perte."""
    choice("split", settings["split"], SPLITS)

    from gpt_lightning.model import scoring
    from gpt_lightning.weights import load_for_inference

    data = unread(settings)
    where = {key: settings[key] for key in ("n_heads", "device", "dtype")}
    source, model, tokenizer, *_ = load_for_inference(settings["ckpt_path"], **where)
    prepared(data, tokenizer)
    if data.tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"{source} n'a pas les jetons du gabarit {data.template_name} : essayez data.template=texte."
        )
    splits = ("train", "val") if settings["split"] == "all" else (settings["split"],)
    progress = console.Progress(messages.tokens_done)
    if data.task == "instruct":
        found = scoring.score_answers(
            model, data.batches(*splits), data.answer_bytes(*splits), progress=progress
        )
    else:
        found = scoring.score(
            model,
            data.tokens(*splits),
            sum(data.store.meta["splits"][split]["bytes"] for split in splits),
            max_length=data.max_length,
            stride=data.stride,
            batch_size=data.batch_size,
            progress=progress,
        )
    print(messages.evaluated(source, f"{data.name}, {settings['split']}", found))
    return found.loss


def main() -> None:
    """La commande : compose conf/evaluate.yaml, avec le corpus de l'exécution, puis appelle `evaluate`."""
    cli.run(evaluate, "evaluate", inherits="data", rules=idle.RULES)
