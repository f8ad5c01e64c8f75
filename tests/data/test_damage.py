"""Une base de jetons abîmée, ou faite pour nuire, est nommée ; jamais lue à moitié."""

import json
import random
import zlib
from pathlib import Path

import numpy as np
import pytest

from gpt_lightning.data.build import open_or_build
from gpt_lightning.data.reading import Piece
from gpt_lightning.data.store import TokenStore
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteTokenizer

TEXT = "Il était une fois un chat. Le chat dort, le chien veille, et la nuit passe. " * 40


def pieces():
    return iter([Piece(TEXT, True, "un"), Piece(TEXT[:500], True, "deux")])


@pytest.fixture
def store(tmp_path) -> TokenStore:
    identity = {"source_sha256": "0", "tokenizer": "x", "split": {}}
    return open_or_build(tmp_path, "essai", identity, {"train": pieces, "val": pieces}, ByteTokenizer())


def values(store: TokenStore) -> list:
    arrays = [np.fromfile(path, store.dtype) for split in ("train", "val") for path in store.shards(split)]
    return [*arrays, *(store.documents(split) for split in ("train", "val"))]


def test_a_hundred_cuts_and_flips_are_seen_or_change_nothing(store):
    rng, expected, seen = random.Random(0), values(store), 0
    files = sorted(path for path in store.folder.iterdir())
    for index in range(100):
        path = rng.choice(files)
        content = path.read_bytes()
        changed = bytearray(content)
        if index % 4:
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            changed = changed[: rng.choice([0, 1, len(content) // 2, len(content) - 1])]
        path.write_bytes(changed)
        try:
            again = TokenStore.open(store.folder)
            assert all(map(np.array_equal, values(again), expected))
            assert (
                path.name == "meta.json"
            )  # ce que personne n'y lit : un espace, une empreinte déjà comparée
        except UserError as error:
            assert str(store.folder) in str(error)
            seen += 1
        path.write_bytes(content)
    assert seen > 75 and TokenStore.open(store.folder)


def told(folder: Path) -> None:
    """Met dans meta.json l'empreinte de ce que les fichiers sont devenus."""
    meta = json.loads((folder / "meta.json").read_text())
    for split in ("train", "val"):
        meta["splits"][split]["crc"] = [zlib.crc32((folder / f"{split}_00000.bin").read_bytes())]
    (folder / "meta.json").write_text(json.dumps(meta))


def test_an_id_outside_the_vocabulary_is_refused_whatever_the_digest_says(store):
    path = store.shards("train")[0]
    ids = np.fromfile(path, store.dtype)
    ids[7] = 300
    ids.tofile(path)
    told(store.folder)
    with pytest.raises(UserError, match="train_00000.bin contient un identifiant hors du vocabulaire"):
        TokenStore.open(store.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "object"},
        {"dtype": "O"},
        {"dtype": "float64"},
        {"dtype": ["uint16"]},
        {"vocab_size": 10**30},
        {"vocab_size": "257"},
        {"vocab_size": True},
        {"splits": {}},
        {"splits": []},
        {"version": "4; rm"},
        {"version": None},
    ],
    ids=str,
)
def test_what_meta_says_is_not_believed(changes, store):
    meta = json.loads((store.folder / "meta.json").read_text())
    (store.folder / "meta.json").write_text(json.dumps({**meta, **changes}))
    with pytest.raises(UserError, match=str(store.folder.name)):
        TokenStore.open(store.folder)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"version": ' + "9" * 10_000 + "}", "\ud83d"])
def test_a_hostile_meta_is_a_sentence(text, store):
    (store.folder / "meta.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="meta.json|version"):
        TokenStore.open(store.folder)


@pytest.mark.parametrize("shards", [["../x"], [-1], [1.5], ["a"], 3, {"0": 1}])
def test_shards_are_those_of_the_folder(shards, store):
    meta = json.loads((store.folder / "meta.json").read_text())
    meta["splits"]["train"]["crc"] = shards
    (store.folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="abîmé"):
        TokenStore.open(store.folder)
