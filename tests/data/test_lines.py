"""Les mots coupés et les titres courants : ce qui est retiré l'est partout, et rien d'autre ne l'est."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_lightning.data.documents.lines import drop_running_heads, join_hyphens


def join(*blocks: str) -> tuple[str, int]:
    counted: list[None] = []
    return "".join(join_hyphens(blocks, lambda: counted.append(None))), len(counted)


@pytest.mark.parametrize(
    "text, joined, count",
    [
        ("un exem-\nple simple", "un exemple\nsimple", 1),
        ("un exem-\n  ple, simple\n", "un exemple,\nsimple\n", 1),
        ("exem-\nple", "exemple", 1),
        ("exem-\nple\n\nFin", "exemple\n\nFin", 1),
        ("anti-\nconsti-\ntution", "anticonstitution", 2),
        ("l'exem\u00ad\nple", "l'exemple", 1),
        ("EXEM-\nPLE", "EXEMPLE", 1),
        ("exem-\n\fple suite", "exemple\nsuite", 1),
        ("dit-\nil alors", "dit-il\nalors", 1),
        ("celui-\nci ; mer-\nci", "celui-ci\n; merci", 2),
        ("c'est-à-\ndire", "c'est-à-dire", 1),
        ("peut-\nêtre", "peut-être", 1),
        ("mai-\nson, cou-\nleur", "maison,\ncouleur", 2),
        ("Jean-\nPaul", "Jean-\nPaul", 0),
        ("1914-\n1918 - \nnon -\noui", "1914-\n1918 - \nnon -\noui", 0),
        ("- un\n- deux-\n\ntrois", "- un\n- deux-\n\ntrois", 0),
    ],
)
def test_a_word_cut_at_the_end_of_a_line_is_one_word_again(text, joined, count):
    assert join(text) == (joined, count)


@given(
    st.lists(
        st.sampled_from(["exem", "-\n", "ple ", "mot ", "\n", "dit-\nil ", "x" * 90 + " ", " " * 250]),
        max_size=60,
    ),
    st.data(),
)
def test_blocks_change_nothing(parts, data):
    text = "".join(parts)
    at = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    blocks = [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]
    assert join(*blocks) == join(text)


def drop(*pages: str, size: int = 7) -> tuple[str, int]:
    counted: list[None] = []
    text = "\f".join(pages)
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    return "".join(drop_running_heads(lambda: blocks, lambda: counted.append(None))), len(counted)


BODIES = [
    f"La page {word} dit {rank * 7} choses.\nElle finit par {word}." for rank, word in enumerate("abcdefgh")
]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    "head, foot",
    [
        (lambda n: "Les Misérables", lambda n: ""),
        (lambda n: f"{n}  LE LIVRE" if n % 2 else f"Chapitre   {n}", lambda n: ""),
        (lambda n: "", lambda n: f"- {n} -"),
        (lambda n: "", lambda n: ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii")[n]),
        (lambda n: "Un livre", lambda n: f"Page {n} sur 8"),
    ],
)
def test_running_heads_go_and_nothing_else(head, foot, size):
    pages = ["\n".join(filter(None, (head(n), body, foot(n)))) for n, body in enumerate(BODIES)]
    text, count = drop(*pages, size=size)
    assert text == "\f".join(BODIES)
    assert count == sum(len(page.split("\n")) - 2 for page in pages)


@pytest.mark.parametrize(
    "pages",
    [
        BODIES,
        [
            "— Oui.\nEt puis.",
            *BODIES[:3],
            "— Oui.\nAlors.",
            *BODIES[3:6],
            "— Oui.\nEnfin.",
        ],  # loin l'un de l'autre
        ["Titre\nun", "Titre\ndeux"],  # deux fois seulement
        ["sans page"],
        [
            f"En {1900 + n}, il a {n} ans.\nIl dort {n} fois, puis part." for n in range(9)
        ],  # ses nombres seuls changent
        ["a\nx\nb", "c\nx\nd", "e\nx\nf", "g\nx\nh"],  # au milieu
    ],
)
def test_what_does_not_come_back_at_the_edge_of_near_pages_stays(pages):
    assert drop(*pages) == ("\f".join(pages), 0)


def test_a_text_without_pages_is_read_in_bounded_memory(monkeypatch):
    from gpt_lightning.data.documents import lines

    monkeypatch.setattr(lines, "LONGEST", 50)
    text = "mot " * 400
    assert drop(text) == (text, 0)
