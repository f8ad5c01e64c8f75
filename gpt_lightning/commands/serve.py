"""Servir un modèle : `python -m gpt_lightning serve ckpt_path=best port=8000`."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning import cli
from gpt_lightning.cli import console, defaults
from gpt_lightning.cli.composition import compose_resolved
from gpt_lightning.cli.resume import inherited_overrides, literal
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.corpus import open_trained_corpus, sorting_line
from gpt_lightning.commands.services import film_for, load_models, open_services
from gpt_lightning.data.reading import read_blocks
from gpt_lightning.errors import UserError, choice, number, whole
from gpt_lightning.typing import JsonObject, Settings
from gpt_lightning.wording import unknown_template

if TYPE_CHECKING:
    from gpt_lightning.data.tracing.corpus import Traced
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
            "api_key_file=), ou dites open=true si tout le monde peut s'en servir."
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
    explain = corpus_of(settings, loaded, key, local)
    service, *seconds = open_services(settings, [loaded, *others], local, explain)
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


class TracedCorpus:
    """Le corpus que ce modèle a appris, ouvert à la première question : ce qu'un texte a en commun avec lui."""

    def __init__(self, loaded: "Inference") -> None:
        self._loaded, self._lock = loaded, threading.Lock()
        self._traced: Traced | None = None

    def __call__(self, text: str, least: int | None, is_stopped: Callable[[], bool]) -> JsonObject:
        """Sa part copiée et ses passages, en valeurs simples. UserError si le corpus n'est plus là ; Stopped."""
        with self._lock:
            if self._traced is None:
                overrides = inherited_overrides([f"ckpt_path={literal(self._loaded.source)}"], "data")
                settings, _ = compose_resolved("trace", *overrides)
                data = defaults.follow(
                    settings, lambda values: open_trained_corpus(values["data"], self._loaded)
                )
                self._traced = data.open_index(sorting_line())
            assert self._traced is not None  # construit s'il n'existait pas
            return self._traced.explain(text, least, is_stopped)


def corpus_of(settings: Settings, loaded: "Inference", key: str | None, local: bool) -> "TracedCorpus | None":
    """Le corpus de ce modèle, s'il est connu et que l'on peut le montrer à qui écrit à ce serveur."""
    shown = settings["corpus"] and loaded.corpus and is_private(settings, key, local)
    return TracedCorpus(loaded) if shown else None


def is_private(settings: Settings, key: str | None, local: bool) -> bool:
    """Vrai si seule cette machine, ou qui a la clé, peut écrire à ce serveur : le corpus peut être à quelqu'un."""
    opened = settings["behind_proxy"] or settings["hosts"] or settings["cors"]
    return key is not None or (local and not opened)


def check(settings: Settings) -> None:
    """UserError sur un réglage qui n'a pas de sens."""
    whole("port", settings["port"], 0, 65535)
    for name in ("max_batch_size", "max_queue", "max_body_bytes"):
        whole(name, settings[name])
    number("request_timeout", settings["request_timeout"], above=0)
    number("shutdown_timeout", settings["shutdown_timeout"], 0)
    for name in ("keep_alive", "prefix_cache_mb"):
        whole(name, settings[name], 0)
    for name in ("open", "behind_proxy", "corpus"):
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
