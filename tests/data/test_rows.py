"""Les corpus de lignes : rien de donné ne disparaît sans un mot, et ce qui se lit de deux façons se refuse."""

import csv
import itertools
import json
import random
import re
import unicodedata

import pytest

from gpt_lightning.data import ConversationDataModule, LabelledDataModule
from gpt_lightning.data.classify.labels import plain_label
from gpt_lightning.data.classify.table import read_table
from gpt_lightning.data.corpus import Source
from gpt_lightning.data.documents import read_files
from gpt_lightning.data.text import SlidingWindowDataModule
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteTokenizer, CharacterTokenizer

QUOTE = '"'
MODULES = {"instruct": ConversationDataModule, "labels": LabelledDataModule}


def row(task: str, n: int, question: str = "") -> dict:
    if task == "instruct":
        return {"prompt": question or f"Question {n} ?", "completion": f"Réponse {n}."}
    return {"text": question or f"texte {n}", "label": "ab"[n % 2]}


def write(path, task: str, rows: range, question: str = ""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row(task, n, question)) for n in rows), encoding="utf-8")
    return path


def count(data) -> dict[str, int]:
    return {split: len(part) for split, part in data.store.items()}


# --- data.limit


@pytest.mark.parametrize("task", MODULES)
@pytest.mark.parametrize("limit", [None, "auto", 25, 60, 200])
@pytest.mark.parametrize("apart", [False, True])
def test_what_is_given_is_read_or_said(task, limit, apart, tmp_path, caplog):
    write(tmp_path / "a" / "un.jsonl", task, range(60))
    write(tmp_path / "a" / "deux.jsonl", task, range(60, 90))
    val_path = str(write(tmp_path / "v.jsonl", task, range(100, 170))) if apart else None
    data = MODULES[task](
        tokenizer=ByteTokenizer(), path=str(tmp_path / "a"), val_path=val_path, limit=limit, max_length=200
    )
    with caplog.at_level("INFO"):
        data.prepare()
    cut = isinstance(limit, int) and limit < 90
    sizes = count(data)
    assert sizes["train"] + sizes["val"] == (limit if cut else 90) + 70 * apart
    if apart:
        assert sizes["val"] == 70  # une validation à part n'est pas coupée
    said = [record.message for record in caplog.records if "data.limit" in record.message]
    assert len(said) == cut
    if cut:
        assert f"{limit} " in said[0] and "sur 90" in said[0] and f"data.limit={limit}" in said[0]


@pytest.mark.parametrize("task", MODULES)
def test_a_limit_draws_from_every_file(task, tmp_path):
    write(tmp_path / "a" / "1.jsonl", task, range(60))
    write(tmp_path / "a" / "2.jsonl", task, range(60, 120))
    data = MODULES[task](tokenizer=ByteTokenizer(), path=str(tmp_path / "a"), limit=40, max_length=200)
    drawn = {line.where.partition(",")[0][-7:] for half in data.halves().values() for line in half}
    assert drawn == {"1.jsonl", "2.jsonl"}


def test_a_run_of_before_keeps_the_lines_it_kept(tmp_path):
    path = write(tmp_path / "a.jsonl", "instruct", range(60))
    apart = write(tmp_path / "v.jsonl", "instruct", range(60))
    data = ConversationDataModule(tokenizer=ByteTokenizer(), path=str(path), val_path=str(apart), limit=20)
    data.continue_as_before()
    halves = data.halves()
    for half in halves.values():
        assert [line.key for line in half] == [f"Question {n} ?" for n in range(20)]
    assert not data.partial


BUILT_IN = [  # la tâche, la source, la limite, et si elle coupe
    ("instruct", "definitions", 40, True),
    pytest.param("labels", "noms", 40, True, marks=pytest.mark.slow),
    ("labels", "h_aspire", 40, True),
    ("labels", "h_aspire", 10_000_000, False),
    ("text", "wiktionnaire", 40, True),
    ("text", "pydoc", 40, True),
    ("text", "pydoc", "20kB", True),
    ("text", "pydoc", 10_000_000, False),
    ("text", "pydoc", "10GB", False),
]


