"""Ce que le serveur compte, au format texte de Prometheus."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

from gpt_lightning.decoding.batching import Batch

disable_created_metrics()  # la date de naissance d'un compteur n'est demandée par personne

KNOWN = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/models",
    "/api/next",
    "/api/score",
    "/api/continue",
    "/api/tokens",
    "/api/attention",
    "/api/inside",
    "/api/trace",
    "/api/film",
    "/tokenizer_info",
    "/tokenize",
    "/detokenize",
    "/api/model",
    "/health",
    "/metrics",
    "/",
)


class Metrics:
    """Des compteurs : demandes par route et code, jetons, secondes. Chaque service a les siens."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, namespace="gpt_lightning", registry=self.registry)
        gauge = partial(Gauge, namespace="gpt_lightning", registry=self.registry)
        self.requests = counter("requests_total", "Réponses, par route et par code.", ["route", "status"])
        self.seconds = counter("request_seconds_total", "Secondes passées à répondre.", ["route"])
        self.tokens = counter("tokens_total", "Jetons lus, déjà lus, et écrits.", ["kind"])
        self.waited = counter("first_token_seconds_total", "Secondes d'attente du premier morceau.")
        self.firsts = counter("first_tokens_total", "Premiers morceaux.")
        self.queue = gauge("queue", "Demandes qui attendent.")
        self.running = gauge("running", "Complétions qui s'écrivent.")
        self.rows = gauge("rows", "Complétions qui peuvent s'écrire ensemble.")
        self.prefixes = gauge("prefix_bytes", "Octets des préfixes gardés.")

    def count_response(self, path: str, status: int, seconds: float) -> None:
        """Compte une réponse ; une route inconnue est « autre » : son nom vient de la demande."""
        route = path if path in KNOWN else "autre"
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).inc(seconds)

    def count_first_piece(self, seconds: float) -> None:
        """Compte l'attente d'un premier morceau."""
        self.firsts.inc()
        self.waited.inc(seconds)

    def count_prompt(self, tokens: int) -> None:
        """Compte les jetons d'un départ."""
        self.tokens.labels("prompt").inc(tokens)

    def count_reuse(self, tokens: int) -> None:
        """Compte ceux d'un départ qui n'ont pas été relus."""
        self.tokens.labels("cached").inc(tokens)

    def count_completion(self, tokens: int) -> None:
        """Compte les jetons d'une complétion."""
        self.tokens.labels("completion").inc(tokens)

    def text(self, waiting: int, batch: Batch) -> str:
        """Le tout, en lignes, quand `waiting` demandes attendent devant ce lot."""
        self.queue.set(waiting)
        self.running.set(len(batch.rows))
        self.rows.set(batch.size)
        self.prefixes.set(batch.prefixes.bytes)
        return generate_latest(self.registry).decode()
