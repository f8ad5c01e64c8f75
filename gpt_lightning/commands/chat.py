"""Converser : `python -m gpt_lightning chat ckpt_path=best`."""

from gpt_lightning import cli
from gpt_lightning.cli.composition import group
from gpt_lightning.cli.targets import build
from gpt_lightning.commands import ineffective
from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.typing import Settings
from gpt_lightning.wording import unknown_template


def chat(settings: Settings) -> None:
    """Répond à `prompt`, ou tient une conversation : les réponses sur stdout, le reste sur stderr."""
    whole("max_new_tokens", settings["max_new_tokens"])
    whole("prefix_cache_mb", settings["prefix_cache_mb"], 0)
    if settings["seed"] is not None:
        whole("seed", settings["seed"], 0)
    choice("compile", settings["compile"], (True, False))
    if settings["prompt"] is not None and not settings["prompt"].strip():
        raise UserError("prompt= est vide : il faut une question, ou rien pour dialoguer.")
    strategy = build("decoding", settings["decoding"])

    from gpt_lightning.commands.dialogue import chat as dialogue
    from gpt_lightning.model.tasks import ANSWERS, TEXT
    from gpt_lightning.weights import load_for_inference

    where = {key: settings[key] for key in ("n_heads", "device", "dtype", "compile", "threads")}
    loaded = load_for_inference(
        settings["ckpt_path"],
        tasks=(ANSWERS.name, TEXT.name),
        base=settings["base_path"],
        template=settings["template"],
        **where,
    )
    if loaded.unknown_template:
        raise UserError(unknown_template(loaded.source))
    start = dialogue.ChatSession(strategy, settings["max_new_tokens"], settings["seed"], settings["system"])
    speaker = dialogue.Speaker(loaded, settings["prefix_cache_mb"] * 1_000_000)
    if settings["prompt"] is not None:
        dialogue.answer_once(speaker, settings["prompt"], start)
    else:
        dialogue.talk(speaker, start, find_strategy=lambda name: build("decoding", group("decoding", name)))


def main() -> None:
    """La commande : compose conf/chat.yaml, puis appelle `chat`."""
    cli.run(chat, "chat", ineffective=ineffective.TABLE)
