"""chat : une conversation tenue dans la fenêtre, ses commandes, et ce qu'il dit d'un modèle qui n'a rien appris."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

from gpt_lightning.commands.dialogue import chat
from gpt_lightning.decoding import Strategy
from gpt_lightning.decoding.prefixes import BLOCK
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import ByteTokenizer
from gpt_lightning.tokenizers.messages import Message
from gpt_lightning.weights.inference import Inference
from tests.conftest import ROOT


def speaker(template: str = "texte", context: int = 200) -> chat.Speaker:
    config = GPTConfig(vocab_size=257, context_length=context, emb_dim=16, n_heads=2, n_layers=1)
    return chat.Speaker(Inference("un modèle", GPTModel(config).eval(), ByteTokenizer(), "", template))


def session(**options) -> chat.ChatSession:
    return chat.ChatSession(Strategy(temperature=0), **{"max_new_tokens": 10, **options})


def talk(turns: int, size: int = 20) -> list[Message]:
    return [Message(("user", "assistant")[i % 2], f"{i} " + "x" * size) for i in range(2 * turns + 1)]


def test_the_oldest_turns_leave_when_the_window_is_full(capsys):
    one, history = speaker(), talk(6)
    last = history[-1]
    "".join(one.reply(history, session(system="Sois bref.")))
    assert history[-1] == last and history[0].role == "user" and len(history) < 13
    ids = one.template.opening([Message("system", "Sois bref."), *history])
    assert len(ids) + 10 <= 200
    longer = one.template.opening([Message("system", "Sois bref."), *talk(6)[-len(history) - 2 :]])
    assert len(longer) + 10 > 200  # pas un tour de plus que nécessaire
    assert "plus vieux tour" in capsys.readouterr().err


def test_a_conversation_that_fits_loses_nothing(capsys):
    one, history = speaker(), talk(1, 5)
    "".join(one.reply(history, session()))
    assert history == talk(1, 5) and not capsys.readouterr().err


def test_a_turn_does_not_read_the_turns_before_it(monkeypatch):
    """Ce que le cache a gardé du tour d'avant n'est pas relu, et la réponse est la même sans cache."""
    plain, read = speaker(context=400), []
    next_logits = plain.model.next_logits
    monkeypatch.setattr(
        plain.model, "next_logits", lambda ids, *more: read.append(ids.shape[1]) or next_logits(ids, *more)
    )
    cached = chat.Speaker(Inference("un modèle", plain.model, plain.tokenizer, "", "texte"), 1_000_000)
    history = [Message("user", "Bonjour, que fais-tu ce matin ?")]
    before = 0
    for _ in range(3):
        length = len(cached.template.opening(history))
        answers, first = [], []
        for each in (plain, cached):
            read.clear()
            answers.append("".join(each.reply(list(history), session())))
            first.append(read[0])
        assert first[0] == length and answers[0] == answers[1]
        assert first[1] <= length - before // BLOCK * BLOCK and (before == 0 or first[1] < length)
        before = length
        history += [Message("assistant", answers[0]), Message("user", "Et ensuite ?")]


def test_a_question_that_cannot_fit_is_refused():
    with pytest.raises(UserError, match="raccourcissez"):
        "".join(speaker().reply([Message("user", "x" * 300)], session()))


def test_a_question_that_cannot_fit_forgets_nothing(capsys):
    one, history = speaker(), [*talk(2), Message("user", "x" * 300)]
    with pytest.raises(UserError, match="raccourcissez"):
        "".join(one.reply(history, session()))
    assert history == [*talk(2), Message("user", "x" * 300)] and not capsys.readouterr().err


@pytest.mark.parametrize("system", [None, "", "  ", "Sois bref.\r\n"])
@pytest.mark.parametrize("begun", [[], [Message("assistant", "Le chat ")]], ids=["question", "début"])
def test_it_reads_what_training_wrote(system, begun, monkeypatch):
    """Les jetons que le modèle reçoit sont ceux du même fichier de messages, à l'entraînement."""
    from gpt_lightning.data.instruct.formats import to_messages

    given = []
    monkeypatch.setattr(chat, "AnswerStream", lambda model, tokenizer, ids, *_, **__: given.append(ids) or [])
    one, question = speaker(), Message("user", " Qui\r\nmiaule ?\n")
    "".join(one.reply([question, *begun], session(system=system)))
    rows = [{"role": "system", "content": system or ""}, *(m._asdict() for m in (question, *begun))]
    rows = [{key: row[key] for key in ("role", "content")} for row in rows]
    rows += [] if begun else [{"role": "assistant", "content": "Le chat"}]
    learned = one.template.render(to_messages({"messages": rows}))[0]
    assert given == [learned[: len(given[0])]] and len(learned) - len(given[0]) == (1 if begun else 8)


