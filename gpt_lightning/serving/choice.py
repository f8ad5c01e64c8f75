"""Les sorties du fil du modèle : les morceaux d'une complétion, ses jetons, et la fin d'un travail."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gpt_lightning.decoding.batching import Row, Written
from gpt_lightning.decoding.logprobs import Scored
from gpt_lightning.decoding.text import GrowingText


class Shown(NamedTuple):
    """Un jeton écrit, sa mesure, la place de son texte dans la complétion, ce que les filtres laissent à ses rivaux."""

    scored: Scored
    offset: int
    filtered: tuple[float, ...] = ()


class Delta(NamedTuple):
    """L'ajout le plus récent à la complétion `rank` : du texte, les jetons qu'il finit, et `reason` si c'est la fin.

    `length` : les jetons de la complétion, depuis son début.
    """

    rank: int
    text: str
    tokens: tuple[Shown, ...] = ()
    reason: str | None = None
    length: int = 0


class Done(NamedTuple):
    """Le travail est fini ; `value` est ce que renvoie celui qui n'écrit pas."""

    value: Any = None


class Choice:
    """Une complétion demandée : sa ligne du lot, et son texte, donné à mesure qu'il est sûr.

    `ends` : le jeton de fin de texte est mesuré aussi, comme tout autre ; il n'a pas de texte.
    """

    def __init__(
        self,
        index: int,
        row: Row,
        decode: Callable[[list[int]], str],
        stop: Sequence[str] = (),
        *,
        ends: bool = False,
    ) -> None:
        self.ends = ends
        self.index, self.row, self.decode = index, row, decode
        self._grown, self._fresh, self._length = GrowingText(decode, stop), "", 0
        self._waiting: list[Shown] = []
        row.until = self._until

    def _until(self, token: int) -> bool:
        self._fresh += self._grown.push(token)
        return self._grown.stopped

    def piece(self, written: Written) -> Delta | None:
        """Le morceau que ce jeton ajoute ; None si rien n'en est encore sûr."""
        final = written.reason is not None
        if written.scored is not None and (self.ends or written.reason != "eos"):
            before = self.decode(self.row.new[:-1]).rstrip("\ufffd") if len(self.row.new) > 1 else ""
            self._waiting.append(Shown(written.scored, len(before), written.kept))
        text, self._fresh = self._fresh + (self._grown.finish() if final else ""), ""
        self._length += len(text)
        if not text and not final:
            return None
        cut = self._length if written.reason == "stop" or not final else None
        ready = [token for token in self._waiting if cut is None or token.offset < cut]
        self._waiting = [] if final else self._waiting[len(ready) :]
        return Delta(self.index, text, tuple(ready), written.reason, len(self.row.new))
