"""Continuer un texte : `python generate.py decoding=nucleus prompt="Il était une fois"`."""

import sys
import time

from gpt_lightning import cli, messages


def generate(settings: dict) -> None:
    """Écrit le texte de départ et sa suite sur stdout, au fur et à mesure ; le reste va sur stderr."""
    strategy = cli.instantiate(settings["decoding"])

    from gpt_lightning.decoding import stream_text
    from gpt_lightning.weights import find_checkpoint, load

    source = settings["ckpt_path"] or ""
    if not source.startswith("hf:"):
        source = str(find_checkpoint(settings["ckpt_path"]))
    model, tokenizer = load(source, n_heads=settings["n_heads"])
    if tokenizer is None:
        raise ValueError(messages.no_tokenizer(source))
    began, summary = time.monotonic(), {}
    print(settings["prompt"], end="", flush=True)
    for text in stream_text(
        model,
        tokenizer,
        settings["prompt"],
        strategy=strategy,
        max_new_tokens=settings["max_new_tokens"],
        seed=settings["seed"],
        summary=summary,
    ):
        print(text, end="", flush=True)
    print(flush=True)
    print(messages.generated(source, seconds=time.monotonic() - began, **summary), file=sys.stderr)


if __name__ == "__main__":
    cli.run(generate, "generate")