def test_an_answer_is_continued(monkeypatch, capsys):
    history = [Message("user", "A"), Message("assistant", "Il était ")]
    monkeypatch.setattr(chat.Speaker, "reply", lambda *_: iter([" une", " fois"]))
    chat._continue(speaker(), history, session())
    assert history[1:] == [Message("assistant", "Il était une fois")]
    assert capsys.readouterr().out == " une fois\n"


def test_there_is_no_answer_to_continue_yet(capsys):
    chat._continue(speaker(), [], session())
    assert "pas encore de réponse" in capsys.readouterr().err


def test_a_base_model_continues_the_text():
    from gpt_lightning.decoding import TextStream

    one = speaker("")
    wanted = TextStream(one.model, one.tokenizer, ["Il"], strategy=Strategy(temperature=0), max_new_tokens=10)
    assert "".join(one.reply([Message("user", "Il")], session())) == "".join(text for _, text in wanted)


@pytest.mark.parametrize(
    "line, key, value",
    [
        ("/regler temperature 0.7", "temperature", 0.7),
        ("/régler top_k=20", "top_k", 20),
        ("/régler top_k=0", "top_k", None),
        ("/regler no_repeat_ngram -1", "no_repeat_ngram", None),
        ("/regler temperature 1e-8", "temperature", 0),
        ("/set seed 3", "seed", 3),
        ("/regler longueur 80", "max_new_tokens", 80),
        ("/systeme Réponds en vers.", "system", "Réponds en vers."),
        ("/system", "system", None),
    ],
)
def test_a_command_changes_a_setting(line, key, value):
    found = chat.apply_command(session(system="S"), line, session(), lambda name: Strategy())
    assert {**vars(found), **vars(found.strategy)}[key] == value


@pytest.mark.parametrize("line", ["/rien", "/regler", "/regler rien 3", "/regler top_k -2", "/temperature 3"])
def test_a_command_that_does_not_exist_says_what_does(line):
    with pytest.raises(UserError):
        chat.apply_command(session(), line, session(), lambda name: Strategy())


