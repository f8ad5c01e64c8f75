"""Les formats de conversations : les mêmes messages, et une phrase qui nomme la ligne pour tout le reste."""

import json
import re

import pytest

from gpt_lightning.data import ConversationDataModule
from gpt_lightning.data.instruct.formats import read_conversations
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    gpt2,
)
from gpt_lightning.tokenizers.messages import Message

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


PAIR = {"instruction": ASKED, "output": ANSWERED}
TALK = SAME["messages"]["messages"]
SYSTEM, BEFORE = Message("system", "Sois bref."), (Message("user", "A"), Message("assistant", "B"))
READ = [
    (PAIR | {"system": "Sois bref.\r\n"}, (SYSTEM, *WANTED)),
    (PAIR | {"history": [["A", " B"]]}, (*BEFORE, *WANTED)),
    (PAIR | {"system": "Sois bref.", "history": [["A", "B"]]}, (SYSTEM, *BEFORE, *WANTED)),
    (PAIR | {"system": "", "history": [], "input": None}, WANTED),
    (SAME["deux textes"] | {"system": "Sois bref.", "history": [["A", "B"]]}, (SYSTEM, *BEFORE, *WANTED)),
    (SAME["messages"] | {"system": "Sois bref."}, (SYSTEM, *WANTED)),
    (SAME["sharegpt"] | {"system": "Sois bref."}, (SYSTEM, *WANTED)),
    ({"messages": [{"role": "developer", "content": "Sois bref."}, *TALK]}, (SYSTEM, *WANTED)),
    ({"messages": [{"role": "system", "content": " "}, *TALK]}, WANTED),
    (
        {"system": "Sois bref.", "messages": [{"role": "system", "content": "Et poli."}, *TALK]},
        (Message("system", "Sois bref.\n\nEt poli."), *WANTED),
    ),
    (
        {"messages": [TALK[0], TALK[1] | {"weight": 0}, *TALK]},
        (WANTED[0], WANTED[1]._replace(learned=False), *WANTED),
    ),
    (
        {"conversations": [*SAME["sharegpt"]["conversations"], {"from": "human", "value": "C"}]},
        (*WANTED, Message("user", "C")),
    ),
    (SAME["messages"] | {"instruction": None, "output": ""}, WANTED),
    ({"conversations": TALK}, WANTED),
    ({"messages": SAME["sharegpt"]["conversations"]}, WANTED),
    (PAIR | {"id": 3, "source": "ici", "score": 0.5, "tags": [], "tools": None}, WANTED),
]


@pytest.mark.parametrize("row, wanted", READ, ids=[json.dumps(row)[:60] for row, _ in READ])
def test_every_key_of_a_row_is_used(tmp_path, row, wanted):
    (found,) = read_conversations(written(tmp_path / "a.jsonl", [row]))
    assert found.messages == wanted


KEYS = ["context", "response", "tools", "images", "weight", "chosen", "System", "histories", "clé inconnue"]


@pytest.mark.parametrize("form", ["alpaca", "messages", "sharegpt", "deux textes"])
@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_would_not_be_read_is_named_and_may_be_ignored(tmp_path, form, key):
    path = written(tmp_path / "a.jsonl", [SAME[form], SAME[form] | {key: "quelque chose"}])
    with pytest.raises(UserError, match=f"ligne 2 : .*{key}.*data.ignore=.{key}") as seen:
        list(read_conversations(path))
    assert "\n" not in str(seen.value)
    assert [one.messages for one in read_conversations(path, ignore=[key])] == [WANTED] * 2
    skipped = []
    assert len(list(read_conversations(path, skipped.append))) == len(skipped) == 1


@pytest.mark.parametrize("form", ["messages", "sharegpt"])
@pytest.mark.parametrize("key", ["tool_calls", "function_call", "images", "thinking", "loss"])
def test_a_key_of_a_message_that_would_not_be_read_is_named_and_may_be_ignored(tmp_path, form, key):
    ((name, (asked, answered)),) = SAME[form].items()
    path = written(tmp_path / "a.jsonl", [{name: [asked, answered | {key: [1]}]}, {name: [asked, answered]}])
    with pytest.raises(UserError, match=f"ligne 1 : le message 2 .*{key}.*data.ignore=.{key}"):
        list(read_conversations(path))
    assert [one.messages for one in read_conversations(path, ignore=[key])] == [WANTED] * 2


