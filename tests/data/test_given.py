"""Ce qu'un fichier donne est lu, dit ou refusé ; et ce qu'un refus conseille de taper marche."""

import json
import logging
import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from gpt_lightning.cli import defaults
from gpt_lightning.cli.arguments import take_free_text
from gpt_lightning.data.classify.formats import read_labelled
from gpt_lightning.data.instruct.formats import rows_of, to_messages
from gpt_lightning.data.reading import two_halves
from gpt_lightning.data.records import BadRow
from gpt_lightning.errors import Unfit, UserError

ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
KEYS = [
    "tags",
    "",
    "a,b",
    " x",
    "it's",
    'a"b',
    "${y}",
    "`d`",
    "!x",
    "{x}",
    "a[0]",
    "null",
    "1",
    "Unnamed: 0",
    "été",
]


@pytest.mark.parametrize("key", KEYS)
def test_the_ignore_that_a_refusal_proposes_works_as_typed(key):
    row = {"messages": [ASK, SAY], "seen": 1, key: "v"}
    with pytest.raises(BadRow) as refusal:
        to_messages(row, ["seen"])
    typed = re.search(r" ; (.*) s'en passe", str(refusal.value))[1]
    override = take_free_text(shlex.split(typed))[0][0]
    ignore = OverridesParser.create().parse_override(override).value()
    to_messages(row, [getattr(text, "text", text).replace("\\${", "${") for text in ignore])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "q", "from": "human", "value": "z"}, SAY],
        [ASK, {"role": "assistant", "content": None, "tool_calls": [1]}],
        [ASK, {"role": "tool", "content": "x", "tool_call_id": "1"}, SAY],
    ],
)
def test_no_ignore_is_proposed_that_would_not_help(messages):
    with pytest.raises(BadRow) as refusal:
        to_messages({"messages": messages})
    assert "data.ignore" not in str(refusal.value)


def test_the_marks_of_a_prompt_are_obeyed():
    row = {"prompt": [{**ASK, "weight": 0}, {**SAY, "weight": 1}, ASK], "completion": [SAY]}
    assert [message.learned for message in to_messages(row)] == [False, True, True, True]
    with pytest.raises(BadRow, match="prompt finit par une réponse"):
        to_messages({"prompt": [ASK, SAY], "completion": "b"})


def test_what_surrounds_the_list_of_a_file_is_said(tmp_path, caplog):
    (tmp_path / "a.json").write_text(json.dumps({"system": "S", "data": [{"messages": [ASK, SAY]}]}))
    with caplog.at_level(logging.WARNING, "gpt_lightning"):
        assert len(list(rows_of(tmp_path / "a.json"))) == 1
    assert "« data » est lue, sans system" in caplog.text


@pytest.mark.parametrize("start, first", [("sep=;\n", 3), ("\n\n", 4), ("\nsep=;\n\n", 5), ("", 2)])
def test_what_a_spreadsheet_writes_before_the_titles(tmp_path, start, first):
    (tmp_path / "a.csv").write_text(f"{start}text;label;page\nx, y;bon;3\n")
    (row,) = read_labelled(tmp_path / "a.csv", "text", "label")
    assert row[:2] == ("x, y", "bon")
    assert row.where.endswith(f"ligne {first}")
    assert row.unread == ("page",)


def test_a_table_of_one_column_is_refused_with_what_separates(tmp_path):
    (tmp_path / "a.csv").write_text("text|label\nx|bon\n")
    with pytest.raises(UserError, match="une colonne.*point-virgule"):
        list(read_labelled(tmp_path / "a.csv", "text", "label"))


@pytest.mark.parametrize("pattern", ["", "/*.jsonl", "/**/*.jsonl", "/t*"])
def test_a_pattern_has_its_two_halves_as_a_folder_does(tmp_path, pattern):
    files = [tmp_path / "train.jsonl", tmp_path / "test.jsonl"]
    halves = two_halves(f"{tmp_path}{pattern}", files, named=lambda file: True)
    assert halves == (str(files[0]), str(files[1]))


def test_two_pieces_at_odds_advise_neither_of_their_values():
    def attempt(settings):
        if settings["length"] < 9:
            raise Unfit("", "une réponse fait 9 jetons", {"length": 9}, otherwise="data.errors=skip")
        raise Unfit("", "le contexte est de 8 jetons", {"length": 8}, otherwise="model.context_length=9")

    with pytest.raises(UserError, match="essayez model.context_length=9 ou data.errors=skip") as refusal:
        defaults.follow({"length": 16}, attempt)
    assert "length=8" not in str(refusal.value)