@pytest.mark.parametrize("task, source, limit, cuts", BUILT_IN)
def test_a_limit_on_what_is_built_in_says_so_many_of_so_many(task, source, limit, cuts, caplog):
    with caplog.at_level("INFO"):
        if task == "text":
            read = Source(source=source, limit=limit)
            read.say_limit(sum(piece.last for piece in read.pieces()))
        else:
            list(MODULES[task](tokenizer=ByteTokenizer(), source=source, limit=limit).read(source, None))
    said = [record.message for record in caplog.records if "data.limit" in record.message]
    assert len(said) == cuts
    if cuts:
        assert re.search(r"\d.* sur \d", said[0]) and f"data.limit={limit} ; data.limit=null" in said[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_run_of_before_reads_a_tsv_as_it_did(seed, tmp_path):
    """Ses guillemets y entouraient une case : la reprise lit les textes que l'exécution avait lus."""
    path = tmp_path / "a.tsv"
    texts = texts_with_quotes(seed)
    texts[10], texts[14] = '"oui', 'non"'  # l'ancienne lecture en faisait un seul texte
    lines = [f"{text}\t{'ab'[n % 2]}" for n, text in enumerate(texts)]
    path.write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")
    with path.open(encoding="utf-8", newline="") as file:
        expected = [row for row in list(csv.reader(file, delimiter="\t"))[1:] if len(row) == 2]
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(path), errors="skip", train_split=0.5)
    data.continue_as_before()
    read = list(data.read("files", str(path)))
    assert [row.text for row in read] == [
        text.strip() for text, label in expected if text.strip() and label.strip()
    ]
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(path), train_split=0.5)
    assert len(list(data.read("files", str(path)))) == len(lines) > len(read)


@pytest.mark.parametrize("limit", ["beaucoup", "20MB", 0, True])
def test_a_limit_of_lines_is_a_number(limit, tmp_path):
    path = write(tmp_path / "a.jsonl", "labels", range(9))
    with pytest.raises(UserError, match="data.limit"):
        LabelledDataModule(tokenizer=ByteTokenizer(), path=str(path), limit=limit)


# --- les guillemets d'un tableau


def texts_with_quotes(seed: int, number: int = 45) -> list[str]:
    draw = random.Random(seed)
    words = ['"', "oui", '"non"', "l'été", ",", ";", '""', "fin"]
    return [f"{n} " * (n % 3 > 0) + " ".join(draw.choices(words, k=4)) + f" {n}" for n in range(number)]


