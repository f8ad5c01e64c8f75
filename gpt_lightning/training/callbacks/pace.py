"""L'allure d'un entraînement : ce qu'il durera, d'après les pas, les évaluations et les textes qu'il a déjà faits."""

import math
from collections import deque
from collections.abc import Callable
from statistics import median

WINDOW = 50  # derniers pas dont on prend la médiane
BLOCK = 10  # pas de suite dont la médiane est une allure
SLOW, MINUTE = 2.0, 60.0  # une allure deux fois plus lente que la meilleure, pendant ces secondes
FORWARD = 1 / 3  # d'un pas : une évaluation n'a ni gradient ni optimiseur


class Pace:
    """Des durées (secondes), lues sur `clock`.

    Un pas compte ses jetons : ceux qui restent coûtent la médiane des derniers. Une évaluation coûte ses lots, et ce
    qui la suit (un texte, des checkpoints) ; tant qu'aucune n'a eu lieu, un lot y coûte un tiers d'un lot appris.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._steps: deque[float] = deque(maxlen=WINDOW)  # secondes par jeton
        self._since = 0.0  # le début du pas en cours
        self._paused, self._done = 0.0, 0  # secondes passées à des checkpoints entre deux pas, et pas faits
        self._began = self._last = 0.0  # de l'évaluation en cours, de son dernier lot
        self._batches = 0
        self._per_batch: float | None = None  # secondes d'un lot d'évaluation
        self._after = 0.0  # et de ce qui suit une évaluation
        self._block: list[float] = []  # secondes par jeton des derniers pas, dix au plus
        self._spent = self._slow = 0.0  # secondes de ces pas, puis celles passées de suite à une allure lente
        self._best = math.inf  # la meilleure allure

    def start(self) -> None:
        """Un pas va commencer."""
        now = self._clock()
        if self._began:  # le texte et les checkpoints de l'évaluation sont finis
            self._after = now - self._last
            self._began = 0.0
            self._since = now
        elif not self._since:
            self._since = now

    def step(self, tokens: int, paused: float = 0.0, long: float = 0.0) -> None:
        """Un pas de `tokens` jetons finit ; `paused` secondes n'en sont pas, dont `long` qui reviendront peu."""
        now = self._clock()
        spent = max(0.0, now - self._since - paused)
        self._steps.append(spent / max(1, tokens))
        self._judge(self._steps[-1], spent)
        self._since, self._done, self._paused = now, self._done + 1, self._paused + paused - long

    def _judge(self, pace: float, spent: float) -> None:
        """Compte un pas dans l'allure en cours ; dix font une allure, que l'on compare à la meilleure."""
        self._block.append(pace)
        self._spent += spent
        if len(self._block) == BLOCK:
            pace = median(self._block)
            self._slow = self._slow + self._spent if pace > SLOW * self._best else 0.0
            self._best, self._block, self._spent = min(self._best, pace), [], 0.0

    @property
    def is_slow(self) -> bool:
        """Vrai si les pas sont deux fois plus lents qu'ils ne l'ont été, depuis une minute de pas."""
        return self._slow >= MINUTE

    def evaluate(self) -> None:
        """Une évaluation commence."""
        self._began = self._last = self._clock()
        self._batches = 0

    def batch(self) -> None:
        """Un lot de l'évaluation finit."""
        self._last, self._batches = self._clock(), self._batches + 1
        self._per_batch = (self._last - self._began) / self._batches

    def remaining(
        self, steps: int, tokens_per_step: int, batches: int, batch_tokens: int, texts: int
    ) -> float:
        """Ce qu'il reste : `steps` pas, `batches` lots d'évaluation de `batch_tokens` jetons, `texts` évaluations."""
        pace = median(self._steps)
        per_batch = pace * batch_tokens * FORWARD if self._per_batch is None else self._per_batch
        pauses = self._paused / self._done
        return steps * (pace * tokens_per_step + pauses) + batches * per_batch + texts * self._after
