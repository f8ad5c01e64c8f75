"""Les textes étiquetés : csv, tsv, jsonl, un dossier par étiquette ; ce qui se refuse, et l'ordre des étiquettes."""

import json

import numpy as np
import pytest

from gpt_lightning.data import LabelledDataModule
from gpt_lightning.data.classify.formats import read_labelled
from gpt_lightning.data.dictionary import aspirated_h, noun_definitions
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteTokenizer

ROWS = [
    ("Il dit « oui », l'été.", "positif"),
    ('Un "mot",\nsur deux lignes', "négatif"),
    ("trois", "positif"),
]


def written(folder, kind: str):
    if kind == "dossier":
        for rank, (text, label) in enumerate(ROWS):
            (folder / label).mkdir(exist_ok=True)
            (folder / label / f"{rank}.txt").write_text(text, encoding="utf-8")
        return folder
    path = folder / f"avis.{kind.partition('-')[0]}"
    records = [{"text": text, "label": label} for text, label in ROWS]
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(one) for one in records), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(records), encoding="utf-8")
    else:
        by = {"csv": ",", "csv-excel": ";", "tsv": "\t"}[kind]
        around = str if kind == "tsv" else lambda one: '"' + one.replace('"', '""') + '"'
        texts = [(text.replace("\n", " ") if kind == "tsv" else text, label) for text, label in ROWS]
        quoted = [by.join(map(around, (label, text))) for text, label in texts]
        lines = "\r\n".join([f"label{by}text", *quoted])
        path.write_bytes(lines.encode("utf-8-sig" if "excel" in kind else "utf-8"))
    return path


@pytest.mark.parametrize("kind", ["csv", "csv-excel", "tsv", "jsonl", "json", "dossier"])
def test_every_format_gives_the_same_texts(kind, tmp_path):
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(written(tmp_path, kind)))
    texts = ROWS if kind != "tsv" else [(text.replace("\n", " "), label) for text, label in ROWS]
    assert sorted(one[:2] for one in data.read("files", data.path)) == sorted(texts)


def test_a_label_may_be_a_number_and_a_column_have_another_title(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"avis": "bien", "note": 5}\n{"avis": "mal", "note": false}\n')
    found = [one[:2] for one in read_labelled(tmp_path / "a.jsonl", "avis", "note")]
    assert found == [("bien", "5"), ("mal", "false")]


@pytest.mark.parametrize(
    "name, content, what",
    [
        ("a.csv", "texte,label\nx,y\n", "il manque la colonne text"),
        ("a.csv", "text,etiquette\nx,y\n", "data.label_key="),
        ("a.csv", "text,label\nx,y,z\n", "ligne 2 : 3 cases pour 2 colonnes"),
        ("a.csv", 'text,label\n"x,y\n', "ligne 2 : un guillemet ouvre une case qui n'est jamais fermée"),
        ("a.csv", "", "il manque la colonne text (colonnes lues : aucune)"),
        ("a.csv", "text,label\n", "Le corpus est vide : aucun texte à lire"),
        ("a.csv", "text,label\nx,\n", "ligne 2 : label est vide"),
        ("a.jsonl", '{"text": "x"}\n', "ligne 1 : il manque la clé label"),
        ("a.jsonl", '{"text": ["x"], "label": "y"}\n', "text est vide ou n'est pas du texte"),
        ("a.jsonl", "pas du json\n", "ligne 1 : ce n'est pas du JSON"),
        ("a.jsonl", '"x"\n', "il faut un objet JSON"),
        ("a.csv", "text,label\n" + "".join(f"texte {i},seule\n" for i in range(40)), "« seule »"),
        ("a.csv", "text,label\nun,a\n", "Aucun texte"),
    ],
)
def test_a_bad_file_is_one_sentence(name, content, what, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / name))
    with pytest.raises(UserError) as error:
        data.prepare()
    assert what in str(error.value)


def rows(count: int = 60) -> str:
    return "text,label\n" + "".join(
        f"texte numéro {i},{'abc'[i % 3 if i % 7 else 0]}\n" for i in range(count)
    )


