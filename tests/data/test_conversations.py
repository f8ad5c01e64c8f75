"""Les formats de conversations : les mêmes messages, et une phrase qui nomme la ligne pour tout le reste."""

import json

import pytest

from gpt_lightning.data import ConversationDataModule
from gpt_lightning.data.instruct.formats import read_conversations
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteTokenizer, gpt2
from gpt_lightning.tokenizers.template import Message

ASKED, ANSWERED = "Quel animal miaule ?", "Le chat."
SAME = {
    "alpaca": {"instruction": ASKED, "input": "", "output": ANSWERED},
    "alpaca sans input": {"instruction": ASKED, "output": ANSWERED, "id": 3},
    "messages": {
        "messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWERED}]},
    "deux textes": {"prompt": ASKED, "completion": ANSWERED},
}
WANTED = (Message("user", ASKED), Message("assistant", ANSWERED))


def written(path, rows):
    text = json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_the_four_formats_are_the_same_messages(tmp_path, name):
    found = read_conversations(written(tmp_path / name, list(SAME.values())))
    assert [one.messages for one in found] == [WANTED] * len(SAME)


def test_what_the_formats_add_is_kept(tmp_path):
    rows = [
        {"instruction": "Traduis.", "input": "chat", "output": "cat"},
        {
            "system": "Sois bref.",
            "conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}],
        },
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "un"},
                {"role": "user", "content": "deux"},
                {"role": "assistant", "content": "trois"},
            ]
        },
    ]
    one, two, three = (found.messages for found in read_conversations(written(tmp_path / "a.jsonl", rows)))
    assert one[0].content == "Traduis.\n\nchat"
    assert two[0] == Message("system", "Sois bref.")
    assert three == (Message("system", "S"), Message("user", "un\n\ndeux"), Message("assistant", "trois"))


BAD = [
    ("texte", "objet JSON"),
    ({}, "messages, conversations, instruction ou prompt"),
    ({"instruction": "A"}, "il manque la clé output"),
    ({"instruction": "", "output": "B"}, "instruction doit être un texte, non vide"),
    ({"instruction": "A", "input": 3, "output": "B"}, "input doit être un texte"),
    ({"prompt": "A", "completion": None}, "completion doit être un texte"),
    ({"messages": []}, "non vide"),
    ({"messages": [{"role": "user"}]}, "message 1 .* role et content"),
    ({"messages": [{"role": "robot", "content": "A"}]}, "rôle 'robot'"),
    ({"messages": [{"role": "user", "content": "A"}]}, "aucune réponse"),
    ({"messages": [{"role": "assistant", "content": "A"}]}, "n'a pas de question"),
    ({"conversations": [{"from": "human", "value": " "}]}, "value doit être un texte"),
    (
        {"messages": [*SAME["messages"]["messages"], {"role": "system", "content": "S"}]},
        "system doit être le premier",
    ),
]


@pytest.mark.parametrize("row, what", BAD, ids=[what for _, what in BAD])
def test_a_bad_row_is_named_or_skipped_and_counted(tmp_path, row, what, caplog):
    path = written(
        tmp_path / "a.jsonl", [*[SAME["alpaca"] | {"instruction": f"Q{i}"} for i in range(9)], row]
    )
    options = {"tokenizer": ByteTokenizer(), "path": str(path), "train_split": 0.5, "max_length": 128}
    with pytest.raises(UserError, match=f"ligne 10 : .*{what}"):
        ConversationDataModule(**options).prepare()
    data = ConversationDataModule(**options, errors="skip")
    assert data.prepare().documents == 9 and len(data.skipped) == 1
    assert "1 conversation laissée de côté" in caplog.text and "ligne 10" in caplog.text


@pytest.mark.parametrize(
    "name, content, what",
    [
        ("a.jsonl", '{"instruction": "A", "output": "B"}\n{oups\n', "ligne 2 : ce n'est pas du JSON"),
        ("a.json", '{"instruction": "A"}', "une liste JSON"),
        ("a.json", "[1, 2", "une liste JSON"),
        ("a.json", "[]", "vide"),
        ("a.jsonl", "\n\n", "vide"),
    ],
)
def test_a_file_that_is_not_one_is_refused(tmp_path, name, content, what):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=what):
        ConversationDataModule(tokenizer=gpt2(), path=str(tmp_path / name)).prepare()


