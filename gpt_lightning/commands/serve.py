"""Servir un modèle : `python -m gpt_lightning serve ckpt_path=best port=8000`."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning import cli
from gpt_lightning.cli import console, defaults
from gpt_lightning.cli.arguments import shell_override
from gpt_lightning.commands import ineffective
from gpt_lightning.data.reading import read_blocks
from gpt_lightning.errors import UserError, choice, number, whole
from gpt_lightning.typing import JsonObject, Settings
from gpt_lightning.wording import unknown_template

if TYPE_CHECKING:
    from gpt_lightning.serving.app import Service
    from gpt_lightning.serving.film import Film
    from gpt_lightning.serving.openai.request import ServedModel
    from gpt_lightning.serving.playground import Shape
    from gpt_lightning.weights.inference import Inference

KEY = "GPT_LIGHTNING_API_KEY"


def serve(settings: Settings, *, on_ready: Callable[[str], object] = lambda address: None) -> None:
    """Sert, jusqu'à Ctrl-C, le protocole d'OpenAI, et la page qui montre le modèle. `on_ready` reçoit l'adresse."""
    check(settings)
    key = api_key(settings)

    from gpt_lightning.serving import guard, server

    local = guard.is_loopback(settings["host"])
    if key is None and not settings["open"] and not local:
        raise UserError(
            f"host={settings['host']} ouvre ce serveur au réseau : donnez une clé (export {KEY}=..., ou "
            "api_key_file=), ou dites "
            f"open=true si tout le monde peut s'en servir."
        )
    rules = guard.access_rules(
        settings["host"],
        None if settings["hosts"] is None else as_list("hosts", settings["hosts"]),
        as_list("cors", settings["cors"] or []),
        key=key,
        behind_proxy=settings["behind_proxy"],
        max_body=settings["max_body_bytes"],
    )
    # avant d'attendre le modèle
    sock = defaults.follow(settings, lambda values: server.listen(values["host"], values["port"]))

    loaded, *others = load_models(settings)
    if loaded.unknown_template:
        console.log.warning(unknown_template(loaded.source))
    service, *seconds = open_services(settings, [loaded, *others], local)
    film = film_for(settings, loaded.source, local)
    threads = [each.worker for each in (service, *seconds)]
    grace, address = settings["shutdown_timeout"], server.address_of(sock)

    def ready() -> None:
        console.log.info(_ready_sentence(address, loaded.source, settings["name"], bool(loaded.template)))
        on_ready(address)

    http_server = server.build(
        service.app(rules, seconds[0] if seconds else None, film),
        threads,
        grace=grace,
        keep_alive=settings["keep_alive"],
        ready=ready,
        stopping=lambda: console.log.info(
            f"Arrêt : ce qui s'écrit se finit, {grace:g} s au plus ; un second Ctrl-C n'attend pas."
        ),
    )
    for thread in threads:
        thread.start()
    server.serve(http_server, sock)
    film.close()
    for thread in threads:
        thread.join(grace + 1)


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


def open_services(settings: Settings, models: list["Inference"], local: bool) -> list["Service"]:
    """Un service par modèle, chacun avec son fil et ses préfixes ; de deux, chacun connaît l'autre."""
    from gpt_lightning.decoding.prefixes import PrefixCache
    from gpt_lightning.serving.app import Service
    from gpt_lightning.serving.worker import Worker

    other = introduce(models, local) if len(models) == 2 else None
    services = []
    for loaded in models:
        model, shape = describe_model(settings, loaded, local)
        prefixes = PrefixCache(loaded.model, settings["prefix_cache_mb"] * 1_000_000)
        rows, queue = settings["max_batch_size"], settings["max_queue"]
        thread = Worker(loaded.model, rows=rows, queue=queue, prefixes=prefixes)
        shape = shape._replace(other=other)
        services.append(Service(model, thread, shape, seconds=settings["request_timeout"]))
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
    from gpt_lightning.weights.film import film_of

    where = {name: settings[name] for name in ("device", "dtype", "threads")}

    def serve_image(path: Path) -> "Service":
        loaded = load_for_inference(
            str(path), base=settings["base_path"], template=settings["template"], **where
        )
        return open_services(settings, [loaded], local)[0]

    return Film(lambda: film_of(source), serve_image)


