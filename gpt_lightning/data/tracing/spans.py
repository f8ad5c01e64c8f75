"""Les passages d'un texte qui sont mot pour mot dans un corpus, et la part qu'ils en font."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gpt_lightning.data.tracing.suffixes import Suffixes
from gpt_lightning.data.tracing.words import cut_words, is_blank
from gpt_lightning.errors import Stopped

RARE = 0.01  # la part copiée d'un texte que le modèle n'a pas lu, au plus


class Span(NamedTuple):
    """Un passage : ses caractères dans le texte, ses mots, combien de fois le corpus l'a, et où l'une d'elles est.

    `first` et `last` sont des rangs de mots du corpus ; un blanc peut précéder le premier.
    """

    begin: int
    end: int
    words: int
    times: int
    first: int
    last: int


def trace(index: Suffixes, text: str, is_stopped: Callable[[], bool] = lambda: False) -> list[Span]:
    """Les passages de `text` qui sont dans le corpus de `index`, de mot entier à mot entier, dans l'ordre.

    Aucun n'est dans un autre, et aucun ne peut s'allonger : ni celui-là, ni ailleurs dans le corpus. Stopped dès que
    `is_stopped()`, regardé à chaque passage, est vrai.
    """
    words = cut_words(text)
    read = _Read(index, words)
    ends = [0]
    for word in words:
        ends.append(ends[-1] + len(word))
    spans: list[Span] = []
    rank = reached = 0
    while (rank := read.next_start(rank, reached, is_stopped)) < len(words):
        length, place = read.longest(rank)
        while length and is_blank(words[rank + length - 1]):
            length -= 1
        if length and rank + length > reached:
            reached = rank + length
            size = sum(not is_blank(word) for word in words[rank:reached])
            begin = ends[rank] + len(words[rank]) - len(words[rank].lstrip(" "))
            times = read.count(rank, reached)
            spans.append(Span(begin, ends[reached], size, times, place, place + length))
        rank += 1
    return spans


class _Read:
    """Un texte, lu avec les nombres d'un index ; le premier mot d'un passage a une espace devant lui, ou non."""

    def __init__(self, index: Suffixes, words: Sequence[str]) -> None:
        self.index = index
        self.solid = [rank for rank, word in enumerate(words) if not is_blank(word)]
        bare = [word.removeprefix(" ") for word in words]
        self.ids = index.numbers(words)
        self.firsts = (index.numbers(bare).tolist(), index.numbers(f" {word}" for word in bare).tolist())
        missing = np.flatnonzero(self.ids == 0)
        # le premier mot que le corpus n'a pas, après chaque mot
        after = np.searchsorted(missing, np.arange(len(words)), side="right")
        self.ends = np.append(missing, len(words))[after].tolist()

    def next_start(self, rank: int, reached: int, is_stopped: Callable[[], bool]) -> int:
        """Le premier mot, à partir de `rank`, d'où un passage peut aller au-delà de `reached` ; aucun : leur nombre.

        Ceux qui ne le peuvent pas sont avant tous ceux qui le peuvent : on saute, de deux fois plus loin à chaque fois.
        """
        low, high = bisect_left(self.solid, rank), bisect_left(self.solid, max(reached, rank))
        if high == len(self.solid):
            return len(self.ids)
        goal, jump = self.solid[high], 1
        while low < high:
            if is_stopped():
                raise Stopped
            middle = min((low + high) // 2, low + jump - 1)
            if self._occurs(self.solid[middle], goal + 1):
                high = middle
            else:
                low, jump = middle + 1, 2 * jump
        if is_stopped():
            raise Stopped
        return self.solid[low]

    def _occurs(self, rank: int, end: int) -> bool:
        if end > self.ends[rank]:
            return False
        rest = self.ids[rank + 1 : end]
        return any(self.index.match(first[rank], rest)[0] == end - rank for first in self.firsts)

    def longest(self, rank: int) -> tuple[int, int]:
        """Le plus long passage qui commence à ce mot : (mots, rang d'un mot du corpus)."""
        rest = self.ids[rank + 1 : self.ends[rank]]
        length, place, _ = max((*self.index.match(f[rank], rest), n) for n, f in enumerate(self.firsts))
        return length, place

    def count(self, begin: int, end: int) -> int:
        """Combien de fois le corpus a ces mots du texte."""
        return sum(self.index.count(first[begin], self.ids[begin + 1 : end]) for first in self.firsts)


def covers(text: str, spans: Sequence[Span]) -> list[int]:
    """Pour chaque mot de `text`, combien de mots a le plus long passage qui le contient."""
    longest, place = [], 0
    # aucun n'est dans un autre : ils finissent dans l'ordre où ils commencent
    coming, around = deque(sorted(spans)), deque[Span]()
    for word in cut_words(text):
        end = place + len(word)
        while coming and coming[0].begin < end:
            span = coming.popleft()
            while around and around[-1].words <= span.words:
                around.pop()
            around.append(span)  # le plus long d'abord
        while around and around[0].end < end:
            around.popleft()
        if not is_blank(word):
            longest.append(around[0].words if around else 0)
        place = end
    return longest


def copied_share(index: Suffixes, texts: Iterable[str], least: int) -> float:
    """La part des mots de ces textes qui sont dans un passage d'au moins `least` mots ; 0 s'il n'y a aucun mot."""
    return share_of(longest_of(index, texts), least)


def longest_of(index: Suffixes, texts: Iterable[str]) -> list[int]:
    """Pour chaque mot de ces textes, combien de mots a le plus long passage qui le contient."""
    return [size for text in texts for size in covers(text, trace(index, text))]


def share_of(longest: Sequence[int], least: int) -> float:
    """La part des mots dont le plus long passage, `longest`, a au moins `least` mots ; 0 s'il n'y a aucun mot."""
    return sum(size >= least for size in longest) / max(1, len(longest))


def least_words(longest: Sequence[int]) -> int:
    """Le plus petit nombre de mots d'un passage pour que la part copiée de textes soit rare ; `longest_of` eux."""
    return max(2, 1 + sorted(longest, reverse=True)[int(RARE * len(longest))]) if longest else 2