def test_a_folder_is_read_and_what_is_not_a_conversation_is_said(tmp_path):
    written(tmp_path / "a.json", [SAME["alpaca"] | {"instruction": f"Q{i}"} for i in range(6)])
    written(tmp_path / "b.jsonl", [SAME["messages"]] * 3)
    (tmp_path / "c.txt").write_text("rien")
    data = ConversationDataModule(tokenizer=gpt2(), path=str(tmp_path), train_split=0.5)
    assert [(path.name, why) for path, why in data.find()] == [("c.txt", ".txt")]
    assert data.prepare().documents == 9


def turns(count: int, size: int = 10) -> dict:
    talk = [{"role": ("user", "assistant")[i % 2], "content": chr(97 + i) * size} for i in range(2 * count)]
    return {"messages": [{"role": "system", "content": "S"}, *talk]}


def test_a_long_conversation_is_cut_after_an_answer(tmp_path):
    path = written(tmp_path / "a.jsonl", [turns(5) | {"id": 1}])
    short = ConversationDataModule(
        tokenizer=ByteTokenizer(), path=str(path), val_path=str(path), max_length=160
    )
    short.prepare()
    row = short.store["train"].rows[0]
    text = ByteTokenizer().decode(row.ids.tolist())
    assert len(row.ids) <= 161 and row.learned[-1] and row.ids[-1] == 256
    assert (
        text.startswith("### Consigne :\nS") and text.count("### Question") == text.count("### Réponse") == 2
    )


def test_what_cannot_be_cut_is_refused_or_skipped(tmp_path):
    path = written(tmp_path / "a.jsonl", [turns(1), turns(1, 500)])
    options = {"tokenizer": ByteTokenizer(), "path": str(path), "val_path": str(path), "max_length": 160}
    with pytest.raises(UserError, match="ligne 2 : .*dépassent data.max_length=160"):
        ConversationDataModule(**options).prepare()
    data = ConversationDataModule(**options, errors="skip")
    assert data.prepare().train_windows == 1 and len(data.skipped) == 2


def test_the_same_question_is_always_on_the_same_side(tmp_path):
    rows = [{"prompt": f"Q{i % 50}", "completion": f"R{i}"} for i in range(200)]
    path = written(tmp_path / "a.jsonl", rows)
    data = ConversationDataModule(tokenizer=ByteTokenizer(), path=str(path), train_split=0.7)
    data.prepare()
    sides = {
        split: {bytes(r.ids[:-4].astype("uint8")) for r in data.store[split].rows} for split in data.store
    }
    questions = {s: {q.partition(b"ponse")[0] for q in found} for s, found in sides.items()}
    assert not questions["train"] & questions["val"] and questions["val"]


def test_definitions_keep_the_words_that_pretraining_keeps():
    from gpt_lightning.data.corpus import Source
    from gpt_lightning.data.split import split_by_hash

    read = Source(source="wiktionnaire", limit=400)
    held = {piece.key for piece in split_by_hash(read.pieces, 0.9)[1]()}
    data = ConversationDataModule(tokenizer=gpt2(), limit=400)
    found = {"train": set(), "val": set()}
    for one in data.read("definitions", None):
        from gpt_lightning.data.split import fraction

        found["train" if fraction(one.key, "split") < 0.9 else "val"].add(one.key)
    assert found["val"] and found["val"] <= held and not found["train"] & held


def test_conversations_given_as_text_are_sent_to_the_right_command(tmp_path, command):
    written(tmp_path / "a.jsonl", [SAME["messages"]])
    done = command("train.py", "model=tiny", "data.path=a.jsonl", cwd=tmp_path)
    assert done.returncode == 1 and "experiment=instruct" in done.stderr and "Traceback" not in done.stderr