@pytest.mark.parametrize("seed", range(8))
def test_every_line_of_a_tsv_is_a_text(seed, tmp_path):
    texts = texts_with_quotes(seed)
    lines = [f"{text}\t{'ab'[n % 2]}" for n, text in enumerate(texts)]
    (tmp_path / "a.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    rows = list(read_table(tmp_path / "a.tsv", ("text", "label")))
    assert [cells["text"] for _, cells in rows] == texts
    assert [where.rpartition(" ")[2] for where, _ in rows] == [str(n) for n in range(2, 47)]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("seed", range(4))
def test_a_csv_gives_back_what_a_spreadsheet_wrote(seed, separator, tmp_path, caplog):
    texts = [text.replace("oui", "oui\n") for text in texts_with_quotes(seed)]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([("text", "label"), *((text, "a") for text in texts)])
    rows = list(read_table(tmp_path / "a.csv", ("text", "label")))
    assert [cells["text"] for _, cells in rows] == texts


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("opened", [(0,), (7,), (19,), (3, 11), (4, 5), (0, 9, 14), (2, 3, 8, 19)])
def test_a_forgotten_quote_never_swallows_a_line_in_silence(opened, separator, tmp_path, caplog):
    """Un guillemet ouvre le texte de ces lignes : la première est nommée, refusée ou dite."""
    lines = [f"{QUOTE * (n in opened)}texte {n}{separator}{'ab'[n % 2]}" for n in range(20)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([f"text{separator}label", *lines]) + "\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        list(read_table(path, ("text", "label")))
    assert f"ligne {opened[0] + 2} : un guillemet ouvre" in str(error.value)


@pytest.mark.parametrize("first, last", [(0, 1), (2, 9), (5, 18)])
def test_a_cell_that_holds_lines_of_the_table_is_named(first, last, tmp_path, caplog):
    """Un guillemet ouvre une ligne et un autre finit une plus loin : le tableau reste bien formé."""
    lines = [
        f"{QUOTE * (n == first)}texte {n}"
        + (f"{QUOTE * (n == last)},a" if n != first or first == last else ",a")
        for n in range(20)
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    with caplog.at_level("WARNING"):
        rows = list(read_table(path, ("text", "label")))
    assert len(rows) == 20 - (last - first)
    assert f"ligne {first + 2} : une case entre guillemets contient ce qui ressemble" in caplog.text


def test_a_text_of_several_lines_is_not_suspect(tmp_path, caplog):
    (tmp_path / "a.csv").write_text('text,label\n"un\ndeux",a\n"trois, quatre",b\n', encoding="utf-8")
    with caplog.at_level("WARNING"):
        rows = list(read_table(tmp_path / "a.csv", ("text", "label")))
    assert len(rows) == 2 and not caplog.text


def test_the_quotes_a_tsv_keeps_are_said(tmp_path, caplog):
    table = 'text\tlabel\n"un ""mot"""\ta\ndeux\tb\n'
    (tmp_path / "a.tsv").write_text(table, encoding="utf-8")
    packed = list(read_table(tmp_path / "a.tsv.gz", ("text", "label"), blocks=[table]))
    assert [values for _, values in packed] == [
        values for _, values in read_table(tmp_path / "a.tsv", ("text", "label"))
    ]
    with caplog.at_level("WARNING"):
        rows = list(read_table(tmp_path / "a.tsv", ("text", "label")))
    assert rows[0][1]["text"] == '"un ""mot"""' and "1 case entre guillemets" in caplog.text


# --- deux lectures possibles

TABLE = "".join(f"texte {n},{'ab'[n % 2]},{'ba'[n % 2]}\n" for n in range(40))
LINES = [json.dumps(row("labels", n)) for n in range(40)]
TALKS = [json.dumps(row("instruct", n)) for n in range(40)]
LISTS = "{" + f'"train": [{",".join(LINES)}], "validation": [{",".join(LINES)}]' + "}"
TWICE = [
    ("labels", {"a.csv": f"text,label,label\n{TABLE}"}, ["colonnes 2 et 3", "data.label_key="]),
    ("labels", {"a.csv": f"text, label,label \n{TABLE}"}, ["colonnes 2 et 3", "data.label_key="]),
    ("labels", {"a.csv": f"text,text,label\n{TABLE}"}, ["colonnes 1 et 2", "data.text_key="]),
    ("labels", {"a.tsv": f"text\tlabel\tlabel\n{TABLE}".replace(",", "\t")}, ["colonnes 2 et 3"]),
    ("labels", {"a.csv": f"text,label,Label\n{TABLE}"}, ["label et Label", "data.label_key=Label"]),
    ("labels", {"a.csv": f"Text,text,label\n{TABLE}"}, ["text et Text", "data.text_key=Text"]),
    ("labels", {"a.csv": "a;text;label;b,text,label,c\nx\n"}, ["la virgule et le point-virgule"]),
    (
        "labels",
        {"a.jsonl": '{"text": "x", "label": "a", "label": "b"}\n'},
        ["ligne 1", "label est donnée deux fois"],
    ),
    (
        "labels",
        {"a.json": '[{"text": "x", "text": "y", "label": "b"}]'},
        ["élément 1", "text est donnée deux fois"],
    ),
    ("labels", {"a.jsonl": '{"text": "x", "label": "a", "LABEL": "b"}\n'}, ["label et LABEL"]),
    ("labels", {"a.json": LISTS}, ["« train » (40) et « validation » (40)", "data.val_path="]),
    ("labels", {"a.json": '{"data": [{}], "data": [{}]}'}, ["data est donnée deux fois"]),
    (
        "labels",
        {
            f"{half}/{label}/{n}.txt": f"texte {n}"
            for half in ("train", "test")
            for label in "ab"
            for n in range(5)
        },
        ["train et test", "data.val_path="],
    ),
    (
        "labels",
        {f"fr/{label}/{n}.txt": "texte" for label in "ab" for n in range(5)},
        ["« fr » ou « a »", "data.path="],
    ),
    (
        "labels",
        {f"{half}/{n}.txt": "texte" for half in ("train", "test") for n in range(5)},
        ["data.val_path="],
    ),
    (
        "labels",
        {"avis_train.jsonl": "\n".join(LINES), "avis_test.jsonl": "\n".join(LINES)},
        ["data.val_path="],
    ),
    ("instruct", {"train/a.jsonl": "\n".join(TALKS), "dev/a.jsonl": "\n".join(TALKS)}, ["train et dev"]),
    (
        "instruct",
        {"a.jsonl": '{"prompt": "x", "completion": "y", "completion": "z"}\n'},
        ["donnée deux fois"],
    ),
    (
        "instruct",
        {"a.jsonl": '{"messages": [{"role": "user", "content": "x", "content": "y"}]}\n'},
        ["content est donnée deux fois"],
    ),
    ("instruct", {"a.json": LISTS.replace("text", "prompt").replace("label", "completion")}, ["« train »"]),
]


@pytest.mark.parametrize("task, files, what", TWICE)
def test_what_reads_two_ways_is_refused_by_name(task, files, what, tmp_path):
    for name, content in files.items():
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).write_text(content, encoding="utf-8")
    path = tmp_path / "c" / next(iter(files)) if len(files) == 1 else tmp_path / "c"
    with pytest.raises(UserError) as error:
        data = MODULES[task](tokenizer=ByteTokenizer(), path=str(path))
        data.find()
        data.prepare()
    for part in what:
        assert part in str(error.value)


def test_what_chooses_between_two_readings_is_read(tmp_path):
    (tmp_path / "a.csv").write_text(f"text,label,Label\n{TABLE}")
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"), label_key="Label")
    data.prepare()
    assert {(row.text, row.label) for row in data.texts["train"]} <= {
        (f"texte {n}", "ba"[n % 2]) for n in range(40)
    }
    for half, label in itertools.product(("train", "test"), "ab"):
        for n in range(6):
            write(tmp_path / "c" / half / label / f"{n}.txt", "labels", range(n, n + 1))
    for more in (
        {"path": str(tmp_path / "c" / "train"), "val_path": str(tmp_path / "c" / "test")},
        {"path": [str(tmp_path / "c" / "train"), str(tmp_path / "c" / "test")], "train_split": 0.5},
    ):
        data = LabelledDataModule(tokenizer=ByteTokenizer(), **more)
        data.prepare()
        assert data.labels == ("a", "b") and data.statistics.documents == 24


def test_one_list_of_objects_beside_other_values_is_read(tmp_path):
    content = {"version": "1", "labels": ["a", "b"], "data": [row("labels", n) for n in range(40)]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.json"))
    assert data.prepare().documents == 40


def test_a_file_of_both_halves_is_said(tmp_path, caplog):
    path = str(write(tmp_path / "a.jsonl", "labels", range(20)))
    LabelledDataModule(tokenizer=ByteTokenizer(), path=path, val_path=path).prepare()
    assert "lu par data.path= et par data.val_path=" in caplog.text


def test_a_text_of_both_halves_is_said(tmp_path, caplog):
    for name in ("un", "deux"):
        (tmp_path / f"{name}.txt").write_text(
            f"Le chat {name} dort et la nuit passe. " * 20, encoding="utf-8"
        )
    options = {"tokenizer": ByteTokenizer(), "max_length": 8, "cache_dir": str(tmp_path / "cache")}
    SlidingWindowDataModule(
        path=str(tmp_path / "un.txt"), val_path=str(tmp_path / "deux.txt"), **options
    ).prepare()
    assert "lu par data.path=" not in caplog.text
    SlidingWindowDataModule(path=str(tmp_path), val_path=str(tmp_path / "deux.txt"), **options).prepare()
    assert "deux.txt est lu par data.path= et par data.val_path=" in caplog.text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"instruction": "a", "output": "b", "id": ' + "[" * 900 + "]" * 900 + "}", "profondément"),
        ('{"messages": 7, "instruction": "a", "output": "b"}', "messages"),
        ('{"messages": "  ", "instruction": "a", "output": "b"}', None),
    ],
)
def test_a_strange_row_is_a_sentence(line, said, tmp_path):
    rows = "".join(json.dumps({"instruction": f"a{n}", "output": "b"}) + "\n" for n in range(40))
    (tmp_path / "a.jsonl").write_text(rows + line + "\n", encoding="utf-8")
    data = ConversationDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.jsonl"), max_length=64)
    if said is None:
        assert data.prepare().documents == 41
    else:
        with pytest.raises(UserError, match=said):
            data.prepare()
        skipping = ConversationDataModule(
            tokenizer=ByteTokenizer(), path=str(tmp_path / "a.jsonl"), max_length=64, errors="skip"
        )
        assert skipping.prepare().documents == 40


def test_a_key_that_is_ignored_is_not_read(tmp_path):
    def talk(n: int) -> list[dict]:
        return [{"role": "user", "content": f"a{n}"}, {"role": "assistant", "content": "b"}]

    rows = [{"messages": talk(n), "conversations": f"texte {n}"} for n in range(40)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    options = {"tokenizer": ByteTokenizer(), "path": str(path), "max_length": 64}
    with pytest.raises(UserError, match="conversations"):
        ConversationDataModule(**options).prepare()
    assert ConversationDataModule(ignore=["conversations"], **options).prepare().documents == 40


# --- les étiquettes

WRITINGS = [
    ["é", unicodedata.normalize("NFD", "é")],
    ["très bien", "très\u00a0bien", " très  bien", "très\u202fbien", "tr\u00adès bien", "\ufefftrès bien"],
    ["1", "1.0", "1,00", "1."[:1]],
    ["-2", "-2.0"],
    ["true", "True", "TRUE"],
    ["false", "False"],
]


@pytest.mark.parametrize("writings", WRITINGS, ids=str)
def test_labels_that_read_the_same_are_one(writings, tmp_path, caplog):
    assert {plain_label(label) for label in writings} == {writings[0]}
    rows = [(f"texte {n}", writings[n % len(writings)] if n % 2 else "autre") for n in range(80)]
    lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.jsonl"))
    with caplog.at_level("INFO"):
        data.prepare()
    assert set(data.labels) == {writings[0], "autre"}


@pytest.mark.parametrize("label", ["1.5", "1.05", "v1.0", "trueness", "été", "a.0", "Bon"])
def test_other_labels_stay_as_they_are(label):
    assert plain_label(label) == label


@pytest.mark.parametrize("values", [(1, 0), (1.0, 0.0), (True, False), ("1", 0.0)])
def test_a_label_of_json_is_written_as_it_reads(values, tmp_path):
    lines = "\n".join(json.dumps({"text": f"texte {n}", "label": values[n % 2]}) for n in range(40))
    (tmp_path / "a.jsonl").write_text(lines)
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.jsonl"))
    data.prepare()
    assert set(data.labels) == ({"true", "false"} if values[0] is True else {"0", "1"})


def test_the_labels_of_a_model_keep_their_writing(tmp_path):
    odd = unicodedata.normalize("NFD", "é")
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"t{n},{'é1'[n % 2]}\n" for n in range(40)))
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"))
    data.prepare(labels=(odd, "1.0"))
    assert data.labels == (odd, "1.0") and {row.label for row in data.texts["train"]} == {odd, "1.0"}


