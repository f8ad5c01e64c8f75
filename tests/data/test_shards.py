"""Des fragments déjà en jetons : ce que chaque outil écrit se lit, ce qui ne va pas est dit, rien n'est copié."""

import logging
import pickle
import struct

import numpy as np
import pytest

from gpt_lightning.data import ShardsDataModule, SlidingWindowDataModule
from gpt_lightning.data.shards.writing import write_shards
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteTokenizer, CharacterTokenizer, TrainedTokenizer, gpt2

EOS = 256  # la fin de texte de ByteTokenizer


def llmc(path, tokens, magic=20240520, version=1, dtype=np.uint16):
    """Comme write_datafile de llm.c, dev/data/data_common.py."""
    header = np.zeros(256, dtype=np.int32)
    header[0], header[1], header[2] = magic, version, len(tokens)
    path.write_bytes(header.tobytes() + np.array(tokens, dtype=dtype).tobytes())


def llama3(path, tokens):
    llmc(path, tokens, magic=20240801, version=7, dtype=np.uint32)


def nanogpt(path, tokens):
    """Comme data/openwebtext/prepare.py de nanoGPT."""
    np.array(tokens, dtype=np.uint16).tofile(path)


WRITERS = {"llm.c": llmc, "llama3": llama3, "nanoGPT": nanogpt}


def documents(count=40, length=23, first=True, seed=0):
    """Des jetons d'octets ; la fin de texte précède chaque document, ou le suit."""
    draw, tokens = np.random.default_rng(seed), []
    for rank in range(count):
        body = draw.integers(97, 123, length + rank % 5).tolist()
        tokens += [EOS, *body] if first else [*body, EOS]
    return tokens


def shards(folder, tokens, write, cuts=(0.3, 0.31, 0.8)):
    """Le même flux, en plusieurs fichiers de longueurs inégales."""
    folder.mkdir(exist_ok=True)
    places = [0, *(int(share * len(tokens)) for share in cuts), len(tokens)]
    for rank, (begin, end) in enumerate(zip(places, places[1:], strict=False)):
        write(folder / f"part_{rank:06d}.bin", tokens[begin:end])
    return folder


def module(path, tmp_path, tokenizer=None, **values):
    values = {"max_length": 8, "stride": 8, "batch_size": 2, **values}
    cache = str(tmp_path / "cache")
    return ShardsDataModule(tokenizer=tokenizer or ByteTokenizer(), path=str(path), cache_dir=cache, **values)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("first", [True, False])
def test_the_windows_are_those_of_the_tokens_whoever_wrote_them(tmp_path, write, first):
    tokens = documents(first=first)
    data = module(shards(tmp_path / "f", tokens, write), tmp_path, stride=3)
    stats = data.prepare()
    at = int(0.9 * len(tokens))
    assert (stats.train_tokens, stats.val_tokens) == (at, len(tokens) - at)
    for split, part in (("train", tokens[:at]), ("val", tokens[at:])):
        dataset = data.dataset(split)
        expected = [part[i : i + 9] for i in range(0, len(part) - 8, 3)]
        assert dataset.rows(range(len(expected))).tolist() == expected
        assert data.tokens(split)[:].tolist() == part and data.tokens(split)[5:9].tolist() == part[5:9]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_no_window_crosses_a_document_where_that_is_asked(tmp_path, write, first):
    tokens = documents(first=first)
    data = module(shards(tmp_path / "f", tokens, write), tmp_path, cross_documents=False, split="documents")
    for again in range(2):  # la seconde fois, les débuts sont relus
        data.prepare()
        for split in ("train", "val"):
            rows = data.dataset(split).rows(range(len(data.dataset(split)))).tolist()
            assert rows and all(EOS not in row[:-1] for row in rows), again
        starts = data.base.documents("train")
        part = [EOS, *data.tokens("train")[:].tolist()]
        begins = [i for i in range(len(part) - 1) if part[i] == EOS and part[i : i + 2] != [EOS, EOS]]
        assert starts.tolist() == begins
        assert len(list((tmp_path / "cache" / "documents").iterdir())) == 2
    assert data.tokens("train")[-1] == EOS


def test_document_starts_change_with_the_files(tmp_path):
    folder = shards(tmp_path / "f", documents(), llmc)
    data = module(folder, tmp_path, cross_documents=False)
    data.prepare()
    before = data.base.documents("train").tolist()
    shards(folder, documents(count=60, length=17), llmc)
    data.prepare()
    assert data.base.documents("train").tolist() != before


