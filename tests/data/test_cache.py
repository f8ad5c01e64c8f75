"""Les bases gardées : les voir, les effacer, sans toucher à ce qu'un processus vivant a ouvert."""

import os
import re
import time

import pytest

from gpt_lightning.commands.cache import _what
from gpt_lightning.data import cache
from gpt_lightning.data.build import open_or_build
from gpt_lightning.data.reading import Piece
from gpt_lightning.data.store import META, TokenStore
from gpt_lightning.data.tracing.spans import trace
from gpt_lightning.data.tracing.suffixes import Suffixes, build_index, write_index
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.characters import ByteTokenizer

DAY = cache.UNITS["d"]


def build(folder, name="mon_texte-bytes", content="abc"):
    pieces = {split: lambda: iter([Piece(content, True, "x")]) for split in ("train", "val")}
    return open_or_build(folder, name, {"text": [name, content]}, pieces, ByteTokenizer())


@pytest.fixture
def bases(tmp_path):
    """Trois bases fermées, lues il y a zéro, dix et quarante jours, et ce qui n'en est pas."""
    for rank, days in enumerate((0, 10, 40)):
        folder = build(tmp_path, f"texte-{rank}-bytes").folder
        os.utime(folder / META, (time.time() - days * DAY,) * 2)
    (tmp_path / "measures.json").write_text("{}")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "a-b-0123456789abcdef").mkdir()  # sans meta.json
    outside = tmp_path.parent / f"{tmp_path.name}-ailleurs"
    build(outside)
    (tmp_path / "lien-bytes-0123456789abcdef").symlink_to(next(outside.iterdir()), target_is_directory=True)
    return tmp_path


def test_they_are_listed_from_the_last_read(bases):
    listed = cache.list_stores(bases)
    assert [(base.corpus, base.tokenizer) for base in listed] == [(f"texte-{n}", "bytes") for n in range(3)]
    assert all(base.size == sum(p.stat().st_size for p in base.folder.iterdir()) > 0 for base in listed)


@pytest.mark.parametrize(
    "what, chosen",
    [("all", [0, 1, 2]), ("1", [0]), ("3", [2]), ("older=30d", [2]), ("older=1w", [1, 2]), ("older=30j", [2]),
     ("older:5d", [1, 2]), ("1,3", [0, 2]), ("3, 3", [2]),
     ("older=0h", [0, 1, 2]), ("older=999d", [])],
)  # fmt: skip
def test_what_is_asked_is_erased_and_nothing_else(bases, what, chosen):
    before, listed = set(bases.iterdir()), cache.list_stores(bases)
    asked = cache.choose(listed, what)
    assert asked == [listed[rank] for rank in chosen] and all(map(cache.erase, asked))
    assert before - set(bases.iterdir()) == {listed[rank].folder for rank in chosen}


@pytest.mark.parametrize(
    "what", ["0", "4", "-1", "", "tout", "older", "older=30", "older=x", "older=-1d", "1,4", "1,x", "1e3"]
)
def test_another_word_is_refused(bases, what):
    with pytest.raises(UserError, match="clear="):
        cache.choose(cache.list_stores(bases), what)


def test_what_a_living_process_opened_stays(bases):
    """Un enfant ouvre la base, et meurt : tué, il ne la garde plus."""
    (base, *_) = cache.list_stores(bases)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store = TokenStore.open(base.folder)
            os.write(told, b".")
            while store:
                time.sleep(600)
        finally:
            os._exit(1)
    os.close(told)
    try:
        assert os.read(ready, 1) == b"."
        assert not cache.erase(base) and TokenStore.open(base.folder).n_tokens("train") == 3
    finally:
        os.close(ready)
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert cache.erase(base) and not base.folder.exists()


def test_an_erased_base_is_built_again(bases):
    listed = cache.list_stores(bases)
    folder = build(bases, "texte-0-bytes").folder
    assert (
        folder == listed[0].folder
        and cache.erase(listed[0])
        and build(bases, "texte-0-bytes").folder == folder
    )


def test_reading_a_base_is_its_last_use(bases):
    assert cache.list_stores(bases)[-1].corpus == "texte-2"
    build(bases, "texte-2-bytes")
    assert cache.list_stores(bases)[0].corpus == "texte-2"


def test_an_index_is_listed_and_erased_as_a_base_is(bases):
    """Celui de conversations, de textes étiquetés ou de fragments ; un processus qui le lit continue."""
    path = cache.index_path(bases, "mes dialogues/a", "0123456789abcdef")
    path.parent.mkdir()
    write_index(path, build_index([["le chat dort"]]), {})
    os.utime(path, (time.time() - 20 * DAY,) * 2)
    (path.parent / "autre.bin").write_text("")
    assert [base.folder == path for base in cache.list_stores(bases)] == [False, False, True, False]
    index = Suffixes.open(path)  # sa dernière lecture
    (base, *others) = cache.list_stores(bases)
    assert (base.folder, base.corpus, base.size) == (path, "mes_dialogues_a (index)", path.stat().st_size)
    assert cache.choose([base, *others], "older=15d") == others[-1:]
    assert cache.erase(base) and not path.exists() and cache.erase(base)
    assert len(trace(index, "le chat")) == 1 and len(cache.list_stores(bases)) == 3


@pytest.mark.parametrize(
    "indexes, said",
    [([], "0 base effacée"), ([False], "1 base effacée"), ([False] * 2, "2 bases effacées"),
     ([True], "1 index effacé"), ([True] * 2, "2 index effacés"), ([True, False], "1 base et 1 index effacés")],
)  # fmt: skip
def test_what_is_erased_is_said(indexes, said):
    assert _what(indexes) == said


def test_the_command(bases, command):
    shown = command("gpt_lightning", "cache", f"cache_dir={bases}", cwd=bases)
    assert re.search(r"2 +texte-1 +bytes +0,0 +\d{4}-", shown.stdout), shown.stderr
    done = command("gpt_lightning", "cache", "clear=older=30d", f"cache_dir={bases}", cwd=bases)
    assert done.returncode == 0 and "1 base effacée" in done.stdout, done.stderr
    refused = command("gpt_lightning", "cache", "clear=7", f"cache_dir={bases}", cwd=bases)
    assert refused.returncode == 1 and len(cache.list_stores(bases)) == 2
