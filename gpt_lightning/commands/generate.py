"""Continuer un texte : `python generate.py decoding=nucleus prompt="Il était une fois"`."""

from collections.abc import Sequence
from typing import Any

from gpt_lightning import cli
from gpt_lightning.cli.composition import group
from gpt_lightning.cli.targets import build
from gpt_lightning.commands import ineffective, results
from gpt_lightning.commands.prompts import check_prompts, read_prompt, read_prompts
from gpt_lightning.typing import Settings


def generate(settings: Settings) -> None:
    """Continue un texte, les lignes d'un fichier, ou un dialogue : les complétions sur stdout, le reste sur stderr."""
    check_prompts(settings)
    strategy = build("decoding", settings["decoding"])
    prompts = read_prompts(settings["prompts_file"]) if settings["prompts_file"] else None

    from gpt_lightning.commands.dialogue import generate as dialogue
    from gpt_lightning.decoding import TextStream
    from gpt_lightning.weights import load_for_inference

    where = {key: settings[key] for key in ("n_heads", "device", "dtype", "compile", "threads")}
    source, model, tokenizer, prompt, *_ = load_for_inference(
        settings["ckpt_path"], base=settings["base_path"], **where
    )
    options = {key: settings[key] for key in ("max_new_tokens", "num_samples", "seed", "logprobs")}
    options |= {"strategy": strategy, "stop": settings["stop"] or ()}

    def continue_texts(texts: Sequence[str], **changed: Any) -> TextStream:
        return TextStream(model, tokenizer, texts, **{**options, **changed})

    if settings["interactive"]:
        start = dialogue.Session(strategy, options["max_new_tokens"], options["seed"])
        dialogue.talk(
            start, continue_texts, find_strategy=lambda name: build("decoding", group("decoding", name))
        )
    elif prompts is not None:
        results.write_lines(
            prompts,
            lambda batch, start: continue_texts(batch, first_row=start * options["num_samples"]),
            output=settings["output"],
            batch_size=settings["batch_size"],
            source=source,
        )
    else:
        stream = continue_texts([read_prompt(settings, prompt)])
        context = model.config.context_length
        results.write_text(stream, source=source, context=context, live=settings["stream"])


def main() -> None:
    """La commande : compose conf/generate.yaml, puis appelle `generate`."""
    cli.run(generate, "generate", ineffective=ineffective.TABLE)