def test_a_corpus_written_as_shards_gives_the_same_tokens(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        "".join(f'{{"text": "ligne {i} é"}}\n' for i in range(90)), encoding="utf-8"
    )
    for tokenizer in (gpt2(), TrainedTokenizer(300), CharacterTokenizer()):
        kind = type(tokenizer).__name__
        source = SlidingWindowDataModule(
            tokenizer=tokenizer,
            path=str(tmp_path / "t.jsonl"),
            max_length=8,
            cache_dir=str(tmp_path / "cache"),
        )
        source.prepare()
        names = write_shards(source, tmp_path / kind, 100)
        assert len(names) > 3 and names[0] == "t_val_000000.bin" and "t_train_000001.bin" in names
        data = module(
            tmp_path / kind, tmp_path, tokenizer=type(tokenizer)() if kind != "TiktokenTokenizer" else gpt2()
        )
        data.prepare()
        assert data.tokenizer.state() == source.tokenizer.state()
        for split in ("train", "val"):
            eos, *tokens = data.tokens(split)[:].tolist()
            assert eos == data.tokenizer.eos_id and tokens == source.tokens(split)[:].tolist()
            assert data.base.n_bytes(split) == source.base.n_bytes(split)
        again = write_shards(data, tmp_path / f"{kind} bis", 100)
        assert [(tmp_path / f"{kind} bis" / name).read_bytes()[:1024] for name in again] == [
            (tmp_path / kind / name).read_bytes()[:1024] for name in names
        ]


GOOD = np.arange(97, 122, dtype=np.uint16).tobytes()


def header(magic=20240520, version=1, count=25):
    return struct.pack("<3i", magic, version, count).ljust(1024, b"\0")


FAULTS = {
    "vide": (b"", "vide"),
    "coupé": (header(count=26) + GOOD, "annonce 26 jetons.*coupé"),
    "un octet de trop": (header() + GOOD + b"\0", "annonce 25 jetons"),
    "trop long": (header(count=24) + GOOD, "trop long"),
    "négatif": (header(count=-1) + GOOD, "annonce -1"),
    "version": (header(version=2) + GOOD, "version 2"),
    "uint32 coupé": (header(20240801, 7, 25) + GOOD, "annonce 25 jetons"),
    "questions": (header(20240522) + GOOD, "questions à choix"),
    "en-tête inconnu": (header(20250101) + GOOD, "en-tête inconnu"),
    "impair": (GOOD + b"\1", "impair"),
    "torch": (b"PK\x03\x04" + GOOD, "n'est pas un fragment"),
    "gguf": (b"GGUF" + GOOD, "n'est pas un fragment"),
    "gzip": (b"\x1f\x8b\x08\x00" + GOOD, "n'est pas un fragment"),
    "pickle": (pickle.dumps({"itos": list("abcdefghijk" * 9)}, 4), "n'est pas un fragment"),
}


@pytest.mark.parametrize("content, why", FAULTS.values(), ids=FAULTS)
def test_a_bad_shard_is_one_sentence_or_is_counted(tmp_path, content, why, caplog):
    folder = shards(tmp_path / "f", documents(), nanogpt)
    (folder / "part_000002.bin").write_bytes(content)
    with pytest.raises(UserError, match=f"part_000002.bin.*{why}") as refusal:
        module(folder, tmp_path).prepare()
    assert "\n" not in str(refusal.value)
    data = module(folder, tmp_path, errors="skip")
    data.prepare()
    assert "1 fragment laissé de côté" in caplog.text and "part_000002.bin" in caplog.text


def test_a_text_is_not_a_shard(tmp_path):
    (tmp_path / "t.txt").write_text("un texte d'un nombre pair d'octets.")
    with pytest.raises(UserError, match="n'a pas d'en-tête"):
        module(tmp_path / "t.txt", tmp_path).prepare()


