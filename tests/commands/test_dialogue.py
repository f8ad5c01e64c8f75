"""Les commandes du dialogue, et ce qu'il répond."""

import builtins

import pytest

from gpt_lightning.cli.composition import group
from gpt_lightning.cli.targets import build
from gpt_lightning.commands.dialogue import generate
from gpt_lightning.commands.dialogue.generate import Session, apply_command
from gpt_lightning.decoding import Strategy

START = Session(Strategy(temperature=0.8, top_p=0.9), 50, None)


def named(name: str) -> Strategy:
    return build("decoding", group("decoding", name))


def after(*lines: str) -> Session:
    session = START
    for line in lines:
        session = apply_command(session, line, START, named)
    return session


def test_commands_change_the_session():
    assert after("/temperature 0.7").strategy == Strategy(temperature=0.7, top_p=0.9)
    assert after("/decoding beam").strategy.num_beams == 4
    assert after("/decoding nucleus", "/top_k 50").strategy == Strategy(temperature=0.8, top_k=50, top_p=0.9)
    assert after("/top_p null").strategy.top_p is None
    assert after("/seed 3").seed == 3 and after("/seed 3", "/seed null").seed is None
    assert after("/longueur 7").max_new_tokens == 7
    assert after("/seed 3", "/decoding greedy", "/longueur 7", "/reset") == START


@pytest.mark.parametrize(
    "line, words",
    [
        ("/temperature", "/aide"),
        ("/temperature chaud", "decoding.temperature"),
        ("/temperature [", "decoding.temperature"),
        ("/decoding nuclus", "nucleus"),
        ("/seed -1", "/seed"),
        ("/chaud 3", "/aide"),
        ("/", "/aide"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(line, words):
    with pytest.raises(ValueError, match=words):
        apply_command(START, line, START, named)


def test_a_session(monkeypatch, capsys):
    lines = iter(["/aide", "Un", KeyboardInterrupt, "/seed 2", "/zut", "Deux", "/quitter", "jamais"])
    asked = []

    def read(invite):
        line = next(lines)
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return line

    def continued(texts, seed, **session):
        (line,) = texts
        asked.append((line, seed))
        yield 0, " mot"
        if line == "Un":
            raise KeyboardInterrupt  # Ctrl-C pendant le texte
        yield 0, " fin"

    monkeypatch.setattr(builtins, "input", read)
    generate.talk(START, continued, named)
    seen = capsys.readouterr()
    assert seen.out == "Un mot\nDeux mot fin\n" and asked == [("Un", None), ("Deux", 2)]
    assert seen.err.count("/quitter") == 4 and "/zut" in seen.err and "seed=2" in seen.err