def test_two_labels_of_another_case_stay_two_and_are_said(tmp_path, caplog):
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"t{n},{('Bon', 'bon')[n % 2]}\n" for n in range(40))
    )
    data = LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv"))
    data.prepare()
    assert data.labels == ("Bon", "bon") and "« Bon » et « bon » ne diffèrent que par la casse" in caplog.text


@pytest.mark.parametrize("half", ["train", "val"])
def test_a_label_of_one_side_alone_is_said(half, tmp_path, caplog):
    from gpt_lightning.data.split import fraction

    lonely = next(
        f"seul {n}" for n in range(99) if (fraction(f"seul {n}", "split") < 0.9) == (half == "train")
    )
    lines = [f"texte {n},{'ab'[n % 2]}" for n in range(80)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines, f"{lonely},rare"]))
    LabelledDataModule(tokenizer=ByteTokenizer(), path=str(tmp_path / "a.csv")).prepare()
    said = (
        "Rien n'apprendra l'étiquette « rare »" if half == "val" else "Rien ne mesurera l'étiquette « rare »"
    )
    assert said in caplog.text and "data.val_path=" in caplog.text


@pytest.mark.parametrize("task", MODULES)
def test_lines_that_begin_alike_are_said_to_be_alike(task, tmp_path):
    path = write(tmp_path / "a.jsonl", task, range(300), "Résume ce texte.")
    data = MODULES[task](tokenizer=ByteTokenizer(), path=str(path), max_length=200)
    with pytest.raises(UserError) as error:
        data.prepare()
    assert f"les 300 {data.nouns[1]} {data.alike}" in str(error.value)
    assert "data.val_path=" in str(error.value) and "davantage" not in str(error.value)


