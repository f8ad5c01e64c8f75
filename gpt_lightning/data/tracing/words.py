"""Couper un texte en mots : ce que l'index compare, et là où un passage commence et finit.

Un mot est une suite de lettres, de chiffres et de soulignés ; un signe en est un à lui seul, comme un caractère des
écritures sans espaces. L'espace qui précède un mot va avec lui, tout autre blanc est à part : bout à bout, les
morceaux redonnent le texte. Un même passage se coupe ainsi partout de la même façon, quel que soit le tokenizer.
"""

import re
from collections.abc import Iterable, Iterator

# sans espaces : thaï, lao, birman, khmer, japonais, chinois
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff"
_UNSPACED += "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = f"[^\\W{_UNSPACED}]"
_WORD = re.compile(f" ?(?:{_LETTER}+|\\S)|\\s")
_JOINED = re.compile(f"{_LETTER}{_LETTER}")


def cut_words(text: str) -> list[str]:
    """Les morceaux de `text`, qui le redonnent bout à bout."""
    return _WORD.findall(text)


def cut_parts(parts: Iterable[str]) -> Iterator[list[str]]:
    """Les mêmes, d'un texte donné en plusieurs parties : un mot peut être à cheval sur deux d'entre elles."""
    rest = ""
    for part in parts:
        words = cut_words(rest + part)
        rest = words.pop() if words else ""
        yield words
    yield [rest] if rest else []


def is_blank(word: str) -> bool:
    """Vrai d'un morceau qui n'est qu'un blanc : un passage ne commence ni ne finit par lui."""
    return word.isspace()


def is_edge(text: str, place: int) -> bool:
    """Vrai si un mot peut commencer, ou finir, au caractère `place` de `text`."""
    return not 0 < place < len(text) or not _JOINED.fullmatch(text[place - 1 : place + 1])
