import pytest

from gpt_lightning.data.base import opening
from gpt_lightning.data.text import SlidingWindowDataModule
from gpt_lightning.tokenizers import SimpleTokenizerV1, SimpleTokenizerV2, gpt2

TEXT = "Le chat dort. Le chien veille, et la nuit passe. "


def module(tmp_path, text, *, tokenizer=None, **values):
    path = tmp_path / "texte.txt"
    path.write_text(text, encoding="utf-8")
    values = {"max_length": 8, "stride": 8, "batch_size": 2, **values}
    return SlidingWindowDataModule(
        tokenizer=tokenizer or gpt2(), path=str(path), cache_dir=str(tmp_path / "cache"), **values
    )


def test_split_and_tokens_are_those_of_the_original(tmp_path, golden, verdict):
    data = module(tmp_path, verdict, max_length=256, stride=128)
    stats, expected = data.prepare(), golden["windows"]
    assert stats.characters == expected["characters"] and stats.documents == 1
    assert (stats.train_tokens, stats.val_tokens) == (expected["train_tokens"], expected["val_tokens"])
    assert (stats.train_windows, stats.val_windows) == (
        expected["train_windows_256_128"],
        expected["val_windows_256_128"],
    )


def test_documents_are_joined_by_end_of_text(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"{name} " + TEXT * 9, encoding="utf-8")
    data = SlidingWindowDataModule(
        tokenizer=gpt2(), path=str(tmp_path), max_length=8, stride=8, cache_dir=str(tmp_path / "cache")
    )
    data.prepare()
    tokens = [*data.tokens("train")[:].tolist(), *data.tokens("val")[:].tolist()]
    assert tokens.count(50256) == 2


def test_the_store_is_reused_then_rebuilt_when_the_text_changes(tmp_path):
    built = []
    module(tmp_path, TEXT * 50, report=built.append).prepare()
    module(tmp_path, TEXT * 50, report=built.append).prepare()
    assert len(built) == 1
    data = module(tmp_path, TEXT * 51, report=built.append)
    data.prepare()
    assert len(built) == 2 and "chat" in gpt2().decode(data.tokens("val")[:].tolist())


def test_truncated_store_is_refused_by_name(tmp_path):
    data = module(tmp_path, TEXT * 50)
    data.prepare()
    shard = data.store.shards("train")[0]
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(ValueError, match="train_00000.bin est abîmé"):
        module(tmp_path, TEXT * 50).prepare()


def test_failed_building_leaves_nothing(tmp_path):
    data = module(tmp_path, TEXT * 50)
    data.tokenizer.encode_to_numpy = lambda text: 1 / 0
    with pytest.raises(ZeroDivisionError):
        data.prepare()
    assert list((tmp_path / "cache").iterdir()) == []


def test_v1_learns_from_the_whole_corpus_and_v2_from_training_only(tmp_path):
    text = TEXT * 50 + "zèbre"
    v1, v2 = (module(tmp_path, text, tokenizer=kind()) for kind in (SimpleTokenizerV1, SimpleTokenizerV2))
    v1.prepare(), v2.prepare()
    assert "zèbre" in v1.tokenizer.state()["vocabulary"]
    assert "zèbre" not in v2.tokenizer.state()["vocabulary"]
    assert v2.tokens("val")[-1] == v2.tokenizer.encode("<|unk|>", special=True)[0]


@pytest.mark.parametrize("text, why", [("", "vide"), ("court", "moins qu'une fenêtre"), (TEXT, "validation")])
def test_too_little_text_is_said(tmp_path, text, why):
    with pytest.raises(ValueError, match=why):
        module(tmp_path, text).prepare()


