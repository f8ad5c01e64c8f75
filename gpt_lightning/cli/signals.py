"""Les signaux d'une commande longue : finir la commande proprement, ou les noter pendant l'entraînement."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")  # ceux que le système n'a pas sont passés


class Interrupted(BaseException):
    """La commande finit sur le signal `signum` : son code est 128 + `signum`."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _State:
    noting = False  # vrai pendant un entraînement : un signal attend la fin du pas
    received = 0


def listen() -> None:
    """Fait lever `Interrupted` à chaque signal qui arrive. Ceux qui étaient ignorés (nohup) le restent."""
    for name in NAMES:
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) not in (signal.SIG_IGN, None):
            signal.signal(signum, _handle)


@contextlib.contextmanager
def note_signals() -> Iterator[None]:
    """Note seulement le signal qui arrive pendant ce bloc ; `last_signal` le donne.

    Un second Ctrl-C sort aussitôt : le dernier checkpoint est entier.
    """
    _State.noting, _State.received = True, 0
    try:
        yield
    finally:
        _State.noting = False


def last_signal() -> int:
    """Le signal noté, ou 0."""
    return _State.received


def _handle(signum: int, frame: FrameType | None) -> None:
    if not _State.noting:
        raise Interrupted(signum)
    if _State.received == signum == signal.SIGINT:
        os._exit(128 + signum)
    if not _State.received:
        _State.received = signum
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            print(_stop_sentence(name_of(signum)), file=sys.stderr, flush=True)


def name_of(signum: int) -> str:
    """« Ctrl-C », ou le nom du signal."""
    return "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


def _stop_sentence(signal: str) -> str:
    """La phrase d'un signal qui arrive pendant l'entraînement."""
    again = " (encore une fois pour sortir aussitôt)" if signal == "Ctrl-C" else ""
    return f"\n{signal} : le pas en cours se termine, puis l'entraînement est sauvé{again}."
