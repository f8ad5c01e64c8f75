"""Le fil qui tient le modèle : des demandes y attendent, entrent dans le lot, et en sortent.

Un seul fil calcule. Le serveur lui donne des travaux (`submit`), et reçoit ce qui en sort par `deliver`, appelée depuis
ce fil-ci.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from gpt_lightning.decoding.batching import Arrival, Batch, Row, Written
from gpt_lightning.decoding.prefixes import PrefixCache
from gpt_lightning.errors import UserError
from gpt_lightning.serving.choice import Choice, Delta, Done
from gpt_lightning.serving.openai.fields import Refused

log = logging.getLogger("gpt_lightning")
JOB_FAILED = "Le serveur n'a pas pu répondre : son journal dit pourquoi."
LATE = "La demande a pris plus de temps qu'elle n'en a ici."
WATCH = 0.5  # secondes entre deux regards aux échéances, quand rien ne se passe
Delivery: TypeAlias = Delta | Done | Refused  # ce que le fil du modèle donne d'un travail


class Job:
    """Un travail : des complétions à écrire (`choices`, par départ), ou une fonction à appeler (`call`).

    `deliver` reçoit des `Delta`, puis un `Done`, ou un `Refused`. `deadline` : l'instant où il est trop tard.
    """

    def __init__(
        self,
        deliver: Callable[[Delivery], None],
        *,
        deadline: float,
        choices: Sequence[Sequence[Choice]] = (),
        call: Callable[[], object] | None = None,
    ) -> None:
        self.deliver, self.call, self.deadline = deliver, call, deadline
        self.pending = deque(Arrival([choice.row for choice in group]) for group in choices)
        self.choices = {choice.row: choice for group in choices for choice in group}
        self.cancelled = False


class Worker:
    """Le modèle et son lot de `rows` lignes ; `queue` travaux attendent au plus."""

    def __init__(self, model: Any, *, rows: int, queue: int, prefixes: PrefixCache | None = None) -> None:
        self.batch, self.queue = Batch(model, rows, prefixes), queue
        self.waiting: deque[Job] = deque()
        self.running: set[Job] = set()
        self._owner: dict[Row, Job] = {}
        self._changed = threading.Condition()
        self._closing: float | None = None  # l'instant où ce qui reste est coupé
        self._thread = threading.Thread(target=self._work, name="gpt_lightning", daemon=True)

    def start(self) -> None:
        """Lance le fil."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Met un travail dans la file. Refused si elle est pleine, ou si le serveur s'arrête."""
        with self._changed:
            if self._closing is not None:
                raise Refused("Le serveur s'arrête.", status=503, code="shutting_down")
            if len(self.waiting) >= self.queue:
                raise Refused(
                    f"Le serveur est occupé : {self.queue} demandes attendent déjà.",
                    status=429,
                    code="queue_full",
                    headers={"Retry-After": "1"},
                )
            self.waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Oublie un travail, dont plus personne n'attend rien : ses lignes sont libres au jeton suivant."""
        with self._changed:
            job.cancelled = True
            if job in self.waiting:
                self.waiting.remove(job)
            self._changed.notify()

    def close(self, grace: float) -> None:
        """Refuse ce qui attend, laisse `grace` secondes à ce qui s'écrit, puis finit ; n'attend pas."""
        with self._changed:
            self._closing = time.monotonic() + grace
            refused = [job for job in self.waiting if job not in self.running]
            self.waiting = deque(job for job in self.waiting if job in self.running)
            self._changed.notify()
        for job in refused:
            job.deliver(Refused("Le serveur s'arrête.", status=503, code="shutting_down"))

    @property
    def is_alive(self) -> bool:
        """Vrai tant que le fil répond."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Attend la fin du fil, après `close`."""
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self.waiting and not self.running:
                    if self._closing is not None:
                        return
                    self._changed.wait(WATCH)
                self._drop()
                call = self._admit()
            try:
                if call is not None:
                    self._call(call)
                for written in self.batch.step():
                    self._deliver(written)
            except Exception as error:  # le modèle donne des NaN, la mémoire manque : ces travaux-là échouent
                self._fail(error)

    def _drop(self) -> None:
        """Retire ce qui est annulé, ce dont l'heure est passée, et, à la fin de l'arrêt, ce qui reste."""
        now = time.monotonic()
        closed = self._closing is not None and now > self._closing
        for job in [*self.running, *(job for job in self.waiting if job not in self.running)]:
            if job.cancelled:
                self._forget(job)
            elif closed:
                self._forget(job, Refused("Le serveur s'arrête.", status=503, code="shutting_down"))
            elif now > job.deadline:
                self._forget(job, Refused(LATE, status=504, code="timeout"))

    def _forget(self, job: Job, error: Refused | None = None) -> None:
        for row in job.choices:
            self.batch.leave(row)
            self._owner.pop(row, None)
        self.running.discard(job)
        if job in self.waiting:
            self.waiting.remove(job)
        if error is not None:
            job.deliver(error)

    def _admit(self) -> Job | None:
        """Fait entrer les travaux qui ont leur place ; renvoie celui qui est à appeler, et qui n'en prend pas.

        Un travail de plusieurs textes n'en fait entrer qu'un, puis repasse derrière les autres.
        """
        call = next((job for job in self.waiting if job.call is not None), None)
        if call is not None:
            self.waiting.remove(call)
        while (job := self._next_to_write()) is not None and len(job.pending[0].rows) <= self.batch.free:
            self.waiting.remove(job)
            arrival = job.pending.popleft()
            self._owner |= dict.fromkeys(arrival.rows, job)
            self.running.add(job)
            self.batch.join(arrival)
            if job.pending:
                self.waiting.append(job)
        return call

    def _next_to_write(self) -> Job | None:
        return next((job for job in self.waiting if job.call is None), None)

    def _call(self, job: Job) -> None:
        assert job.call is not None
        try:
            answer: Delivery = Done(job.call())
        except UserError as error:
            answer = Refused(str(error), code="invalid_value")
        except Exception as error:
            answer = _failure(error)
        job.deliver(answer)

    def _deliver(self, written: Written) -> None:
        job = self._owner.get(written.row)
        if job is None:  # une autre de ses complétions a échoué
            return
        try:
            if written.error is not None:
                raise written.error
            piece = job.choices[written.row].piece(written)
        except Exception as error:
            with self._changed:
                self._forget(job, _failure(error))
            return
        if piece is not None:
            job.deliver(piece)
        if written.reason is not None:
            del self._owner[written.row], job.choices[written.row]
            if not job.choices:
                self.running.discard(job)
                job.deliver(Done())

    def _fail(self, error: Exception) -> None:
        """Fait échouer tout ce qui s'écrivait : le modèle lui-même a failli."""
        failure = _failure(error)
        with self._changed:
            self.batch.clear()
            for job in list(self.running):
                self._forget(job, failure)


def _failure(error: Exception) -> Refused:
    """Le refus qu'un client reçoit d'une faute du serveur ; le journal en dit plus."""
    if isinstance(error, UserError):
        return Refused(str(error), status=500, code="internal_error")
    log.error(JOB_FAILED, exc_info=error)
    return Refused(JOB_FAILED, status=500, code="internal_error")