FORMS = ["alpaca", "messages", "sharegpt", "deux textes"]


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_two_formats_at_once_are_refused_by_name(tmp_path, first, second):
    if first == second:
        return
    path = written(tmp_path / "a.jsonl", [SAME[first] | SAME[second]])
    with pytest.raises(UserError, match="deux formats") as seen:
        list(read_conversations(path))
    for name in (next(iter(SAME[first])), next(iter(SAME[second]))):
        assert name in str(seen.value)
    ignored = re.search(r"data.ignore=\[(.*?)\]", str(seen.value))[1].split(",")
    assert [one.messages for one in read_conversations(path, ignore=ignored)] == [WANTED]  # la voie donnée


BAD_HISTORY = ["A", ["A"], [["A"]], [["A", "B", "C"]], [["A", ""]], [["A", 3]], [{"A": "B"}], {"A": "B"}]


@pytest.mark.parametrize("history", BAD_HISTORY, ids=str)
def test_a_history_that_is_not_one_is_refused(tmp_path, history):
    path = written(tmp_path / "a.jsonl", [PAIR | {"history": history}])
    with pytest.raises(UserError, match="history"):
        list(read_conversations(path))


@pytest.mark.parametrize("mask_prompt", [True, False])
@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"weight": 0.0}])
def test_a_marked_answer_is_never_learned(tmp_path, mark, mask_prompt):
    talk = [TALK[0], TALK[1] | mark, TALK[0], TALK[1] | {"weight": 1, "train": True}]
    path = written(tmp_path / "a.jsonl", [{"messages": talk}])
    options = {"tokenizer": ByteTokenizer(), "path": str(path), "val_path": str(path), "max_length": 256}
    data = ConversationDataModule(**options, mask_prompt=mask_prompt)
    data.prepare()
    (row,) = data.store["train"].rows
    learned = ByteTokenizer().decode(row.ids[row.learned].tolist())
    assert learned.count(ANSWERED) == 1 and learned.count(ASKED) == (0 if mask_prompt else 2)
    ignoring = ConversationDataModule(**options, ignore=["weight", "train"], mask_prompt=mask_prompt)
    ignoring.prepare()
    assert ignoring.identity != data.identity  # ce n'est plus ce que l'on apprend
    read = ByteTokenizer().decode(
        ignoring.store["train"].rows[0].ids[ignoring.store["train"].rows[0].learned]
    )
    assert read.count(ANSWERED) == 2
    assert data.answer_bytes("train") == len((ANSWERED + (ASKED * 2) * (not mask_prompt)).encode())


def test_a_marked_question_is_not_learned_with_mask_prompt_false(tmp_path):
    talk = [TALK[0] | {"weight": 0}, TALK[1]]
    path = written(tmp_path / "a.jsonl", [{"messages": talk}])
    options = {"tokenizer": ByteTokenizer(), "path": str(path), "val_path": str(path), "max_length": 256}
    data = ConversationDataModule(**options, mask_prompt=False)
    data.prepare()
    (row,) = data.store["train"].rows
    learned = ByteTokenizer().decode(row.ids[row.learned].tolist())
    assert ANSWERED in learned and ASKED not in learned


def test_a_conversation_without_an_answer_to_learn_is_refused(tmp_path):
    path = written(tmp_path / "a.jsonl", [{"messages": [TALK[0], TALK[1] | {"weight": 0}]}])
    with pytest.raises(UserError, match="aucune réponse"):
        list(read_conversations(path))


