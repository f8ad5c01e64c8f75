"""Les passages d'un texte qui sont mot pour mot dans un corpus, et la part qu'ils en font."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

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
    `is_stopped()`, regardé à chaque mot, est vrai.
    """
    words = cut_words(text)
    ends = [0]
    for word in words:
        ends.append(ends[-1] + len(word))
    spans: list[Span] = []
    reached = 0
    for rank, word in enumerate(words):
        if is_stopped():
            raise Stopped
        if is_blank(word):
            continue
        spellings = [
            [spelling, *words[rank + 1 :]] for spelling in (word.lstrip(" "), f" {word.lstrip(' ')}")
        ]
        length, first, spelling = max(
            (*index.match(spelling), number) for number, spelling in enumerate(spellings)
        )
        while length and is_blank(words[rank + length - 1]):
            length -= 1
        if not length or rank + length <= reached:
            continue
        reached = rank + length
        times = sum(index.count(spelling[:length]) for spelling in spellings)
        size = sum(not is_blank(word) for word in words[rank:reached])
        begin = ends[rank] + len(word) - len(word.lstrip(" "))
        spans.append(Span(begin, ends[reached], size, times, first, first + length))
    return spans


def covers(text: str, spans: Sequence[Span]) -> list[int]:
    """Pour chaque mot de `text`, combien de mots a le plus long passage qui le contient."""
    longest, place = [], 0
    coming, around = (
        deque(sorted(spans)),
        deque[Span](),
    )  # aucun n'est dans un autre : ils finissent dans cet ordre
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