@pytest.mark.parametrize("task", MODULES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "bon/1.txt"])
@pytest.mark.parametrize("errors", ["strict", "skip"])
def test_an_invalid_byte_advises_no_value_that_is_refused(task, name, errors, tmp_path):
    path = tmp_path / "textes" / name
    path.parent.mkdir(parents=True)
    path.write_bytes("un café".encode("latin-1"))
    data = MODULES[task](tokenizer=ByteTokenizer(), path=str(tmp_path / "textes"), errors=errors)
    with pytest.raises(UserError) as error:
        data.prepare()
    assert "replace" not in str(error.value)


def test_the_vocabulary_of_characters_is_that_of_every_text(tmp_path):
    letters = [chr(0x4E00 + n) for n in range(200)]
    lines = "\n".join(f"texte {letter},{'ab'[n % 2]}" for n, letter in enumerate(letters))
    (tmp_path / "a.csv").write_text(f"text,label\n{lines}\n", encoding="utf-8")
    data = LabelledDataModule(tokenizer=CharacterTokenizer(), path=str(tmp_path / "a.csv"))
    data.prepare()
    for part in data.texts.values():
        for line in part:
            assert data.tokenizer.decode(data.tokenizer.encode(line.text)) == line.text


# --- par la commande

TYPED = (
    "model=tiny",
    "tokenizer=bytes",
    "trainer.max_steps=1",
    "trainer.accelerator=cpu",
    "callbacks.sample=null",
    "output_dir=x",
)


