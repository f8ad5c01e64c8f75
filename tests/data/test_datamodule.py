import pytest

from gpt_lightning.data.datamodule import SlidingWindowDataModule
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
    assert stats.characters == expected["characters"]
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
    tokens = [*data.tokens("train").tolist(), *data.tokens("val").tolist()]
    assert tokens.count(50256) == 2


def test_the_store_is_reused_then_rebuilt_when_the_text_changes(tmp_path):
    built = []
    module(tmp_path, TEXT * 50, report=built.append).prepare()
    module(tmp_path, TEXT * 50, report=built.append).prepare()
    assert len(built) == 1
    data = module(tmp_path, TEXT * 51, report=built.append)
    data.prepare()
    assert len(built) == 2 and "chat" in gpt2().decode(data.tokens("val").tolist())


def test_truncated_store_is_refused_by_name(tmp_path):
    data = module(tmp_path, TEXT * 50)
    data.prepare()
    shard = data._store.shards("train")[0]
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(ValueError, match="train_00000.bin est tronqué"):
        module(tmp_path, TEXT * 50).prepare()


def test_failed_building_leaves_nothing(tmp_path):
    data = module(tmp_path, TEXT * 50)
    data.tokenizer.encode = None
    with pytest.raises(TypeError):
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
        data._place = lambda rank=rank: {"world_size": 2, "rank": rank}
        seen += [tuple(row) for x, _ in data.val_dataloader() for row in x.tolist()]
    dataset = data.dataset("val")
    assert sorted(seen) == sorted(tuple(dataset[i][0].tolist()) for i in range(len(dataset)))
