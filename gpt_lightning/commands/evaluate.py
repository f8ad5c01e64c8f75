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
    from gpt_lightning.model.classes import ClassReport
    from gpt_lightning.model.classifier import GPTClassifier
    from gpt_lightning.weights import load_for_inference
    from gpt_lightning.weights.sources import WRITERS

    data = unread(settings)
    how = {key: settings[key] for key in ("n_heads", "device", "dtype")}
    tasks = ("classify",) if data.task == "classify" else WRITERS
    loaded = load_for_inference(settings["ckpt_path"], tasks=tasks, base=settings["base_path"], **how)
    source, model, tokenizer = loaded[:3]
    if data.task == "classify":
        data.labels = loaded.labels
    prepared(data, tokenizer)
    if data.tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"{source} n'a pas les jetons du gabarit {data.template_name} : essayez data.template=texte."
        )
    where = f"{data.name}, {settings['split']}"
    splits = ("train", "val") if settings["split"] == "all" else (settings["split"],)
    progress = console.Progress(messages.tokens_done)
    if data.task == "classify":
        assert isinstance(model, GPTClassifier)
        loss, counts = scoring.score_labels(model, data.batches(*splits), progress=progress)
        print(messages.evaluated_classes(source, where, loss, ClassReport(counts), data.labels))
        return loss
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
    print(messages.evaluated(source, where, found))
    return found.loss


def main() -> None:
    """La commande : compose conf/evaluate.yaml, avec le corpus de l'exécution, puis appelle `evaluate`."""
    cli.run(evaluate, "evaluate", inherits="data", rules=idle.RULES)