@pytest.mark.parametrize(
    "values",
    [
        {"max_length": 0},
        {"stride": -1},
        {"stride": 9},  # des jetons sautés
        {"batch_size": "deux"},
        {"train_split": 1.5},
        {"source": "x"},
        {"errors": "x"},
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, values):
    with pytest.raises(ValueError, match=f"data.{next(iter(values))}"):
        module(tmp_path, TEXT, **values)


def test_a_step_larger_than_the_corpus_is_refused_with_a_value_that_works(tmp_path):
    data = module(tmp_path, TEXT * 20, batch_size=1000)
    stats = data.prepare()
    with pytest.raises(ValueError, match=f"data.batch_size={stats.train_windows} "):
        data.order()


def test_validation_reads_each_window_once_over_processes(tmp_path):
    data = module(tmp_path, TEXT * 100)
    data.prepare()
    seen = []
    for rank in range(2):
        data._rank_and_world = lambda rank=rank: (rank, 2)
        seen += [tuple(row) for x, _ in data.val_dataloader() for row in x.tolist()]
    dataset = data.dataset("val")
    assert sorted(seen) == sorted(tuple(dataset[i][0].tolist()) for i in range(len(dataset)))


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_capped_evaluation_is_spread_and_the_last_one_is_whole(tmp_path, world_size):
    text = "\n".join(
        " ".join(f"d{d}m{w}" for w in range(40)) for d in range(40)
    )  # aucune fenêtre n'est répétée
    data = module(tmp_path, text, eval_batches=2, batch_size=4 // world_size)
    data.prepare()
    seen: list[int] = []
    dataset = data.dataset("val")
    names = {tuple(dataset[i][0].tolist()): i for i in range(len(dataset))}
    for rank in range(world_size):
        data._rank_and_world = lambda rank=rank: (rank, world_size)
        loader = data.val_dataloader()
        assert len(loader) >= len(list(loader))
        seen += [names[tuple(row)] for x, _ in loader for row in x.tolist()]
    assert len(dataset) > 8 and sorted(seen) == [i * len(dataset) // 8 for i in range(8)]
    data.read_whole_validation()
    assert data.reads_whole_validation and len(list(loader)) == len(loader)


@pytest.mark.parametrize(
    "text, begins",
    [
        ("licorne : Animal fabuleux.", "licorne :"),
        ("jeu de tir : Jeu vidéo.", "jeu de tir :"),
        ("Il était une fois un chat.", "Il était une"),
        ("\nUn\nautre", "Un"),
        ("", ""),
    ],
)
def test_the_opening_of_a_text(text, begins):
    assert opening(text) == begins


def test_openings_come_from_the_validation(tmp_path):
    data = module(tmp_path, TEXT * 100)
    data.prepare()
    assert data.openings(1) == [opening(data.tokenizer.decode(data.tokens("val")[:48].tolist()))]


def numbered(n_documents: int, words: int) -> list[str]:
    """Des documents dont aucun mot ne se répète."""
    return [" ".join(f"d{d}m{w}" for w in range(words)) for d in range(n_documents)]


def words_of(data, split) -> list[str]:
    return data.tokenizer.decode(data.tokens(split)[:].tolist()).replace("<|endoftext|>", " ").split()


@pytest.mark.parametrize("values", [{}, {"split": "documents"}, {"train_split": 0.37}], ids=str)
@pytest.mark.parametrize("deduplicate", [False, True])
def test_no_validation_text_is_in_training(tmp_path, values, deduplicate):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i, text in enumerate(numbered(20, 40)):
        (folder / f"{i:02}.txt").write_text(text, encoding="utf-8")
    data = SlidingWindowDataModule(
        tokenizer=SimpleTokenizerV1(),
        path=str(folder),
        max_length=4,
        stride=2,
        cache_dir=str(tmp_path / "cache"),
        deduplicate=deduplicate,
        **values,
    )
    data.prepare()
    train, val = words_of(data, "train"), words_of(data, "val")
    cut_word = {train[-1], val[0]}  # la coupe par caractères peut tomber dans un mot
    assert not (set(train) & set(val)) - cut_word and len(train) + len(val) in (800, 801)
    if values.get("split") == "documents":
        assert val[0] == "d18m0" and train[-1] == "d17m39"


def test_a_validation_path_is_all_of_the_validation(tmp_path):
    (tmp_path / "val.txt").write_text("un autre texte " * 30, encoding="utf-8")
    data = module(tmp_path, TEXT * 20, val_path=str(tmp_path / "val.txt"))
    stats = data.prepare()
    assert gpt2().decode(data.tokens("val")[:].tolist()) == "un autre texte " * 30
    assert gpt2().decode(data.tokens("train")[:].tolist()) == TEXT * 20 and stats.documents == 2


def test_windows_may_stay_inside_documents(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i, text in enumerate(numbered(12, 30)):
        (folder / f"{i:02}.txt").write_text(text[: 20 if i == 3 else None], encoding="utf-8")
    data = SlidingWindowDataModule(
        tokenizer=SimpleTokenizerV2(),
        path=str(folder),
        max_length=8,
        stride=4,
        split="documents",
        cross_documents=False,
        cache_dir=str(tmp_path / "cache"),
    )
    data.prepare()
    dataset, tokens = data.dataset("train"), data.tokens("train")[:]
    ends = {i for i, token in enumerate(tokens.tolist()) if token == data.tokenizer.eos_id}
    expected, start = [], 0
    for stop in [*sorted(i + 1 for i in ends), len(tokens)]:
        expected += [tokens[i : i + 9].tolist() for i in range(start, stop - 8, 4)]
        start = stop
    assert dataset.rows(range(len(dataset))).tolist() == expected
    assert all(data.tokenizer.eos_id not in row[:-1] for row in expected)


def test_several_processes_write_the_same_store(tmp_path, monkeypatch):
    from gpt_lightning.data import encode, reading

    monkeypatch.setattr(reading, "BLOCK", 2000)
    monkeypatch.setattr(encode, "BLOCK", 2000)
    (tmp_path / "b.jsonl").write_text(
        "".join(f'{{"text": "ligne {i} {TEXT}"}}\n' for i in range(200)), encoding="utf-8"
    )
    tokens = []
    for characters in (10**9, 5000):  # un processus, puis deux
        monkeypatch.setattr(encode, "PARALLEL_CHARACTERS", characters)
        data = SlidingWindowDataModule(
            tokenizer=gpt2(), path=str(tmp_path), max_length=8, cache_dir=str(tmp_path / f"cache{characters}")
        )
        data.prepare()
        tokens.append([data.tokens("train")[:].tolist(), data.store.documents("train").tolist()])
    assert tokens[0] == tokens[1] and len(tokens[0][1]) > 150


@pytest.mark.slow
def test_two_builders_at_once_both_end_well(tmp_path, text_file):
    import subprocess
    import sys

    code = (
        "import sys; from gpt_lightning.data.text import SlidingWindowDataModule as M;"
        "from gpt_lightning.tokenizers import gpt2;"
        "d = M(tokenizer=gpt2(), path=sys.argv[1], cache_dir=sys.argv[2]); d.prepare();"
        "print(d.tokens('train')[:].sum())"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(text_file), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    sums = [process.communicate()[0] for process in both]
    assert sums[0] == sums[1] and all(process.returncode == 0 for process in both)
    assert len(list(tmp_path.iterdir())) == 1


def test_disk_full_leaves_nothing_and_names_the_reason(tmp_path, monkeypatch):
    import errno

    from gpt_lightning.data import build as encode

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encode, "_sync", full)
    with pytest.raises(ValueError, match="No space left on device.*data.cache_dir"):
        module(tmp_path, TEXT * 50).prepare()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "damage, why",
    [
        (lambda folder: (folder / "meta.json").unlink(), "meta.json manque"),
        (lambda folder: (folder / "meta.json").write_text("{"), "meta.json manque"),
        (lambda folder: (folder / "meta.json").write_text('{"version": 0}'), "version 0"),
        (lambda folder: (folder / "val_00000.bin").unlink(), "val_00000.bin est abîmé ou absent"),
    ],
)
def test_a_damaged_store_is_refused_by_name(tmp_path, damage, why):
    data = module(tmp_path, TEXT * 50)
    data.prepare()
    damage(data.store.folder)
    with pytest.raises(ValueError, match=why):
        module(tmp_path, TEXT * 50).prepare()