@pytest.mark.parametrize("task, files, what", [TWICE[0], TWICE[10], TWICE[12], TWICE[16]])
def test_the_command_refuses_in_one_sentence(task, files, what, command, tmp_path):
    for name, content in files.items():
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).write_text(content, encoding="utf-8")
    path = f"c/{next(iter(files))}" if len(files) == 1 else "c"
    done = command("train.py", f"data={task}", f"data.path={path}", *TYPED, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "x").exists()
    for part in what:
        assert part in done.stderr


@pytest.mark.parametrize("task, limit", [("instruct", ""), ("labels", ""), ("labels", "data.limit=30")])
def test_the_command_reads_what_is_its_owners(task, limit, command, tmp_path):
    """Sans limite tapée, tout est lu, même au-delà de la part du dictionnaire ; tapée, elle se dit."""
    number = {"instruct": 30_050, "labels": 20_050}[task] if not limit else 90
    write(tmp_path / "a.jsonl", task, range(number))
    write(tmp_path / "v.jsonl", task, range(number, number + 40))
    paths = (f"data={task}", "data.path=a.jsonl", "data.val_path=v.jsonl", *filter(None, [limit]))
    paths += ("data.max_length=128",)
    done = command("train.py", *paths, *TYPED, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    total = f"{number + 40:,}".replace(",", "\u202f")
    if limit:
        assert "30 textes sur 90" in done.stdout and "70 textes, 2 étiquettes" in done.stdout
    else:
        assert f"{total} {'conversations' if task == 'instruct' else 'textes'}" in done.stdout


def test_the_plan_says_the_windows_a_pass_leaves(command, tmp_path):
    """Sous son titre : un film annoncé ensuite ne s'en empare pas."""
    (tmp_path / "a.txt").write_text("Il était une fois un chat. " * 400)
    size = ("data.max_length=64", "data.batch_size=16", "callbacks.film.images=2")
    done = command("train.py", "data=text", "data.path=a.txt", *size, *TYPED, cwd=tmp_path)
    titles = re.findall(r"^(\w+) +: (.*(?:\n +.*)*)", done.stdout, re.M)
    plan, film = (next(said for title, said in titles if title == name) for name in ("Plan", "Film"))
    assert done.returncode == 0 and "chaque époque laisse" in plan and "\n" not in film, done.stderr


@pytest.mark.slow
def test_the_plan_says_the_documents_shorter_than_a_window(command, tmp_path):
    (tmp_path / "c").mkdir()
    for n in range(4):
        (tmp_path / "c" / f"{n}.txt").write_text("Il était une fois un chat. " * (1 + 200 * (n % 2)))
    more = ("data.cross_documents=false", "data.split=documents", "data.train_split=0.5", "data.batch_size=4")
    typed = [word for word in TYPED if "output_dir" not in word]
    done = command(
        "train.py",
        "data=text",
        "data.path=c",
        "data.max_length=64",
        *more,
        *typed,
        "output_dir=y",
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "2 documents plus courts qu'une fenêtre" in done.stdout, done.stderr
    typed += ["output_dir=z", "data.limit=2", "data.batch_size=4"]
    done = command("train.py", "data=text", "data.path=c", "data.max_length=64", *typed, cwd=tmp_path)
    assert done.returncode == 0 and "2 documents" in done.stdout and "data.limit=2 ;" in done.stdout, (
        done.stderr
    )


def test_a_text_given_twice_in_a_line_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "un", "id": 1}\n{"text": "deux", "text": "trois"}\n')
    with pytest.raises(UserError, match="ligne 2 : la clé 'text' est donnée deux fois"):
        list(read_files([tmp_path / "a.jsonl"]))
