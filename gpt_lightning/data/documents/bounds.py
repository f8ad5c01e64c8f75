"""Les bornes d'un fichier : ce qu'il donne une fois déplié, le calcul qu'il coûte ; et la phrase d'un fichier abîmé."""

import io
import signal
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from gpt_lightning.errors import UserError
from gpt_lightning.wording import magnitude

FLOOR = (
    1 << 20
)  # octets qu'un fichier peut toujours donner : un petit texte qui se répète se comprime mille fois
PATIENCE = 10.0  # secondes de calcul qu'un fichier peut prendre sans rien donner
EARNED = 1.0  # secondes que rend chaque page, ou chaque bloc, qui a du texte
PER_BYTE = 60e-6  # secondes qu'un fichier peut se faire rendre, par octet
# ce que lèvent les lecteurs devant des octets quelconques
FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    OSError,
    MemoryError,
    RuntimeError,  # RecursionError et NotImplementedError compris
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    SyntaxError,  # celui d'un analyseur de XML
)
LIBRARIES = ("pypdf", "zstandard")  # dont toute erreur est celle du fichier
SIGNATURES = (
    (b"%PDF-", "un .pdf"),
    (b"PK\x03\x04", "un .zip, un .docx, un .odt ou un .epub"),
    (b"\xd0\xcf\x11\xe0", "un ancien fichier d'Office, ou un fichier protégé par un mot de passe"),
    (b"{\\rtf", "un .rtf"),
    (b"\x1f\x8b", "un .gz"),
    (b"\x28\xb5\x2f\xfd", "un .zst"),
)


class Budget:
    """Les octets que `where`, un fichier de `size` octets, peut encore donner."""

    def __init__(self, where: str, size: int, most: float) -> None:
        self.where, self.size, self.most = where, size, most
        self.limit = self.left = int(max(FLOOR, most * size))

    def spend(self, count: int) -> None:
        """Compte `count` octets de plus. UserError s'il n'en restait pas autant."""
        self.left -= count
        if self.left < 0:
            raise UserError(
                f"{self.where} dépasse {magnitude(self.limit, 'o')} une fois déplié, soit data.max_expansion="
                f"{self.most:g} fois sa taille : un nombre plus grand le lit, si vous savez d'où il vient."
            )


class Metered(io.RawIOBase):
    """Un flux dont chaque octet lu est compté."""

    def __init__(self, raw: BinaryIO, budget: Budget) -> None:
        self.raw, self.budget = raw, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        block = self.raw.read(len(view))
        self.budget.spend(len(block))
        view[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self.raw.close()
        super().close()


def looks_like(first: bytes) -> str:
    """Ce que les premiers octets d'un fichier disent qu'il est ; rien s'ils ne disent rien."""
    return next((what for start, what in SIGNATURES if first.startswith(start)), "")


@contextmanager
def faults(where: str, suffix: str, first: bytes = b"") -> Iterator[None]:
    """Traduit ce qu'un lecteur lève dans ce bloc en une UserError qui nomme `where` ; `first` en est le début."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, FAULTS) and type(error).__module__.partition(".")[0] not in LIBRARIES:
            raise
        if any("defusedxml" in kind.__module__ for kind in type(error).__mro__):
            why = "il déclare des entités XML, que rien d'honnête n'y demande"
            raise UserError(f"{where} n'est pas lu : {why} ; retirez-le, ou sa ligne <!DOCTYPE>.") from None
        if type(error).__name__ == "LimitReachedError" or isinstance(error, MemoryError):
            raise too_much(where) from None
        seems = looks_like(first)
        looks = f" (il commence comme {seems})" if seems and suffix not in seems else ""
        raise UserError(
            f"{where} ne se lit pas comme un {suffix}{looks} : il est coupé, abîmé ou mal nommé ; refaites-le, "
            f"ou retirez-le (data.errors=skip laisse de côté ce qui ne se lit pas)."
        ) from None


class _TooSlow(BaseException):
    """Le calcul a dépassé son temps ; aucun `except Exception` d'une bibliothèque ne l'arrête."""


def patiently(blocks: Iterator[str], budget: Budget) -> Iterator[str]:
    """Les mêmes blocs. UserError s'ils demandent plus de calcul que `PATIENCE`, et ce que le texte donné a rendu.

    C'est le temps du processeur qui compte : une machine occupée ne refuse rien de plus. Hors du fil principal et sous
    Windows, il n'y a que les compteurs des lecteurs.
    """
    left, more = PATIENCE, PER_BYTE * budget.size
    while True:
        with _alarm(left) as remaining:
            try:
                block = next(blocks, None)
            except _TooSlow:
                raise too_much(budget.where) from None
        if block is None:
            return
        earned = min(EARNED, more) if block.strip() else 0.0
        left, more = min(PATIENCE, remaining[0] + earned), more - earned
        yield block


def too_much(where: str) -> UserError:
    """La faute d'un fichier qui coûte plus que sa taille ne le demande."""
    return UserError(
        f"{where} demande trop de calcul, ou de mémoire, pour sa taille : il est fait pour nuire, ou abîmé ; "
        f"retirez-le (data.errors=skip le laisse de côté)."
    )


@contextmanager
def _alarm(seconds: float) -> Iterator[list[float]]:
    """Lève _TooSlow dans ce bloc après tant de secondes de calcul ; donne, à la fin, celles qui restent."""
    remaining = [seconds]
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield remaining
        return

    def give_up(number: int, frame: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-3))
    try:
        yield remaining
    finally:
        remaining[0] = signal.setitimer(signal.ITIMER_PROF, 0)[0]
        signal.signal(signal.SIGPROF, before)