def describe_model(settings: Settings, loaded: "Inference", local: bool) -> tuple["ServedModel", "Shape"]:
    """Décrit le modèle : de quoi lire une demande, et ce que la page en montre ; `local` : chemins compris."""
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


def check(settings: Settings) -> None:
    """UserError sur un réglage qui n'a pas de sens."""
    whole("port", settings["port"], 0, 65535)
    for name in ("max_batch_size", "max_queue", "max_body_bytes"):
        whole(name, settings[name])
    number("request_timeout", settings["request_timeout"], above=0)
    number("shutdown_timeout", settings["shutdown_timeout"], 0)
    for name in ("keep_alive", "prefix_cache_mb"):
        whole(name, settings[name], 0)
    for name in ("open", "behind_proxy"):
        choice(name, settings[name], (True, False))
    if isinstance(settings["host"], list):  # « [::1] », comme dans une adresse
        raise UserError(
            f"host= prend une seule adresse, sans crochets : host={(*settings['host'], '::1')[0]}."
        )
    for name in ("host", "name"):
        if not isinstance(settings[name], str) or not settings[name].strip():
            raise UserError(f"{name}= est vide.")
    address = re.fullmatch(r"(?:https?://)?(\[.*\]|[^/:]*)(?::([0-9]+))?/?", settings["host"])
    if address is not None and address[1] != settings["host"]:
        place = f"host={address[1].strip('[]')}" + (f" port={address[2]}" if address[2] else "")
        raise UserError(f"host={settings['host']} : l'adresse et le port se donnent à part, {place}.")


def as_list(name: str, value: object) -> list[str]:
    """Une liste de noms ; un seul, ou plusieurs que des virgules séparent, en sont une. UserError sinon."""
    texts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{name}={value} : il faut une liste de noms, {name}=[...].")
    return texts


def api_key(settings: Settings) -> str | None:
    """La clé que chaque demande doit donner : celle de l'environnement, d'un fichier, ou de la ligne de commande.

    UserError si le fichier ne se lit pas, ou si la clé n'en est pas une.
    """
    key = os.environ.get(KEY)
    if settings["api_key_file"] is not None:
        try:
            key = "".join(read_blocks(Path(settings["api_key_file"])))  # Windows y met un BOM
        except (OSError, UserError) as error:
            raise UserError(
                f"api_key_file={settings['api_key_file']} ne se lit pas ({type(error).__name__}) : il faut un "
                "fichier de texte, qui ne contient que la clé."
            ) from None
    if settings["api_key"] is not None:
        console.log.warning(
            f"api_key= se voit dans la liste des processus et l'historique du terminal : préférez {KEY} ou "
            f"api_key_file=."
        )
        key = str(settings["api_key"])
    if key is None:
        return None
    key = key.strip().lstrip("\ufeff")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(
            "La clé du serveur est vide, ou contient autre chose que des lettres, des chiffres et des signes."
        )
    return key


def _ready_sentence(address: str, source: str, name: str, chats: bool) -> str:
    """La phrase qui dit que le serveur écoute, et où."""
    routes = "/v1/completions" + (" et /v1/chat/completions" if chats else "")
    return (
        f"Le serveur écoute {address} : {source}, sous le nom « {name} ».\n"
        f"  La page : {address}/ ; {routes}, /v1/models, /health, /metrics. Ctrl-C l'arrête."
    )


def main() -> None:
    """La commande : compose conf/serve.yaml, puis appelle `serve`."""
    cli.run(serve, "serve", sweeps=False, ineffective=ineffective.TABLE)
