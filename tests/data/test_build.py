"""Un encodage arrêté au milieu se reprend : la même base, octet pour octet, et rien d'encodé deux fois."""

import os

import pytest

from gpt_lightning import durable
from gpt_lightning.data import SlidingWindowDataModule, build, encode, reading
from gpt_lightning.data.cache import choose, erase, list_stores
from gpt_lightning.data.reading import Piece
from gpt_lightning.tokenizers import ByteTokenizer, gpt2


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    for module in (reading, encode):
        monkeypatch.setattr(module, "BLOCK", 400)
    monkeypatch.setattr(build, "EVERY", 5)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # une coupure de courant n'est pas essayée ici
    (tmp_path / "c.jsonl").write_text(
        "".join(f'{{"text": "ligne {i} {"mot " * (i % 9 * 30)}"}}\n' for i in range(80)), encoding="utf-8"
    )
    return tmp_path


class Stopping(ByteTokenizer):
    """Un tokenizer d'octets que `at` textes arrêtent."""

    def __init__(self, at=None, error=KeyboardInterrupt):
        self.at, self.error, self.seen = at, error, 0

    def encode(self, text, *, special=False):
        self.seen += 1
        if self.seen == self.at:
            raise self.error
        return super().encode(text)


def prepare(folder, cache, tokenizer):
    data = SlidingWindowDataModule(
        tokenizer=tokenizer, path=str(folder / "c.jsonl"), max_length=8, cache_dir=str(folder / cache)
    )
    data.prepare()
    return {path.name: path.read_bytes() for path in data.store.folder.iterdir()}


def orphan(cache):
    """Fait de la base inachevée celle d'un processus mort."""
    (draft,) = [path for path in cache.iterdir() if path.name.endswith(".brouillon")]
    dead = draft.with_name(draft.name.replace(f"-{os.getpid()}.", "-999999999."))
    draft.rename(dead)
    return dead


@pytest.mark.parametrize("shard", [1 << 28, 1000])
@pytest.mark.parametrize("at", [1, 30, 65, 79])
def test_what_a_killed_process_encoded_is_taken_up(corpus, at, shard, monkeypatch):
    monkeypatch.setattr(build, "SHARD_TOKENS", shard)
    whole = Stopping()
    expected = prepare(corpus, "droit", whole)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, "repris", Stopping(at))
    cache = corpus / "repris"
    if any(cache.iterdir()):  # sinon, rien n'était encore sûr
        dead = orphan(cache)
        with open(max(dead.glob("train_0*.bin")), "ab") as file:
            file.write(b"ce que le journal ne dit pas")
    again = Stopping()
    assert prepare(corpus, "repris", again) == expected
    assert again.seen < whole.seen or at == 1
    assert [path.name[0] for path in cache.iterdir()] != ["."] and len(list(cache.iterdir())) == 1


def test_the_same_text_cut_otherwise_is_begun_again(corpus, tmp_path):
    """Ce qui est encodé compte des paquets ; une option, un autre format donnent d'autres morceaux du même texte."""
    text = " ".join(f"mot {n} {'chat' * (n % 9)}" for n in range(20_000))

    def encode(cache, tokenizer, size):
        pieces = [Piece(text[at : at + size], at + size >= len(text)) for at in range(0, len(text), size)]
        splits = {"train": lambda: iter(pieces), "val": lambda: iter([Piece("fin", True)])}
        return build.open_or_build(tmp_path / cache, "c", {"texte": "le même"}, splits, tokenizer)

    with pytest.raises(KeyboardInterrupt):
        encode("repris", Stopping(60), 4000)
    assert list((tmp_path / "repris").glob(".*/journal.json"))
    orphan(tmp_path / "repris")
    again, straight = encode("repris", Stopping(), 9000), encode("droit", Stopping(), 9000)
    contents = [{p.name: p.read_bytes() for p in base.folder.iterdir()} for base in (again, straight)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda draft: (draft / build.JOURNAL).write_text("{"),
        lambda draft: (draft / build.JOURNAL).write_text("{}"),
        lambda draft: (draft / "train_documents.bin").unlink(),
        lambda draft: (draft / "train_00000.bin").unlink(),
    ],
)
def test_a_damaged_unfinished_base_is_begun_again(corpus, damage):
    expected = prepare(corpus, "droit", Stopping())
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, "repris", Stopping(60))
    damage(orphan(corpus / "repris"))
    assert prepare(corpus, "repris", Stopping()) == expected


def test_an_unfinished_base_waits_is_shown_and_can_be_erased(corpus):
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, "repris", Stopping(60))
    cache = corpus / "repris"
    dead = orphan(cache)
    SlidingWindowDataModule(
        tokenizer=gpt2(), path=str(corpus / "c.jsonl"), max_length=8, cache_dir=str(cache)
    ).prepare()
    assert dead.exists()  # un autre corpus n'y touche pas
    durable.sweep(cache, keep=build.is_unfinished)
    (unfinished,) = [base for base in list_stores(cache) if "inachevé" in base.corpus]
    assert unfinished.folder == dead and erase(choose([unfinished], "all")[0]) and not dead.exists()


def test_a_fault_leaves_nothing(corpus):
    with pytest.raises(ZeroDivisionError):
        prepare(corpus, "faute", Stopping(60, ZeroDivisionError))
    assert list((corpus / "faute").iterdir()) == []


def test_progress_says_bytes_their_total_and_forgets_what_was_done(corpus):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, "repris", Stopping(60))
    orphan(corpus / "repris")
    SlidingWindowDataModule(
        tokenizer=Stopping(), path=str(corpus / "c.jsonl"), max_length=8,
        cache_dir=str(corpus / "repris"), progress=lambda *counts: seen.append(counts),
    ).prepare()  # fmt: skip
    size = max(done for done, total in seen if not total)
    encoded = [(done, total) for done, total in seen if total]
    assert encoded[0][0] < encoded[-1][0] == encoded[-1][1] < size