@pytest.fixture(scope="module")
def instructed(command, tmp_path_factory):
    """Une exécution de texte, puis une autre qui apprend par cœur à répondre."""
    cwd = tmp_path_factory.mktemp("chat")
    rows = [
        {"instruction": question, "output": answer}
        for question, answer in [("Quel animal miaule ?", "Le chat, l'été."), ("Qui aboie ?", "Le chien.")]
        * 40
    ]
    (cwd / "d.json").write_text(json.dumps(rows), encoding="utf-8")
    common = [
        "model=tiny",
        "data.path=d.json",
        "data.val_path=d.json",
        "tokenizer=characters",
        "data.max_length=96",
    ]
    typed = [
        "experiment=instruct",
        "init_from=auto",
        "trainer.max_steps=60",
        "eval_every=60",
        "optim.lr=1e-2",
    ]
    done = command("train.py", *typed, *common, "data.batch_size=8", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd


CHAT = ("gpt_lightning", "chat", "decoding=greedy")


def test_it_answers_once(instructed, command):
    done = command(*CHAT, "prompt=Quel animal miaule ?", cwd=instructed)
    assert (done.returncode, done.stdout) == (0, "Le chat, l'été.\n"), done.stderr


def test_a_piped_conversation_answers_each_line(instructed, command):
    lines = "Quel animal miaule ?\n/nouveau\n/regler longueur 30\nQui aboie ?\n/oups\n/quit\nQui aboie ?\n"
    done = command(*CHAT, cwd=instructed, stdin=lines)
    assert (done.returncode, done.stdout) == (0, "Le chat, l'été.\nLe chien.\n"), done.stderr
    assert "« /oups » n'existe pas" in done.stderr and "max_new_tokens" not in done.stdout


def test_an_answer_that_was_cut_is_continued_by_a_command(instructed, command):
    lines = "/continuer\n/regler longueur 6\nQuel animal miaule ?\n/regler longueur 40\n/continuer\n/quit\n"
    done = command(*CHAT, cwd=instructed, stdin=lines)
    assert (done.returncode, done.stdout.replace("\n", "")) == (0, "Le chat, l'été."), done.stderr
    assert "pas encore de réponse" in done.stderr and done.stdout.count("\n") == 2


@pytest.mark.parametrize(
    "typed, what",
    [
        (["prompt=' '"], "prompt= est vide"),
        (["max_new_tokens=0"], "max_new_tokens=0"),
        (["ckpt_path=absent"], "ckpt_path=absent"),
        (["compile=oui"], "compile=oui"),
        (["temperature=0.7"], "decoding.temperature"),
    ],
)
def test_a_mistake_gets_one_sentence(typed, what, instructed, command):
    done = command(*CHAT, *typed, cwd=instructed, stdin="")
    assert done.returncode == 1 and what in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_base_model_says_that_it_was_never_instructed(finished_run, command):
    cwd, _, _ = finished_run
    done = command(*CHAT, "prompt=Le chat", "max_new_tokens=5", cwd=cwd)
    assert done.returncode == 0 and "n'a jamais appris à répondre" in done.stderr and done.stdout.strip()


def test_each_command_takes_the_newest_of_its_task(instructed, finished_run, tmp_path, monkeypatch):
    """Le texte le plus récent reste le point de départ, et la réponse le modèle qui répond."""
    (tmp_path / "outputs").mkdir()
    shutil.copytree(finished_run[1], tmp_path / "outputs" / "a")
    (older,) = instructed.glob("outputs/*/*")
    shutil.copytree(older, tmp_path / "outputs" / "b")
    for path in (tmp_path / "outputs" / "b").rglob("*.ckpt"):
        os.utime(path)
    from gpt_lightning.layout import newest_run
    from gpt_lightning.weights.format import newest_of, task_of

    monkeypatch.chdir(tmp_path)
    assert {task_of(tmp_path / "outputs" / name) for name in "ab"} == {"text", "instruct"}
    assert newest_of("text").name == "a" and newest_of("instruct").name == "b"
    assert newest_run().name == "b"
    from gpt_lightning.weights import starting_point

    architecture = {"drop_rate": 0.0, "kernels": "fused"}
    assert starting_point("auto", architecture).source.startswith("outputs/a/")
    assert starting_point("best", architecture).source.startswith("outputs/b/")


@pytest.mark.slow
def test_the_answers_loss_is_evaluated(instructed, command):
    for dtype in ("fp32", "int8"):
        done = command("gpt_lightning", "evaluate", f"dtype={dtype}", cwd=instructed)
        assert done.returncode == 0, done.stderr
        loss = float(re.search(r"(\d+,\d+) nats", done.stdout)[1].replace(",", "."))
        assert loss < 0.5


def test_prepare_says_what_conversations_hold(instructed, command):
    done = command(
        "gpt_lightning",
        "prepare",
        "data=instruct",
        "data.path=d.json",
        "data.val_path=d.json",
        cwd=instructed,
    )
    assert done.returncode == 0 and "160 conversations" in done.stdout, done.stderr


HELD = """
import threading

from gpt_lightning.commands import chat
from gpt_lightning.commands.dialogue import chat as dialogue


def reply(speaker, history, session):
    yield "une réponse qui"
    threading.Event().wait()  # ne finit jamais d'elle-même


dialogue.Speaker.reply = reply
chat.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="demande un pseudo-terminal")
def test_in_a_terminal_ctrl_c_stops_the_answer_and_not_the_program(instructed, cache, tmp_path):
    leader, follower = pty.openpty()
    program = tmp_path / "chat_held.py"
    program.write_text(HELD, encoding="utf-8")
    typed = [sys.executable, str(program), "max_new_tokens=100"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen(
        typed,
        cwd=instructed,
        env=env,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(follower)
    seen = b""

    def until(words: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 90
        while words not in seen.decode("utf-8", "replace"):
            ready, _, _ = select.select([leader], [], [], 1)
            assert time.monotonic() < deadline, seen
            seen += os.read(leader, 4096) if ready else b""

    try:
        until("/aide, /quitter")
        until("» ")
        seen = b""
        os.write(leader, b"Quel animal miaule ?\n")
        until("une réponse qui")
        os.write(leader, b"\x03")
        until("[réponse arrêtée]")
        until("» ")
        os.write(leader, b"/quitter\n")
        until("/quitter")
        assert process.wait(timeout=90) == 0
    finally:
        process.kill()
        os.close(leader)
