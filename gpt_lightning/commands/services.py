"""Ouvrir les services : les modèles que l'on sert, leur présentation, le film de leur entraînement."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning.cli.arguments import shell_override
from gpt_lightning.typing import JsonObject, Settings

if TYPE_CHECKING:
    from gpt_lightning.serving.app import Service
    from gpt_lightning.serving.corpus import Explain
    from gpt_lightning.serving.film import Film
    from gpt_lightning.serving.openai.request import ServedModel
    from gpt_lightning.serving.playground import Shape
    from gpt_lightning.weights.inference import Inference


def load_models(settings: Settings) -> list["Inference"]:
    """Le modèle, puis celui de `compare=`, ou le même sans ses adaptateurs, si la page doit en montrer deux."""
    from gpt_lightning.weights import load_for_inference

    where = {name: settings[name] for name in ("device", "dtype", "threads")}
    shows, compare = "compare" in settings, settings.get("compare")
    loaded = load_for_inference(
        settings["ckpt_path"],
        n_heads=settings["n_heads"],
        base=settings["base_path"],
        template=settings["template"],
        bare=shows and compare is None,
        **where,
    )
    if compare is not None:
        return [loaded, load_for_inference(compare, key="compare", **where)]
    return [loaded] if loaded.bare is None else [loaded, loaded._replace(model=loaded.bare)]


def open_services(
    settings: Settings, models: list["Inference"], local: bool, explain: "Explain | None" = None
) -> list["Service"]:
    """Un service par modèle, chacun avec son fil et ses préfixes ; de deux, chacun connaît l'autre.

    `explain` : ce que le corpus du premier dit d'un texte.
    """
    from gpt_lightning.decoding.prefixes import PrefixCache
    from gpt_lightning.serving.app import Service
    from gpt_lightning.serving.worker import Worker

    other = introduce(models, local) if len(models) == 2 else None
    services = []
    for loaded in models:
        corpus = explain if loaded is models[0] else None
        model, shape = describe_model(settings, loaded, local, corpus=corpus is not None)
        prefixes = PrefixCache(loaded.model, settings["prefix_cache_mb"] * 1_000_000)
        rows, queue = settings["max_batch_size"], settings["max_queue"]
        thread = Worker(loaded.model, rows=rows, queue=queue, prefixes=prefixes)
        shape = shape._replace(other=other)
        seconds = settings["request_timeout"]
        services.append(Service(model, thread, shape, seconds=seconds, explain=corpus))
    return services


def introduce(models: list["Inference"], local: bool) -> JsonObject:
    """De deux modèles, ce qui distingue leurs noms, et ce qu'ils ont en commun."""
    first, second = models
    parts = [Path(loaded.source).parts for loaded in models]
    names = ["/".join(part for part in own if part not in other) for own, other in (parts, parts[::-1])]
    return {
        "names": names if local and all(names) and names[0] != names[1] else ["A", "B"],
        "same": first.tokenizer.state() == second.tokenizer.state()
        and first.model.config.vocab_size == second.model.config.vocab_size,
        "adapter": second.model is first.bare,
    }


def film_for(settings: Settings, source: str, local: bool) -> "Film":
    """Le film de l'entraînement de ce modèle ; ses images s'ouvrent et se servent comme lui."""
    from gpt_lightning.serving.film import Film
    from gpt_lightning.weights import load_for_inference
    from gpt_lightning.weights.film import base_for, film_of

    where = {name: settings[name] for name in ("device", "dtype", "threads")}
    # cette mémoire est bornée pour le modèle, pas pour chaque image
    settings = {**settings, "prefix_cache_mb": 0}

    def serve_image(path: Path) -> "Service":
        loaded = load_for_inference(
            str(path), base=base_for(path, settings["base_path"]), template=settings["template"], **where
        )
        return open_services(settings, [loaded], local)[0]

    return Film(lambda: film_of(source), serve_image)


def describe_model(
    settings: Settings, loaded: "Inference", local: bool, *, corpus: bool
) -> tuple["ServedModel", "Shape"]:
    """Décrit le modèle : de quoi lire une demande, et ce que la page en montre ; `local` : chemins compris.

    `corpus` : la page peut montrer ce qu'il a lu.
    """
    from gpt_lightning.model.cost import n_parameters
    from gpt_lightning.serving import playground
    from gpt_lightning.serving.openai import request
    from gpt_lightning.tokenizers.template import Template

    config = loaded.model.config
    model = request.ServedModel(
        name=settings["name"],
        tokenizer=loaded.tokenizer,
        context=config.context_length,
        rows=settings["max_batch_size"],
        template=Template(loaded.template, loaded.tokenizer) if loaded.template else None,
        created=int(time.time()),
        unknown_template=loaded.unknown_template,
    )
    shape = playground.Shape(
        config.n_layers,
        config.n_heads,
        config.vocab_size,
        n_parameters(config),
        loaded.prompt if settings.get("prompt") is None else settings["prompt"],
        command(settings, loaded.source) if local else "python generate.py",
        corpus=corpus,
    )
    return model, shape


def command(settings: Settings, source: str) -> str:
    """Le début de la commande de generate.py qui ouvre le même modèle, de la même façon."""
    words = ["python generate.py", shell_override("ckpt_path", Path(source))]
    if settings["base_path"] is not None:
        words.append(shell_override("base_path", Path(settings["base_path"])))
    words += [
        f"{key}={settings[key]}"
        for key in ("n_heads", "device", "dtype", "threads")
        if settings[key] not in (None, "auto")
    ]
    return " ".join(words)
