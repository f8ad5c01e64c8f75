"""La loi des documents : ce que dit un bon fichier est lu, et rien d'autre ; un mauvais est une phrase."""

import contextlib
import gzip
import random
import signal
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpt_lightning.data import corpus, reading
from gpt_lightning.data.documents import (
    DECODERS,
    PLAIN,
    READERS,
    Options,
    Register,
    bounds,
    libraries,
    prose,
    read_files,
)
from gpt_lightning.data.documents import pdf as pdf_reader
from gpt_lightning.data.measure import measure
from gpt_lightning.errors import UserError
from tests.data.strange import BAD, GOOD, MEGABYTE, bad, epub, good, lines, noise, pdf, zipped

for name in ("defusedxml", "lxml", "pypdf", "zstandard"):
    pytest.importorskip(name)


@pytest.fixture(autouse=True)
def small_counters(monkeypatch):
    """Des bornes que l'on atteint vite."""
    monkeypatch.setattr(pdf_reader, "OPERATIONS", 20_000)
    monkeypatch.setattr(pdf_reader, "FORMS", 50)


def read(path, register=None, **options) -> str:
    return "".join(
        piece.text for piece in read_files([path], Options(**options), register or Register(path.parent))
    )


@pytest.mark.parametrize("name", GOOD)
def test_the_words_of_a_good_document_are_all_there_and_nothing_else(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(good(name))
    assert read(path) == GOOD[name][1]


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_one_sentence(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bad(name))
    with pytest.raises(UserError, match=BAD[name][1]) as fault:
        read(path)
    sentence = str(fault.value)
    assert str(path) in sentence and "\n" not in sentence and sentence.endswith(".") and len(sentence) < 400


@pytest.mark.parametrize("name", [name for name in BAD if "bombe" in name])
def test_a_bomb_stays_in_its_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bad(name))
    tracemalloc.start()
    with pytest.raises(UserError):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 12 * MEGABYTE
    tracemalloc.stop()


def test_there_are_more_than_sixty():
    suffixes = {suffix[1:] for suffix in (*READERS, *DECODERS)}
    assert len(GOOD) + len(BAD) > 60 and {path.partition(".")[2] for path in GOOD} >= suffixes


LATIN = {
    "a.txt": "un café".encode("latin-1"),
    "a.rst": "un café".encode("latin-1"),
    "a.csv": "text\nun café".encode("latin-1"),
    "a.jsonl": '{"text": "un café"}'.encode("latin-1"),
    "demi.jsonl": rb'{"text": "un caf\ud83d"}',
    "a.html": "<p>un café</p>".encode("latin-1"),
    "a.htm": "<p>un café</p>".encode("latin-1"),
    "a.xhtml": "<p>un café</p>".encode("latin-1"),
    "a.srt": "1\n00:00:01,000 --> 00:00:02,000\nun café\n".encode("latin-1"),
    "a.epub": epub({"a.xhtml": "<p>un café</p>".encode("latin-1")}),
    "a.zip": zipped({"b.html": "<p>un café</p>".encode("latin-1")}),
    "a.html.gz": gzip.compress("<p>un café</p>".encode("latin-1")),
}


@pytest.mark.parametrize("name", LATIN)
def test_what_a_sentence_advises_for_an_invalid_byte_reads_it(tmp_path, name):
    """`data.errors=replace` partout où il est dit, et il est dit partout où un octet peut être invalide."""
    path = tmp_path / name
    path.write_bytes(LATIN[name])
    with pytest.raises(UserError, match="data.errors=replace"):
        read(path)
    assert read(path, errors="replace").strip() == "un caf\ufffd"


def test_every_format_that_is_decoded_has_an_invalid_byte():
    alike = {".md", ".tex", ".tsv"}  # lus comme .txt et .csv
    assert {*PLAIN, *DECODERS} - {Path(name).suffix for name in LATIN} == alike


@pytest.mark.parametrize("most, fits", [(100, False), (2000, True)])
def test_max_expansion_is_counted_in_times_its_size(tmp_path, most, fits):
    """Ce qui est lu n'en dépasse jamais le compte, même d'un bloc."""
    path, content = tmp_path / "a.txt.gz", b"a " * (2 * MEGABYTE)
    path.write_bytes(gzip.compress(content))
    taken = 0
    try:
        for piece in read_files([path], Options(max_expansion=most), Register(tmp_path)):
            taken += len(piece.text)
    except UserError:
        assert not fits
    assert taken == len(content) if fits else taken <= max(bounds.FLOOR, most * path.stat().st_size)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="demande setitimer")
@pytest.mark.parametrize("swallows", [False, True])
def test_a_reader_that_never_gives_text_is_stopped(tmp_path, monkeypatch, swallows):
    """Même si le lecteur avale toute exception ; et ce qui est rendu ne dépasse pas ce que la taille permet."""

    def spin():
        while True:
            try:
                yield ""
                while True:
                    pass
            except Exception:
                if not swallows:
                    raise

    monkeypatch.setattr(bounds, "PATIENCE", 0.02)
    with pytest.raises(UserError, match="a.pdf demande trop de calcul"):
        list(bounds.patiently(spin(), bounds.Budget("a.pdf", 0, 100)))
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_a_text_earns_its_time_within_its_size(monkeypatch):
    asked = []

    @contextmanager
    def alarm(seconds):
        asked.append(seconds)
        yield [seconds - 0.9]  # chaque bloc prend 0,9 s

    monkeypatch.setattr(bounds, "_alarm", alarm)
    budget = bounds.Budget("a.pdf", int(2 / bounds.PER_BYTE), 100)
    list(bounds.patiently(iter(["a"] * 4), budget))
    assert asked == pytest.approx([10, 10, 10, 9.1, 8.2])


