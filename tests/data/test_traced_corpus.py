"""L'index du corpus d'un module de données : les mêmes textes, de quelque façon que le corpus soit rangé."""

import json

import pytest

from gpt_lightning.data import ConversationDataModule, LabelledDataModule, build
from gpt_lightning.data.text import SlidingWindowDataModule
from gpt_lightning.data.tracing import corpus
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteTokenizer, SimpleTokenizerV2, gpt2

NAMES = ("un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix")
DOCUMENTS = [f"Le chat {name} dort,\net l'été passe… " * 3 for name in NAMES]


def text_module(tmp_path, tokenizer=None, **values):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS), encoding="utf-8")
    values = {"split": "documents", "max_length": 8, "batch_size": 2, **values}
    cache_dir = str(tmp_path / "cache")
    return SlidingWindowDataModule(
        tokenizer=tokenizer or gpt2(), path=str(path), cache_dir=cache_dir, **values
    )


def texts(data, split="train") -> list[str]:
    return ["".join(parts) for parts in data.documents(split)]


@pytest.mark.parametrize(
    "tokenizer", [gpt2(), ByteTokenizer(), SimpleTokenizerV2()], ids=lambda t: type(t).__name__
)
def test_documents_are_what_the_model_reads(tmp_path, tokenizer, monkeypatch):
    """Décodés d'un coup ou par parties, jamais au milieu d'un caractère."""
    data = text_module(tmp_path, tokenizer)
    data.prepare()
    whole = texts(data)
    assert len(whole) == 9 and len(texts(data, "val")) == 1
    if not isinstance(tokenizer, SimpleTokenizerV2):  # lui ne garde pas les blancs
        assert whole == DOCUMENTS[:9]
    for part in (1, 2, 5):
        monkeypatch.setattr("gpt_lightning.data.windowed.PART", part)
        assert texts(data) == whole


def test_the_index_does_not_depend_on_the_shards(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = text_module(tmp_path / "a"), text_module(tmp_path / "b")
    first.prepare()
    monkeypatch.setattr(build, "SHARD_TOKENS", 7)
    second.prepare()
    assert len(second.store.shards("train")) > 1 == len(first.store.shards("train"))
    for data in (first, second):
        assert data.open_index() is not None
    assert first.index_path.read_bytes() == second.index_path.read_bytes()


def test_the_same_text_cut_otherwise_is_traced(tmp_path):
    """La loi est sur le texte : une phrase que le tokenizer découpe autrement se retrouve aussi."""
    data = text_module(tmp_path)
    data.prepare()
    traced = data.open_index()
    for text in ("chat deux dort", "l'été passe… Le chat deux", "xchat deux"):
        told = traced.explain(text, 1)
        got = told["passages"]
        assert (told["covered"] == 1) == (not text.startswith("x")) and told["covered"] >= told["share"]
        assert bool(got) == (not text.startswith("x")) or got[0]["text"] == "deux"
        for passage in got:
            document, begin = DOCUMENTS[passage["rank"] - 1], passage["character"]
            assert document[begin : begin + len(passage["text"])] == passage["text"]
            assert passage["before"] + passage["text"] + passage["after"] in document


def test_the_index_is_kept_and_refused_if_damaged(tmp_path, monkeypatch):
    data = text_module(tmp_path)
    data.prepare()
    assert data.open_index(build=False) is None and not data.index_path.exists()
    assert data.open_index().least >= 2
    monkeypatch.setattr(corpus, "build_index", lambda *_: pytest.fail("il est construit deux fois"))
    assert data.open_index(build=False) is not None
    data.index_path.write_bytes(data.index_path.read_bytes()[:-1])
    with pytest.raises(UserError, match="train_suffixes.bin est abîmé : effacez-le"):
        data.open_index()


def test_a_base_is_opened_without_its_sources(tmp_path):
    data = text_module(tmp_path)
    data.prepare()
    (tmp_path / "corpus.jsonl").unlink()
    again = SlidingWindowDataModule(
        tokenizer=gpt2(), path="ailleurs", cache_dir=str(tmp_path / "cache"), max_length=8, batch_size=2
    )
    assert not again.adopt_base("une autre", gpt2()) and again.adopt_base(data.identity, gpt2())
    assert texts(again) == DOCUMENTS[:9] and again.open_index().corpus.names([0]) == {}


@pytest.mark.parametrize("cut", ["documents", "characters", "hash"])
def test_a_base_opened_again_has_the_names_of_its_documents(cut, tmp_path):
    def dictionary(limit: int = 200) -> SlidingWindowDataModule:
        sizes = {"split": cut, "max_length": 8, "batch_size": 2, "limit": limit}
        cache_dir = str(tmp_path / "cache")
        return SlidingWindowDataModule(tokenizer=gpt2(), source="wiktionnaire", cache_dir=cache_dir, **sizes)

    first, again, changed = dictionary(), dictionary(), dictionary(100)
    first.prepare()
    ranks = range(len(texts(first)))
    assert len(ranks) > 100 and again.adopt_base(first.identity, gpt2())
    names = again.names(reversed(ranks))
    assert names == first.names(ranks) and len(names) == len(ranks)
    assert all(names[rank].lower() in texts(again)[rank].lower() for rank in (0, 5, 90))
    assert again.names([2]) == {2: names[2]} and again.names([]) == {}
    assert changed.adopt_base(first.identity, gpt2()) and changed.names(ranks) == {}


def test_conversations_are_indexed_without_their_template(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = [{"instruction": f"Quel animal est {name} ?", "output": f"C'est {name} chats."} for name in NAMES]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    data = ConversationDataModule(
        tokenizer=gpt2(), path=str(tmp_path / "a.json"), max_length=64, batch_size=2
    )
    data.prepare()
    said = {text for row in rows for text in row.values()}
    assert {*texts(data), *texts(data, "val")} == said
    passage = data.open_index().explain(texts(data)[1], 1)["passages"][0]
    assert passage["text"] == texts(data)[1] and "a.json" in passage["document"]


def test_labelled_texts_are_indexed_as_they_are_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines = [f"Le film {name} est très bon.\t{'ab'[rank % 2]}" for rank, name in enumerate(NAMES * 3)]
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "\n".join(lines), encoding="utf-8")
    data = LabelledDataModule(tokenizer=gpt2(), path=str(tmp_path / "a.tsv"), max_length=5, batch_size=2)
    data.prepare()
    whole = [line.partition("\t")[0] for line in lines]
    assert all(text not in whole and any(line.startswith(text) for line in whole) for text in texts(data))
    assert data.open_index().explain("Le film", 1)["passages"][0]["times"] == len(texts(data))