def test_what_is_cut_still_ends_with_an_answer_to_learn(tmp_path):
    talk = [TALK[0], TALK[1], TALK[0], TALK[1] | {"weight": 0}]
    path = written(tmp_path / "a.jsonl", [{"messages": talk}])
    options = {"tokenizer": ByteTokenizer(), "path": str(path), "val_path": str(path), "max_length": 256}
    data = ConversationDataModule(**options)
    data.prepare()
    row = data.store["train"].rows[0]
    assert row.learned[-1] and ByteTokenizer().decode(row.ids.tolist()).count(ANSWERED) == 1
    long = [TALK[0], TALK[1] | {"weight": 0, "content": "x" * 300}, *TALK]
    options["path"] = str(written(tmp_path / "b.jsonl", [{"messages": long}]))
    with pytest.raises(UserError, match="première réponse à apprendre font .*dépassent data.max_length=256"):
        ConversationDataModule(**options).prepare()


def test_the_digest_of_a_corpus_that_was_read_before_is_the_same(tmp_path):
    """Une exécution commencée par une version d'avant se reprend : un corpus qui se lit pareil a son empreinte."""
    rows = [SAME["alpaca"], SAME["sharegpt"] | {"system": " Sois bref.\n"}, *[SAME["messages"]] * 3]
    path = str(written(tmp_path / "a.jsonl", rows))
    data = ConversationDataModule(tokenizer=ByteTokenizer(), path=path, val_path=path)
    data.prepare()
    assert data.identity == "29cf80a14961f74d"


@pytest.mark.parametrize(
    "ignore, words",
    [
        (3, "liste de clés"),
        ([3], "liste de clés"),
        ([None], "liste de clés"),
        (["content"], "data.ignore=content"),
    ],
)
def test_an_ignore_that_makes_no_sense_is_refused(ignore, words):
    with pytest.raises(UserError, match=words):
        ConversationDataModule(tokenizer=ByteTokenizer(), ignore=ignore)


@pytest.mark.parametrize("key", ["contexte", "thème", "une clé"])
def test_the_command_names_the_key_and_obeys_data_ignore(tmp_path, command, key):
    rows = [PAIR | {"instruction": f"Q{i} ?", key: "quelque chose"} for i in range(20)]
    written(tmp_path / "a.jsonl", rows)
    typed = ["data=instruct", "data.path=a.jsonl", "tokenizer=bytes", "data.train_split=0.5"]
    done = command("gpt_lightning", "prepare", *typed, cwd=tmp_path)
    assert done.returncode == 1 and f"data.ignore=[{key}]" in done.stderr and "Traceback" not in done.stderr
    done = command("gpt_lightning", "prepare", *typed, f"data.ignore=[{key}]", cwd=tmp_path)
    assert done.returncode == 0 and "20 conversations" in done.stdout, done.stderr


@pytest.mark.parametrize("where", ["ligne", "message", "morceau", "nulle part"])
def test_a_key_to_ignore_that_nothing_has_is_refused(tmp_path, where):
    part = {"type": "text", "text": "R", **({"vu": 1} if where == "morceau" else {})}
    answer = {"role": "assistant", "content": [part], **({"vu": 1} if where == "message" else {})}
    rows = [{"messages": [{"role": "user", "content": f"Q{n}"}, answer]} for n in range(20)]
    if where == "ligne":
        rows[-1]["vu"] = 1
    path = written(tmp_path / "a.jsonl", rows)
    data = ConversationDataModule(tokenizer=ByteTokenizer(), path=str(path), ignore=["vu"], train_split=0.5)
    if where != "nulle part":
        assert data.prepare().documents == 20
        return
    with pytest.raises(UserError, match="aucune conversation n'a la clé vu"):
        data.prepare()


# --- TRL : deux listes de messages


@pytest.mark.parametrize("prompt", ["texte", "liste"])
@pytest.mark.parametrize("completion", ["texte", "liste"])
def test_prompt_and_completion_may_be_lists_of_messages(tmp_path, prompt, completion):
    row = {
        "prompt": [{"role": "user", "content": ASKED}] if prompt == "liste" else ASKED,
        "completion": [{"role": "assistant", "content": ANSWERED}] if completion == "liste" else ANSWERED,
    }
    (read,) = read_conversations(written(tmp_path / "a.jsonl", [row]))
    assert read.messages == WANTED