def test_bad_rows_may_be_skipped_and_are_counted(tmp_path, caplog):
    (tmp_path / "a.csv").write_text(rows() + "x,\n,y\n")
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"), errors="skip")
    with caplog.at_level("WARNING"):
        assert data.prepare().documents == 60
    assert "2 textes laissés de côté" in caplog.text and "ligne 62" in caplog.text


def test_labels_are_sorted_once_or_those_of_the_model(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(rows())
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(path))
    data.prepare()
    assert data.labels == ("a", "b", "c")
    again = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(path))
    again.labels = ("c", "z", "b", "a")
    again.prepare()
    assert again.labels == ("c", "z", "b", "a")
    wanted = [("c", "z", "b", "a").index(one.label) for one in again.texts["train"]]
    assert again.store["train"].labels.tolist() == wanted
    unknown = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(path))
    unknown.labels = ("a", "b")
    with pytest.raises(UserError, match="l'étiquette « c » n'est pas une de celles du modèle"):
        unknown.prepare()


def test_a_label_that_only_validation_has_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(rows())
    (tmp_path / "v.csv").write_text("text,label\nun,inconnue\n")
    data = LabelledDataModule(
        tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"), val_path=str(tmp_path / "v.csv")
    )
    with pytest.raises(
        UserError, match="v.csv, ligne 2 : aucun texte d'entraînement n'a l'étiquette « inconnue »"
    ):
        data.prepare()


def test_a_limit_keeps_every_label_of_a_sorted_file(tmp_path):
    lines = [f"texte {label} {i},{label}" for label in "abc" for i in range(100)]
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join(lines))
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"), limit=60)
    data.prepare()
    assert data.labels == ("a", "b", "c") and sum(map(len, data.texts.values())) == 60


def test_a_text_beside_the_folders_of_labels_is_refused(tmp_path):
    written(tmp_path, "dossier")
    (tmp_path / "LISEZMOI.txt").write_text("rien")
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path))
    with pytest.raises(UserError, match="LISEZMOI.txt : un .txt est dans le sous-dossier de son étiquette"):
        data.prepare()


def test_columns_are_not_named_where_there_are_none(tmp_path):
    written(tmp_path, "dossier")
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path), text_key="avis")
    with pytest.raises(UserError, match="un .txt n'en a pas"):
        data.prepare()


@pytest.mark.parametrize("how", ["none", "auto"])
def test_class_weights_average_one_and_make_classes_equal(how, tmp_path):
    (tmp_path / "a.csv").write_text(rows(120))
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"), class_weights=how)
    data.prepare()
    train, counts = data.store["train"], data.class_counts("train")
    assert train.weights[train.labels].mean() == pytest.approx(1, abs=1e-6)
    if how == "auto":
        assert np.ptp(train.weights * counts) < 1e-3
    assert data.store["val"].weights.tolist() == [1, 1, 1]  # une évaluation compte chaque texte de même


def test_long_texts_are_cut_counted_and_the_last_real_position_is_read(tmp_path):
    (tmp_path / "a.csv").write_text(rows())
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"), max_length=14)
    data.prepare()
    assert "coupés à data.max_length=14" in data.summary
    dataset = data.store["train"]
    batch = dataset.batch(range(len(dataset)))
    assert dataset.lengths.max() == 14 and set(dataset.targets) == {1}
    for row, (ids, where) in enumerate(zip(batch.ids, batch.where, strict=True)):
        last = int(where) - row * batch.ids.shape[1]
        text = data.texts["train"][row].text.encode()[:14]
        assert bytes(ids[: last + 1].tolist()) == text and not ids[last + 1 :].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, labels", [(noun_definitions, {"nom", "autre"}), (aspirated_h, {"aspiré", "muet"})]
)
def test_two_tasks_need_no_file(source, labels):
    found = list(source(800))
    assert len(found) == 800 and {one.label for one in found} == labels
    assert found == list(source(800))
    known = {one.where: one.label for one in source()}
    expected = {"chat": "nom", "courir": "autre", "haricot": "aspiré", "heure": "muet"}
    assert all(known.get(word, label) == label for word, label in expected.items() if label in labels)
    assert any(word in known for word in expected)