@pytest.mark.parametrize(
    "module, name", [("defusedxml", "simple.docx"), ("lxml", "page.html"), ("pypdf", "simple.pdf")]
)
@pytest.mark.parametrize("errors", ["strict", "skip"])
def test_a_missing_library_is_named_with_the_line_to_type(tmp_path, monkeypatch, module, name, errors):
    path = tmp_path / name
    path.write_bytes(good(name))

    def missing(name):
        raise ImportError

    monkeypatch.setattr(libraries, "import_module", missing)
    with pytest.raises(UserError, match=rf"Lire un .* demande {module} : pip install .*'\.\[documents\]'"):
        read(path, errors=errors)


@pytest.mark.parametrize("block", [64, 1 << 16])
@pytest.mark.parametrize(
    "name", ["riche.docx", "riche.odt", "riche.epub", "page.html", "page.xhtml", "simple.srt"]
)
def test_blocks_change_nothing(tmp_path, monkeypatch, name, block):
    path = tmp_path / name
    path.write_bytes(good(name))
    monkeypatch.setattr(prose, "PART", block)
    monkeypatch.setattr(reading, "BLOCK", block)
    assert read(path) == GOOD[name][1]


@pytest.mark.parametrize(
    "name", ["simple.docx", "simple.pdf", "page.html", "simple.txt.gz", "simple.epub", "tout.zip"]
)
def test_any_change_is_read_or_is_one_sentence(tmp_path, name):
    """Des octets changés, ou une fin coupée : du texte, ou une phrase ; jamais une trace."""
    content, rng, path = good(name), random.Random(0), tmp_path / name
    for rank in range(40):
        changed = bytearray(content)
        if rank % 3:
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(content))] = rng.randrange(256)
        else:
            changed = changed[: rng.randrange(len(content))]
        path.write_bytes(changed)
        with contextlib.suppress(UserError):
            read(path).encode("utf-8")


def test_skip_leaves_out_what_cannot_be_read_counts_it_and_reads_nothing_of_it(tmp_path, caplog):
    bads = ["numérisé.pdf", "coupé.txt.gz", "grimpe_0.zip", "hasard.txt"]
    goods = ["simple.docx", "simple.txt", "tout.zip"]
    for name in bads:
        (tmp_path / name).write_bytes(bad(name))
    for name in goods:
        (tmp_path / name).write_bytes(good(name))
    (tmp_path / "lignes.jsonl").write_text('{"text": "un"}\nnon\n{"text": "deux"}\n[]\n', encoding="utf-8")
    (tmp_path / "mêlé.zip").write_bytes(zipped({"a.txt": "oui", "b.pdf": noise(99), "c.txt": noise(99)}))
    source = corpus.Source(path=str(tmp_path), errors="skip", cache_dir=tmp_path / "cache")
    texts = ["".join(piece.text for piece in source.pieces()) for _ in range(2)]
    assert texts[0] == texts[1] == "".join(["undeux", "oui", *(GOOD[name][1] for name in goods)])
    skipped = [where.removeprefix(f"{tmp_path}/") for where in source.register.skipped]
    assert skipped == sorted(
        [*bads, "lignes.jsonl, ligne 2", "lignes.jsonl, ligne 4", "mêlé.zip, b.pdf", "mêlé.zip, c.txt"]
    )
    measure(source)
    assert "8 laissés de côté (data.errors=skip), d'abord : " in caplog.text


def test_a_document_is_extracted_once_by_command(tmp_path, monkeypatch):
    path, calls = tmp_path / "a.pdf", []
    path.write_bytes(good("simple.pdf"))
    monkeypatch.setitem(READERS, ".pdf", lambda file, where, budget: calls.append(where) or iter(["texte"]))
    source = corpus.Source(path=str(path), cache_dir=tmp_path / "cache")
    texts = ["".join(piece.text for piece in source.pieces()) for _ in range(3)]
    assert texts == ["texte"] * 3 and len(calls) == 1
    assert [*(tmp_path / "cache").iterdir()]
    del source
    assert not [*(tmp_path / "cache").iterdir()]  # rien n'en reste


def test_a_folder_reads_every_format_and_an_older_run_only_its_own(tmp_path):
    for name in (*GOOD, "image.png", "notes.sql.gz"):
        (tmp_path / name).write_bytes(good(name) if name in GOOD else b"\0")
    source = corpus.Source(path=str(tmp_path), cache_dir=tmp_path)
    said = {path.name for path, _ in source.find()}
    assert said == {"image.png", "notes.sql.gz", "notes.gz", "a.txt"}
    source.read_only(reading.TEXT_SUFFIXES)
    assert {Path(where).suffix for where in source_names(source)} == {".txt", ".md", ".jsonl"}


def source_names(source) -> list[str]:
    list(source.pieces())
    return [*source.register.readings]


def test_heads_and_hyphens_of_a_pdf_are_counted(tmp_path):
    path = tmp_path / "livre.pdf"
    path.write_bytes(
        pdf(
            *(
                lines("UN LIVRE", f"Page de {word}, un exem-", f"ple de {word * 3}.", str(n))
                for n, word in enumerate(("a", "b", "c"), 1)
            )
        )
    )
    source = corpus.Source(path=str(path), cache_dir=tmp_path, join_hyphens=True, drop_running_heads=True)
    assert "".join(p.text for p in source.pieces()) == "\n".join(
        f"Page de {word}, un exemple\nde {word * 3}." for word in "abc"
    )
    (seen,) = source.register.readings.values()
    assert (seen.pages, seen.joined, seen.heads, seen.blank) == (3, 3, 6, 0)
    assert (seen.first, seen.last) == ("Page de a, un exemple", "de ccc.")
