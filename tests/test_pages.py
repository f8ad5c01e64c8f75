"""Les pages sont écrites pour être lues : des phrases courtes, et vraies."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST, AVERAGE = 40, 19


def paragraphs(text: str) -> list[str]:
    """Le texte d'une page, un paragraphe, un titre ou un élément de liste à la fois ; sans code ni tableau."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "\n", text, flags=re.S | re.M)
    text = re.sub(r"^ {4}\S.*$|^\|.*$", "", text, flags=re.M)  # une formule, une ligne de tableau
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)  # une image
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)  # un lien : ce qui s'en lit
    text = re.sub(r"`[^`]+`", "code", text)
    return re.split(r"\n\s*\n|\n(?=\s*(?:[*-]|\d+\.|#+) )|(?<=\n)(#+ .*)\n", text)


def sentences(text: str) -> list[str]:
    """Les phrases d'une page ; une phrase finit à « . », « ! », « ? », ou avec son paragraphe."""
    whole = [re.sub(r"\s+", " ", one) for one in paragraphs(text) if one]
    parts = [part for one in whole for part in re.split(r"(?<![. ]\.)(?<=[.!?])[*»)]* (?=\S)", one)]
    return [part for part in parts if words(part)]


def words(sentence: str) -> list[str]:
    return [word for word in sentence.split() if re.search(r"\w", word)]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_sentence_is_read_in_one_breath(path):
    said = sentences(path.read_text(encoding="utf-8"))
    assert [one for one in said if len(words(one)) > LONGEST] == []
    assert sum(len(words(one)) for one in said) / len(said) <= AVERAGE


def test_sentences_are_counted_as_they_are_read():
    text = "# Un titre\nUne phrase `a b c` longue. Deux ! Trois ?\n\n* un\n* deux\n  suite\n\n| a | b |\n\n```\nx\n```\n"
    assert sentences(text) == ["# Un titre", "Une phrase code longue.", "Deux !", "Trois ?", "* un", "* deux suite"]
