"""Ce que generate.py refuse avant de charger un modèle, et ce qu'il écrit."""

import io
import json

import pytest

from gpt_lightning.commands import prompts, results
from gpt_lightning.decoding import Continuation
from gpt_lightning.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()

SETTINGS = {
    "prompt": None,
    "prompt_file": None,
    "prompts_file": None,
    "output": None,
    "interactive": False,
    "stop": None,
    "batch_size": 8,
    "num_samples": 1,
}


class Stream:
    """Un TextStream qui récite."""

    def __init__(self, prompts, pieces, fails=False):
        self.rows, self.pieces, self.fails = [Continuation(prompt) for prompt in prompts], pieces, fails

    def __iter__(self):
        for row, text in self.pieces:
            self.rows[row].text += text
            self.rows[row].ids.append(1)
            yield row, text
        if self.fails:
            raise KeyboardInterrupt
        for row in self.rows:
            row.reason = "length"


@pytest.mark.parametrize(
    "values, words",
    [
        ({"prompt": "a", "prompt_file": "b"}, "prompt_file="),
        ({"prompt": "a", "prompts_file": "b"}, "prompts_file="),
        ({"prompt": "a", "interactive": True}, "interactive="),
        ({"output": "b.jsonl"}, "prompts_file="),
        ({"num_samples": 0}, "num_samples=0"),
        ({"num_samples": 2, "interactive": True}, "interactive=true"),
        ({"stop": ["fin", ""]}, "stop="),
        ({"batch_size": "huit"}, "batch_size=huit"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        prompts.check_prompts({**SETTINGS, **values})


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "a.jsonl").write_text("précieux")
    for output, words in (("a.jsonl", "existe déjà"), ("absent/a.jsonl", "n'existe pas")):
        with pytest.raises(ValueError, match=words):
            prompts.check_prompts({**SETTINGS, "prompts_file": "x", "output": str(tmp_path / output)})


def test_a_file_is_a_prompt_without_its_last_newline(tmp_path):
    path = tmp_path / "début.txt"
    path.write_bytes("Il était\r\nune fois\r\n".encode("utf-8-sig"))
    assert prompts.read_prompt({**SETTINGS, "prompt_file": str(path)}, "licorne :") == "Il était\nune fois"
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        prompts.read_prompt({**SETTINGS, "prompt_file": str(path)}, "licorne :")


def test_samples_are_separated_and_the_first_is_live(capsys):
    pieces = [(0, " b"), (1, " c"), (0, "b")]
    for live in (True, False):
        results.write_text(Stream(["a", "a"], pieces), source="x", context=9, live=live)
        seen = capsys.readouterr()
        assert seen.out == "a bb\n---\na c\n" and "longueur atteinte × 2" in seen.err


def test_an_interruption_keeps_the_text_and_says_so(capsys):
    with pytest.raises(KeyboardInterrupt):
        results.write_text(Stream(["a"], [(0, " b")], fails=True), source="x", context=9, live=True)
    seen = capsys.readouterr()
    assert seen.out == "a b\n" and "interrompu" in seen.err


def test_lines_are_written_batch_by_batch(tmp_path, capsys):
    path = tmp_path / "suites.jsonl"
    written = []

    def continued(batch, start):
        written.append((start, path.read_text(encoding="utf-8").count("\n")))
        return Stream(batch, [(row, f" {start + row}é") for row in range(len(batch))])

    results.write_lines(["a", "", "c"], continued, output=str(path), batch_size=2, source="x")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(r["prompt"], r["text"]) for r in records] == [("a", " 0é"), ("", " 1é"), ("c", " 2é")]
    assert written == [(0, 0), (2, 2)] and "é" in path.read_text(encoding="utf-8")
    assert "3 textes sur 3" in capsys.readouterr().err


def test_an_empty_standard_input_is_no_prompt(monkeypatch, tmp_path):
    empty = tmp_path / "vide"
    empty.touch()
    with open(empty) as file:
        monkeypatch.setattr("sys.stdin", file)
        assert prompts.read_prompt(SETTINGS, "licorne :") == "licorne :"
    monkeypatch.setattr("sys.stdin", io.StringIO("pas un fichier"))
    assert prompts.read_prompt(SETTINGS, "licorne :") == "licorne :"
    assert prompts.read_prompt({**SETTINGS, "prompt": ""}, "licorne :") == ""


def test_a_line_ends_at_a_newline_only(tmp_path):
    path = tmp_path / "débuts.txt"
    path.write_text("un\u2028deux\n\ntrois\n", encoding="utf-8")
    assert prompts.read_prompts(str(path)) == ["un\u2028deux", "", "trois"]
