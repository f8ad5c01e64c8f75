"""Continuer un texte : `python generate.py decoding=nucleus prompt="Il était une fois"`."""

from gpt_lightning import cli, writing


def generate(settings: dict) -> None:
    """Continue un texte, les lignes d'un fichier, ou un dialogue : les suites sur stdout, le reste sur stderr."""
    writing.check(settings)
    strategy = cli.instantiate(settings["decoding"])
    prompts = writing.read_prompts(settings["prompts_file"]) if settings["prompts_file"] else None

    from gpt_lightning.decoding import TextStream
    from gpt_lightning.weights import ready

    source, model, tokenizer = ready(
        settings["ckpt_path"], **{key: settings[key] for key in ("n_heads", "device", "dtype")}
    )
    options = {
        "strategy": strategy,
        "stop": settings["stop"] or (),
        **{key: settings[key] for key in ("max_new_tokens", "num_samples", "seed", "logprobs")},
    }

    if settings["interactive"]:
        from gpt_lightning import dialogue

        start = dialogue.Session(strategy, options["max_new_tokens"], options["seed"])
        dialogue.talk(
            start,
            lambda line, session: TextStream(model, tokenizer, [line], **{**options, **vars(session)}),
            named=lambda name: cli.instantiate(cli.group("decoding", name)),
        )
    elif prompts is not None:
        writing.write_lines(
            prompts,
            lambda batch, start: TextStream(
                model, tokenizer, batch, **options, first_row=start * options["num_samples"]
            ),
            output=settings["output"],
            batch_size=settings["batch_size"],
            source=source,
        )
    else:
        stream = TextStream(model, tokenizer, [writing.read_prompt(settings, tokenizer)], **options)
        context = model.config.context_length
        writing.write_text(stream, source=source, context=context, live=settings["stream"])


if __name__ == "__main__":
    cli.run(generate, "generate")
