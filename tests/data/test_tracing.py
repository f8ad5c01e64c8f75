"""L'index d'un corpus : tout passage réclamé y est, mot pour mot, à cet endroit, et aucun plus long n'existe."""

import json
import random
import struct
import zlib

import numpy as np
import pytest

from gpt_lightning.data.tracing.sorting import sort_suffixes
from gpt_lightning.data.tracing.spans import copied_share, covers, least_words, longest_of, trace
from gpt_lightning.data.tracing.suffixes import HEADER, Suffixes, build_index, write_index
from gpt_lightning.data.tracing.words import cut_parts, cut_words, is_edge
from gpt_lightning.errors import Stopped, UserError

PIECES = ["chat", "chats", "le", *"    ", "  ", "\n", "l'", *"é.!a猫が😀\ud83d\u00a0\0", "_1"]


def built(documents: list[str]) -> Suffixes:
    return build_index([text] for text in documents)


@pytest.fixture
def path(tmp_path):
    """Le fichier d'un petit index."""
    write_index(tmp_path / "index.bin", built(["le chat dort", "le chien"]), {"least": 2})
    return tmp_path / "index.bin"


def spans_by_force(documents: list[str], text: str) -> list[tuple[int, int]]:
    """Les plus longs passages de mots entiers qui sont dans un document, cherchés partout : (début, fin)."""
    edges = [place for place in range(len(text) + 1) if is_edge(text, place)]

    def stands(part: str) -> bool:
        for document in documents:
            at = document.find(part)
            while at >= 0:
                if is_edge(document, at) and is_edge(document, at + len(part)):
                    return True
                at = document.find(part, at + 1)
        return False

    spans: list[tuple[int, int]] = []
    for begin in edges[:-1]:
        if text[begin].isspace():
            continue
        ends = [end for end in edges if end > begin and not text[end - 1].isspace()]
        longest = max((end for end in ends if stands(text[begin:end])), default=begin)
        if longest > max((end for _, end in spans), default=begin) and longest > begin:
            spans.append((begin, longest))
    return spans


def any_text(rng: random.Random, most: int) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(most)))


def any_corpus(rng: random.Random) -> tuple[list[str], str]:
    """Un petit corpus, où des documents se répètent, et un texte fait en partie de ses morceaux."""
    documents = [any_text(rng, 30) for _ in range(rng.randrange(1, 5))]
    documents += rng.choices(documents, k=rng.randrange(3))
    text = any_text(rng, 8)
    for _ in range(rng.randrange(4)):
        document = rng.choice(documents)
        begin = rng.randrange(len(document) + 1)
        text += document[begin : begin + rng.randrange(25)] + any_text(rng, 4)
    return documents, text


def check_any(rng: random.Random) -> None:
    documents, text = any_corpus(rng)
    index = built(documents)
    spans = trace(index, text)
    assert [(span.begin, span.end) for span in spans] == spans_by_force(documents, text)
    for span in spans:
        part, (document, character) = text[span.begin : span.end], index.place(span.first)
        character += index.text(span.first, span.first + 1)[:1] == " "
        assert documents[document][character : character + len(part)] == part
        before, after = index.around(span.first, span.last, 3)
        assert before + index.text(span.first, span.last) + after in documents[document]
        times = sum(
            is_edge(whole, at) and is_edge(whole, at + len(part)) and whole.startswith(part, at)
            for whole in documents
            for at in range(len(whole))
        )
        assert span.times == times


@pytest.mark.parametrize("seed", range(3))
def test_every_span_stands_there_and_none_is_longer(seed):
    rng = random.Random(seed)
    for _ in range(100):
        check_any(rng)


@pytest.mark.slow
def test_ten_thousand_corpora():
    rng = random.Random(42)
    for _ in range(10_000):
        check_any(rng)


