"""Ce que le serveur compte, au format texte de Prometheus."""

from collections import Counter, defaultdict
from collections.abc import Iterable

KNOWN = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/models",
    "/api/next",
    "/api/score",
    "/api/continue",
    "/api/tokens",
    "/api/attention",
    "/api/model",
    "/health",
    "/metrics",
    "/",
)


class Metrics:
    """Des compteurs : demandes par route et code, jetons, secondes."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.tokens: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.firsts, self.waited = 0, 0.0  # premiers morceaux, et les secondes qu'ils ont fait attendre

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Compte une réponse ; une route inconnue est « autre » : son nom vient de la demande."""
        route = path if path in KNOWN else "autre"
        self.requests[route, status] += 1
        self.seconds[route] += seconds

    def first_piece(self, seconds: float) -> None:
        """Compte l'attente d'un premier morceau."""
        self.firsts, self.waited = self.firsts + 1, self.waited + seconds

    def text(self, *, waiting: int, running: int, rows: int) -> str:
        """Le tout, en lignes."""
        lines: list[str] = []
        lines += _family(
            "requests_total",
            "counter",
            "Réponses, par route et par code.",
            (
                (f'route="{route}",status="{status}"', count)
                for (route, status), count in sorted(self.requests.items())
            ),
        )
        lines += _family(
            "request_seconds_total",
            "counter",
            "Secondes passées à répondre.",
            ((f'route="{route}"', value) for route, value in sorted(self.seconds.items())),
        )
        lines += _family(
            "tokens_total",
            "counter",
            "Jetons lus et écrits.",
            ((f'kind="{kind}"', count) for kind, count in sorted(self.tokens.items())),
        )
        lines += _family(
            "first_token_seconds_total",
            "counter",
            "Secondes d'attente du premier morceau.",
            [("", self.waited)],
        )
        lines += _family("first_tokens_total", "counter", "Premiers morceaux.", [("", self.firsts)])
        lines += _family("queue", "gauge", "Demandes qui attendent.", [("", waiting)])
        lines += _family("running", "gauge", "Suites qui s'écrivent.", [("", running)])
        lines += _family("rows", "gauge", "Suites qui peuvent s'écrire ensemble.", [("", rows)])
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, what: str, values: Iterable[tuple[str, float]]) -> list[str]:
    full = f"gpt_lightning_{name}"
    lines = [f"# HELP {full} {what}", f"# TYPE {full} {kind}"]
    return lines + [
        f"{full}{{{labels}}} {value}" if labels else f"{full} {value}" for labels, value in values
    ]
