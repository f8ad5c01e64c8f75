"""Une colonne de textes : un .jsonl, un .csv et un .parquet qui disent la même chose donnent les mêmes documents."""

import csv
import json

import pytest

from gpt_lightning.data import SlidingWindowDataModule, reading
from gpt_lightning.data.corpus import Source
from gpt_lightning.data.measure import measure
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import gpt2

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
TEXTS = ["un", "deux\nlignes", 'des "guillemets", des virgules', "é" * 900, "", "fin ; là"]


def write(path, texts, key="text"):
    """Ces textes, dans la colonne `key` d'un fichier du format que son nom dit."""
    if path.suffix == ".parquet":
        parquet.write_table(arrow.table({"n": list(range(len(texts))), key: texts}), path, row_group_size=2)
    elif path.suffix == ".jsonl":
        rows = (json.dumps({"n": i, key: text}) + "\n" for i, text in enumerate(texts))
        path.write_text("".join(rows), encoding="utf-8")
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["n", key], *enumerate(texts)])
    return path


def pieces(path, **values):
    source = Source(source="parquet" if path.suffix == ".parquet" else "files", path=str(path), **values)
    return list(source.pieces()), source.register.skipped


@pytest.mark.parametrize("key", ["text", "contenu"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_every_format_gives_the_same_documents(tmp_path, suffix, key):
    found, _ = pieces(write(tmp_path / f"a{suffix}", TEXTS, key), text_key=key)
    assert [piece.text for piece in found] == [text for text in TEXTS if text] and all(p.last for p in found)
    with pytest.raises(UserError, match="data.text_key="):
        pieces(tmp_path / f"a{suffix}", text_key="absente")


def test_a_run_of_a_version_before_reads_its_csv_as_it_did(tmp_path):
    path = write(tmp_path / "a.csv", ["un", "deux"])
    source = Source(path=str(path))
    source.read_only(reading.TEXT_SUFFIXES)
    assert [piece.text for piece in source.pieces()] == ["n,text\n0,un\n1,deux\n"]


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_every_kind_of_text_of_a_parquet_is_read(tmp_path, kind):
    texts = arrow.array(TEXTS)
    texts = texts.dictionary_encode() if kind == "dictionary" else texts.cast(getattr(arrow, kind)())
    parquet.write_table(arrow.table({"text": texts}), tmp_path / "a.parquet")
    assert [p.text for p in pieces(tmp_path / "a.parquet")[0]] == [text for text in TEXTS if text]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_row_without_text_stops_or_is_counted(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", ["un", None, "deux", None])
    with pytest.raises(UserError, match="ligne 2.*text"):
        pieces(path)
    found, skipped = pieces(path, errors="skip")
    assert [piece.text for piece in found] == ["un", "deux"] and len(skipped) == 2


def test_bytes_that_are_not_text_are_refused_replaced_or_counted(tmp_path):
    raw = arrow.array([b"bon", b"ab\xff"]).view(arrow.string())
    parquet.write_table(arrow.table({"text": raw}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="ligne 2.*UTF-8"):
        pieces(tmp_path / "a.parquet")
    assert [p.text for p in pieces(tmp_path / "a.parquet", errors="replace")[0]] == ["bon", "ab\ufffd"]
    found, skipped = pieces(tmp_path / "a.parquet", errors="skip")
    assert [p.text for p in found] == ["bon"] and len(skipped) == 1


DAMAGE = {
    "vide": lambda content: b"",
    "texte": lambda content: b"un texte, avec un autre suffixe" * 9,
    "octets": lambda content: bytes(range(256)) * 9,
    "sans sa fin": lambda content: content[:-40],
    "sans son début": lambda content: b"PAR1" + content[60:],
    "une page abîmée": lambda content: content[:4] + b"\xff" * 200 + content[204:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_parquet_is_one_sentence_or_is_counted(tmp_path, damage):
    good, bad = write(tmp_path / "b.parquet", ["bon"]), write(tmp_path / "a.parquet", ["le chat " * 60] * 9)
    bad.write_bytes(damage(bad.read_bytes()))
    with pytest.raises(UserError, match="a.parquet") as refusal:
        pieces(bad)
    assert "\n" not in str(refusal.value)
    source = Source(source="parquet", path=[str(bad), str(good)], errors="skip")
    assert [piece.text for piece in source.pieces()][-1] == "bon" and str(bad) in source.register.skipped


@pytest.mark.parametrize("table", [{"text": [1, 2]}, {"text": [["a"], ["b"]]}, {"autre": ["a"]}], ids=str)
def test_a_column_that_is_no_text_is_refused_with_those_that_are(tmp_path, table):
    parquet.write_table(
        arrow.table({**table, "bon": ["x"] * len(next(iter(table.values())))}), tmp_path / "a.parquet"
    )
    with pytest.raises(UserError, match=r"data.text_key= .*\(.*bon\)"):
        pieces(tmp_path / "a.parquet")


def test_a_text_repeated_a_million_times_stays_small_in_memory(tmp_path):
    repeated = arrow.DictionaryArray.from_arrays(arrow.array([0] * 20_000, arrow.int32()), ["a" * 1_000_000])
    parquet.write_table(arrow.table({"text": repeated}), tmp_path / "a.parquet")  # 20 Go de texte
    source = Source(source="parquet", path=str(tmp_path / "a.parquet"))
    texts = source.pieces()
    assert [len(next(texts).text) for _ in range(300)] == [1_000_000] * 300
    assert arrow.total_allocated_bytes() < 100 << 20


def test_a_measure_is_made_again_when_a_file_changes(tmp_path):
    source = Source(
        source="parquet", path=str(write(tmp_path / "a.parquet", ["un"])), cache_dir=tmp_path / "cache"
    )
    seen = []
    first = measure(source, lambda done, total: seen.append(done))
    assert measure(source, lambda done, total: seen.append(done)) == first and len(seen) == 1
    write(tmp_path / "a.parquet", ["un", "deux"])
    assert measure(source).documents == 2


def test_a_parquet_has_its_validation_apart_or_in_itself(tmp_path):
    train, val = (write(tmp_path / f"{n}.parquet", [f"{n} {i} " * 9 for i in range(50)]) for n in ("a", "b"))
    common = {"tokenizer": gpt2(), "source": "parquet", "max_length": 8, "cache_dir": str(tmp_path / "cache")}
    apart = SlidingWindowDataModule(path=str(train), val_path=str(val), **common)
    assert apart.prepare().documents == 100 and "b 0 b" in gpt2().decode(apart.tokens("val")[:].tolist())
    alone = SlidingWindowDataModule(path=str(train), split="hash", limit=40, **common)
    assert alone.prepare().documents == 40 and "colonne text, 1 fichier" in alone.summary