@pytest.mark.parametrize("seed", range(20))
def test_the_order_is_the_one_of_the_suffixes(seed, monkeypatch):
    """Trié d'un coup ou par tranches."""
    rng = random.Random(seed)
    ids = np.array(
        [rng.randrange(1 + seed % 4) for _ in range(rng.randrange(200))] * rng.randrange(1, 3), np.uint32
    )
    apart = np.where(
        ids == 0, np.arange(len(ids)) - len(ids), ids
    )  # la fin d'un document n'en est pas une autre
    expected = sorted(range(len(ids)), key=lambda begin: apart[begin:].tolist())
    before = ids.copy()
    assert sort_suffixes(ids).tolist() == expected and (ids == before).all()
    monkeypatch.setattr("gpt_lightning.data.tracing.sorting.CHUNK", 3)
    assert sort_suffixes(ids).tolist() == expected and (ids == before).all()


def test_the_file_is_the_index(path):
    index, before = Suffixes.open(path), built(["le chat dort", "le chien"])
    for name in ("ids", "order", "starts", "marks", "vocabulary"):
        assert list(getattr(index, name)) == list(getattr(before, name))
    assert index.facts == {"least": 2} and trace(index, "un chien") == trace(before, "un chien")


def test_an_empty_corpus_has_nothing(tmp_path):
    write_index(tmp_path / "index.bin", built([]), {})
    assert trace(Suffixes.open(tmp_path / "index.bin"), "le chat") == []


def test_words_give_the_text_back_however_it_comes():
    rng = random.Random(1)
    for _ in range(200):
        text = any_text(rng, 20)
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(4))
        parts = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert "".join(cut_words(text)) == text
        assert [word for words in cut_parts(parts) for word in words] == cut_words(text)


def test_the_copied_share_counts_long_spans():
    index = built(["le chat dort sur le lit", "un chien court"])
    text = "le chat dort. Il court"
    assert covers(text, trace(index, text)) == [3, 3, 3, 0, 0, 1]
    assert copied_share(index, [text], 3) == 0.5 and copied_share(index, [text], 4) == 0
    assert copied_share(index, ["", " \n"], 1) == 0
    assert least_words(longest_of(index, [text])) == 4 and least_words([]) == 2


@pytest.mark.parametrize("seed", range(20))
def test_what_covers_a_word_is_its_longest_span(seed):
    documents, text = any_corpus(random.Random(seed))
    spans, place, by_force = trace(built(documents), text), 0, []
    for word in cut_words(text):
        place += len(word)
        if not word.isspace():
            around = [span.words for span in spans if span.begin < place <= span.end]
            by_force.append(max(around, default=0))
    assert covers(text, spans) == by_force


def test_a_search_stops_when_nobody_waits():
    asked = iter([False, True])
    with pytest.raises(Stopped):
        trace(built(["le chat dort sur le lit"]), "le chat, puis le lit", lambda: next(asked))
    assert next(asked, None) is None


@pytest.mark.parametrize("size", [0, 1, 40, HEADER - 1, HEADER, HEADER + 3, -1])
def test_a_cut_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match="est abîmé : effacez-le"):
        Suffixes.open(path)


def test_any_other_byte_is_refused_or_changes_nothing(path):
    content = path.read_bytes()
    for place in [*range(0, 160, 3), *range(HEADER, len(content))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            index = Suffixes.open(path)
        except UserError:
            continue
        assert place < HEADER and [span.words for span in trace(index, "le chat")] == [2]


@pytest.mark.parametrize("place, value", [(0, 1 << 31), (7, 99), (8, -1), (8, 7), (16, 3), (17, 99)])
def test_a_number_out_of_bounds_is_refused(path, place, value):
    """Écrit par quelqu'un qui sait calculer l'empreinte : ids, suffixes, documents."""
    content = bytearray(path.read_bytes())
    form = ">I" if place < 8 else "<i"
    content[HEADER + 4 * place : HEADER + 4 * place + 4] = struct.pack(form, value)
    header = json.loads(content[:HEADER])
    header["crc"] = zlib.crc32(content[HEADER:])
    path.write_bytes(json.dumps(header).encode().ljust(HEADER - 1) + b"\n" + content[HEADER:])
    with pytest.raises(UserError, match="est abîmé"):
        Suffixes.open(path)