def test_the_answers_of_a_prompt_are_read_and_not_learned(tmp_path):
    said = [("system", "S"), ("user", "un"), ("assistant", "deux"), ("user", "trois")]
    row = {
        "prompt": [{"role": role, "content": text} for role, text in said],
        "completion": [{"role": "assistant", "content": "quatre"}],
    }
    (read,) = read_conversations(written(tmp_path / "a.jsonl", [row]))
    assert [message[:2] for message in read.messages] == [*said, ("assistant", "quatre")]
    assert [message.learned for message in read.messages if message.role == "assistant"] == [False, True]


# --- ce qui est coupé, et ce qui ne tient pas


def test_what_is_cut_or_unanswered_is_said(tmp_path):
    open_ended = turns(1)
    open_ended["messages"] = [*open_ended["messages"], {"role": "user", "content": "et puis ?"}]
    path = written(tmp_path / "a.jsonl", [turns(1), turns(5), open_ended])
    data = ConversationDataModule(
        tokenizer=ByteTokenizer(),
        path=str(path),
        val_path=str(written(tmp_path / "v.jsonl", [turns(1)])),
        max_length=160,
    )
    data.prepare()
    whole = ConversationDataModule(
        tokenizer=ByteTokenizer(), path=str(path), val_path=str(path), max_length=2000
    )
    whole.prepare()
    longest = max(len(row.ids) - 1 for row in whole.store["train"].rows)
    assert "1 coupée après une réponse, à data.max_length=160" in data.summary
    assert f"la plus longue en a {longest})" in data.summary
    assert "1 finit par une question sans réponse, qui n'est pas apprise" in data.summary
    assert "coupée" not in whole.summary and "2 finissent par une question sans réponse" in whole.summary


@pytest.mark.parametrize("length, context, rc", [(400, 1024, 0), (400, 256, 1)])
def test_the_default_length_follows_the_conversations(tmp_path, command, length, context, rc):
    """Une réponse plus longue que le défaut de data.max_length n'est pas une faute, si le modèle peut la lire."""
    rows = [PAIR | {"instruction": f"Q{n} ?"} for n in range(20)] + [PAIR | {"output": "x" * length}]
    written(tmp_path / "a.jsonl", rows)
    typed = ["experiment=instruct", "data.path=a.jsonl", "tokenizer=bytes", "model=tiny", "init_from=null"]
    typed += [
        f"model.context_length={context}",
        "trainer.max_steps=1",
        "data.train_split=0.5",
        "output_dir=x",
    ]
    done = command("train.py", *typed, cwd=tmp_path)
    assert done.returncode == rc and "Traceback" not in done.stderr, done.stderr
    if rc:
        assert "ligne 21" in done.stderr and "data.errors=skip" in done.stderr
    else:
        assert "data.max_length=" in done.stdout and "au lieu de 256" in done.stdout


def test_data_ignore_without_a_file_is_refused(tmp_path, command):
    done = command("gpt_lightning", "prepare", "data=instruct", "data.ignore=[id]", cwd=tmp_path)
    assert done.returncode == 1 and "data.path=" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", [CharacterTokenizer, SimpleTokenizerV1])
def test_a_vocabulary_of_the_whole_corpus_has_what_only_validation_says(tmp_path, kind):
    train = written(tmp_path / "a.jsonl", [PAIR])
    val = written(tmp_path / "b.jsonl", [PAIR | {"output": "Le ß."}])
    data = ConversationDataModule(
        tokenizer=kind(), path=str(train), val_path=str(val), template="chatml", max_length=128
    )
    data.prepare()
    assert "ß" in data.tokenizer.decode(data.tokenizer.encode("Le ß."))


def test_a_vocabulary_of_the_training_half_has_not(tmp_path):
    train = written(tmp_path / "a.jsonl", [PAIR])
    val = written(tmp_path / "b.jsonl", [PAIR | {"output": "Le ß."}])
    data = ConversationDataModule(
        tokenizer=SimpleTokenizerV2(), path=str(train), val_path=str(val), template="chatml", max_length=128
    )
    data.prepare()
    assert "ß" not in data.tokenizer.decode(data.tokenizer.encode("Le ß."))


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
    with pytest.raises(
        UserError, match="ligne 2 : .*dépassent data.max_length=160 : essayez data.max_length="
    ):
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