@pytest.mark.parametrize("place", [0, 5000, 10_001])
def test_an_id_beyond_the_vocabulary_is_said_with_its_place(tmp_path, place):
    """À l'ouverture s'il est à l'un des endroits que l'on y lit ; sinon à sa lecture, jamais plus tard."""
    tokens = np.full(40_000, 97)
    tokens[place + 20_000] = 999
    folder = shards(tmp_path / "f", tokens, llmc, cuts=(0.5,))
    where = f"part_000001.bin : le jeton {place} est 999.*257"
    if place != 5000:
        with pytest.raises(UserError, match=where):
            module(folder, tmp_path).prepare()
        return
    data = module(folder, tmp_path)
    data.prepare()
    with pytest.raises(UserError, match=where):
        list(data.train_dataloader())
    with pytest.raises(UserError, match=where):
        data.tokens("train")[:]
    with pytest.raises(UserError, match=where):
        data.dataset("train").rows([(20_000 + place) // 8])


@pytest.mark.parametrize(
    "tokenizer", [TrainedTokenizer(300), CharacterTokenizer()], ids=["trained", "characters"]
)
def test_the_tokenizer_must_be_said_and_no_pickle_is_opened(tmp_path, tokenizer):
    folder = shards(tmp_path / "f", documents(), nanogpt)

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ouvert"), "w"))

    (folder / "meta.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="meta.pkl.*tokenizer="):
        module(folder, tmp_path, tokenizer=tokenizer).prepare()
    module(folder, tmp_path).prepare()
    assert not (tmp_path / "ouvert").exists()


def test_sixteen_bits_do_not_hold_a_wider_vocabulary(tmp_path):
    wide = ByteTokenizer()
    folder = shards(tmp_path / "f", documents(), nanogpt)
    type(wide).vocab_size, before = property(lambda self: 1 << 17), type(wide).vocab_size
    try:
        with pytest.raises(UserError, match="16 bits"):
            module(folder, tmp_path, tokenizer=wide).prepare()
    finally:
        type(wide).vocab_size = before


def test_another_tokenizer_than_the_one_beside_is_refused(tmp_path):
    (tmp_path / "t.txt").write_text("un texte " * 90)
    source = SlidingWindowDataModule(
        tokenizer=ByteTokenizer(),
        path=str(tmp_path / "t.txt"),
        max_length=8,
        cache_dir=str(tmp_path / "cache"),
    )
    source.prepare()
    write_shards(source, tmp_path / "f", 10_000)
    with pytest.raises(UserError, match="tokenizer bytes"):
        module(tmp_path / "f", tmp_path, tokenizer=gpt2()).prepare()
    for damage in ("{", "[]", '{"kind": "x"}', '{"kind": "trained", "merges": 3}'):
        (tmp_path / "f" / "tokenizer_state.json").write_text(damage)
        with pytest.raises(UserError, match="abîmé"):
            module(tmp_path / "f", tmp_path).prepare()


def test_names_tell_the_two_halves_and_a_validation_apart_wins(tmp_path, caplog):
    folder = tmp_path / "fineweb"
    folder.mkdir()
    for name, seed in (("val_000000", 1), ("train_000001", 2), ("train_000002", 3)):
        llmc(folder / f"fineweb_{name}.bin", documents(seed=seed))
    with caplog.at_level(logging.INFO, "gpt_lightning"):
        data = module(f"{folder}/*.bin", tmp_path)
        stats = data.prepare()
    assert "fineweb_val_000000.bin fait la validation" in caplog.text and data.name == "fineweb"
    assert data.tokens("val")[:].tolist() == documents(seed=1)
    assert data.tokens("train")[:].tolist() == [*documents(seed=2), *documents(seed=3)]
    assert stats.val_tokens == len(documents(seed=1)) and "3 fragments" in data.summary
    apart = module(f"{folder}/*train*.bin", tmp_path, val_path=str(folder / "fineweb_val_000000.bin"))
    apart.prepare()
    assert apart.tokens("val")[:].tolist() == documents(seed=1) and apart.identity == data.identity


def test_a_shard_of_the_validation_is_not_learned(tmp_path):
    (tmp_path / "f").mkdir()
    for name, seed in (("val_000000", 1), ("train_000001", 2)):
        llmc(tmp_path / "f" / f"d_{name}.bin", documents(seed=seed))
    val = str(tmp_path / "f" / "d_val_000000.bin")
    data = module(tmp_path / "f", tmp_path, val_path=val)
    data.prepare()
    assert data.tokens("train")[:].tolist() == documents(seed=2)
    assert data.tokens("val")[:].tolist() == documents(seed=1)
    with pytest.raises(UserError, match="n'a que les fragments de data.val_path="):
        module(val, tmp_path, val_path=val).prepare()


@pytest.mark.parametrize("first", [True, False])
def test_a_limit_counts_documents_or_bytes(tmp_path, first):
    tokens = documents(first=first)
    folder = shards(tmp_path / "f", tokens, llmc)
    data = module(folder, tmp_path, limit=7)
    data.prepare()
    ends = [i + 1 for i, token in enumerate(tokens) if token == EOS and i]
    assert [*data.tokens("train", "val")[:].tolist()] == tokens[: ends[6]]
    data = module(folder, tmp_path, limit="0.2kB")
    data.prepare()
    assert data.tokens("train", "val")[:].tolist() == tokens[:100]


def test_reading_goes_on_exactly_where_it_stopped(tmp_path):
    folder = shards(tmp_path / "f", documents(count=60), nanogpt)

    def loader(rank=0, world=1):
        data = module(folder, tmp_path)
        data.prepare()
        data._rank_and_world = lambda: (rank, world)
        return data.train_dataloader()

    first = loader()
    batches = iter(first)
    [next(batches) for _ in range(4)]
    state, rest = first.state_dict(), [x.tolist() for x, _ in batches]
    again = loader()
    again.load_state_dict(state)
    assert [x.tolist() for x, _ in again] == rest and rest
    two = [[x.tolist() for x, _ in loader(rank, 2)] for rank in range(2)]
    flat = [row for pair in zip(*two, strict=True) for x in pair for row in x]
    everything = [row for x, _ in loader() for row in x.tolist()]
    assert flat == everything[: len(flat)] and len(flat) > len(everything) - 4


def test_opening_maps_and_reads_almost_nothing(tmp_path):
    """Un fichier creux de 4 Go : il s'ouvre, et une fenêtre de sa fin se lit."""
    path, count = tmp_path / "creux.bin", (1 << 31) - 1
    with open(path, "wb") as file:
        file.write(struct.pack("<3i", 20240520, 1, count).ljust(1024, b"\0"))
        file.truncate(1024 + 2 * count)
    data = module(path, tmp_path, max_length=1024, stride=1024)
    stats = data.prepare()
    assert stats.train_tokens + stats.val_tokens == count
    assert data.dataset("val").rows([stats.val_windows - 1]).shape == (1, 1025)
    assert data.openings() and data.identity
