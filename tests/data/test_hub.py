"""Un jeu de données de datasets, un dossier d'ici : ses formats, ses parts, ses fautes, et ce qu'un arrêt laisse."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gpt_lightning.data import DatasetsDataModule, columns
from gpt_lightning.data.documents import libraries
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteTokenizer
from tests.data.test_columns import write

TRAIN, TEST = (
    [f"{name} {i} : le chat dort, la nuit passe." for i in range(80)] for name in ("ligne", "essai")
)


def test_a_missing_library_is_named_with_the_line_to_type(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(libraries, "import_module", missing)
    with pytest.raises(UserError, match=r"demande datasets : pip install .*\[corpus\]"):
        module(tmp_path, name=str(tmp_path)).find()
    with pytest.raises(UserError, match=r"demande pyarrow : pip install .*\[corpus\]"):
        list(columns.read_parquet(tmp_path / "a.parquet", "text"))


@pytest.mark.parametrize(
    "values, why",
    [
        ({}, "data.name="),
        ({"name": "./absent"}, "n'existe pas"),
        ({"name": "/absent/x"}, "n'existe pas"),
        ({"name": "x", "path": "y"}, "data.name="),
        ({"name": "x", "val_split": "a", "val_path": "b"}, "l'un des deux"),
        ({"name": "x", "cut": "z"}, "data.cut"),
        ({"name": "x", "errors": "z"}, "data.errors"),
        ({"name": "x", "limit": 0}, "data.limit"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path, values, why):
    with pytest.raises(UserError, match=why):
        module(tmp_path, **values).find()


def module(tmp_path, **values):
    values = {"tokenizer": ByteTokenizer(), "max_length": 8, **values}
    return DatasetsDataModule(cache_dir=str(tmp_path / "cache"), **values)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    made = tmp_path / "jeu"
    made.mkdir()
    return made


def texts(data, split):
    return data.tokenizer.decode(data.tokens(split)[:].tolist()).split("<|endoftext|>")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", "enregistré"])
def test_every_local_folder_is_read(folder, tmp_path, suffix):
    if suffix == "enregistré":
        import datasets

        parts = {"train": TRAIN, "test": TEST}
        saved = datasets.DatasetDict(
            {name: datasets.Dataset.from_dict({"text": part}) for name, part in parts.items()}
        )
        saved.save_to_disk(str(folder))
    else:
        for name, part in (("train", TRAIN), ("test", TEST)):
            write(folder / f"{name}{suffix}", part)
    data = module(tmp_path, name=str(folder), val_split="test")
    stats = data.prepare()
    assert texts(data, "train") == TRAIN and texts(data, "val") == TEST and stats.documents == 160
    assert data.name == "jeu" and "colonne text, part train" in data.summary
    alone = module(tmp_path, name=str(folder), split="test", cut="documents", limit=50)
    assert alone.prepare().documents == 50 and texts(alone, "val") == TEST[45:50]
    with pytest.raises(UserError, match="data.split=val.*train, .*test|data.split=val.*train.*test"):
        module(tmp_path, name=str(folder), split="val").prepare()
    with pytest.raises(UserError, match="data.text_key="):
        module(tmp_path, name=str(folder), text_key="absente").prepare()


@pytest.mark.slow
def test_faults_of_a_dataset_are_sentences(folder, tmp_path):
    rows = [{"text": "un"}, {"text": None}, {"text": "deux " * 20}, {"text": "trois " * 20}]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="ligne 2.*text est vide"):
        module(tmp_path, name=str(folder)).prepare()
    data = module(tmp_path, name=str(folder), errors="skip", cut="characters", train_split=0.5)
    assert data.prepare().documents == 3 and len(data.source.register.skipped) == 1
    with pytest.raises(UserError, match="ne s'ouvre pas") as refusal:
        module(tmp_path, name=str(folder), config="absente").prepare()
    assert "\n" not in str(refusal.value)
    (folder / "train.jsonl").write_text('{"text": "un"}\n{"text": \n')
    with pytest.raises(UserError, match="jeu") as refusal:
        module(tmp_path, name=str(folder)).prepare()
    assert "\n" not in str(refusal.value)
    (folder / "train.jsonl").unlink()
    with pytest.raises(UserError, match="ne s'ouvre pas"):
        module(tmp_path, name=str(folder)).prepare()


@pytest.mark.slow
def test_a_second_command_reads_nothing_again_until_a_file_changes(folder, tmp_path):
    write(folder / "train.jsonl", TRAIN)
    seen = []
    for _ in range(2):
        module(tmp_path, name=str(folder), progress=lambda *counts: seen.append(counts)).prepare()
        seen.append("fini")
    assert seen[-2:] == ["fini", "fini"]
    write(folder / "train.jsonl", TRAIN[:70])
    assert module(tmp_path, name=str(folder)).prepare().documents == 70


@pytest.mark.slow
def test_a_preparation_killed_in_the_middle_is_taken_up(folder, tmp_path):
    write(folder / "train.parquet", [f"{i} {'le chat dort et la nuit passe ' * 300}" for i in range(12_000)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def prepare(cache):
        words = [
            f"data.name={folder}",
            "tokenizer=bytes",
            f"data.cache_dir={tmp_path / cache}",
            "data.cut=documents",
        ]
        command = [sys.executable, "-m", "gpt_lightning", "prepare", "data=datasets", *words]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    killed = prepare("repris")
    while not list((tmp_path / "repris").glob(".*/journal.json")):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()  # ses aides, qui ont sa sortie, finissent avec lui
    (again, _), (straight, _) = prepare("repris").communicate(), prepare("droit").communicate()
    assert "est repris" in again and "est repris" not in straight
    bases = [next((tmp_path / name).glob("jeu-*")) for name in ("repris", "droit")]
    assert bases[0].name == bases[1].name
    for path in bases[0].iterdir():
        assert path.read_bytes() == (bases[1] / path.name).read_bytes(), path.name
