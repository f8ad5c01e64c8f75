"""Un argument sans « = » : le prompt d'une commande qui en prend un, sinon une phrase qui se colle."""

import re
import shlex
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_lightning.cli import habits
from gpt_lightning.cli.arguments import take_free_text
from gpt_lightning.cli.composition import CONF, choices, known_keys
from gpt_lightning.cli.words import as_shell, takes_text
from gpt_lightning.commands import COMMANDS
from gpt_lightning.errors import UserError

TAKE_TEXT = ("generate", "chat", "classify", "play", "demos/attention")
NAMES = sorted(
    {path.stem for path in CONF.rglob("*.yaml")} | {path.name for path in CONF.iterdir() if path.is_dir()}
)


def read(command: str, *typed: str) -> str | None:
    """Le prompt que cette commande lit de sa ligne de commande."""
    text = take_free_text(habits.check_arguments(list(typed), command))[1].get("prompt")
    assert text is None or isinstance(text, str)
    return text


@pytest.mark.parametrize("command", TAKE_TEXT)
@pytest.mark.parametrize(
    "text",
    ["Bonjour", "Il était une fois", "un = deux", "l'été, dit-il : « ça » ${x}", "1984", "1e3", "true", "null",
     "a.b.c", "[x]", "www.exemple.fr", " espace", "", "deux\nlignes", "été"],
)  # fmt: skip
def test_the_one_word_is_the_prompt(command, text):
    assert read(command, text) == text == read(command, "seed=1", text) == read(command, text, "--cfg", "job")


@pytest.mark.parametrize("command", TAKE_TEXT)
def test_what_names_something_in_conf_is_not(command):
    for name in NAMES:
        with pytest.raises(UserError, match=f'prompt="{name}" si c\'est le texte'):
            habits.check_arguments([name], command)


@pytest.mark.parametrize("command", TAKE_TEXT)
def test_nor_is_a_key_of_the_command(command):
    for key in known_keys(command):
        with pytest.raises(UserError, match="prompt="):
            habits.check_arguments([key], command)


@given(st.lists(st.text("aé'\"$`\\! " + ascii_lowercase, min_size=1), min_size=2, max_size=4))
def test_two_words_are_refused_with_the_form_that_works(words):
    words = [f"m{word}" for word in words]
    with pytest.raises(UserError) as refused:
        habits.check_arguments(words, "generate")
    (typed,) = shlex.split(str(refused.value).partition(" : ")[2])
    assert typed == " ".join(words) == read("generate", typed)


@given(st.text())
def test_a_text_is_written_for_a_shell(text):
    text = text.replace("\0", "")
    (typed,) = shlex.split(f"prompt={as_shell(text)}")
    assert read("generate", typed) == text


def test_five_commands_take_a_text():
    assert {name for name in COMMANDS if takes_text(name)} == {*TAKE_TEXT[:4], "trace"}


def test_two_texts_are_refused():
    with pytest.raises(UserError, match="deux textes"):
        habits.check_arguments(["Bonjour", "prompt=Bonsoir"], "chat")


@pytest.mark.parametrize(
    "text",
    ["- un tiret", "+ un plus", "~ à peu près", "-1 degré", "-bonjour", "--", "-1", "+1", "~bonjour", "--x"],
)
def test_a_text_that_begins_with_a_sign_is_typed_with_its_key(text):
    with pytest.raises(UserError) as refused:
        habits.check_arguments([text], "generate")
    (typed,) = shlex.split(str(refused.value).partition(" se tape ")[2])
    assert read("generate", typed) == text


@pytest.mark.parametrize("word", ["--bonjour", "-bonjour", "--", "-1", "--x=3", "~bonjour", "--lr", "-n=3"])
@pytest.mark.parametrize("command", ["train", "generate", "cache"])
def test_a_key_that_is_advised_for_a_dash_exists(command, word):
    with pytest.raises(UserError) as refused:
        habits.check_arguments([word], command)
    for key in re.findall(r"([\w.]+)=", str(refused.value).replace(word, "")):
        assert key in known_keys(command), refused.value


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "prepare", "export", "serve", "cache", "demos/cache"]
)
def test_a_command_without_text_says_what_it_takes(command):
    """La clé, ou le groupe et son choix, que sa phrase donne existe dans cette commande."""
    for word in ("bonjour", "un deux", *NAMES, "seed", "model/tiny", "data.path"):
        with pytest.raises(UserError) as refused:
            habits.check_arguments([word], command)
        said = str(refused.value)
        key, value = re.findall(r"([\w.]+)=(\w*)", said)[-1]
        assert key in known_keys(command), said
        assert not choices(key) or value in choices(key), said


@pytest.mark.parametrize(
    "typed", ["~model", "~logger", "~callbacks.sample", "~seed", "~data.path", "~optim.lr"]
)
def test_what_stands_for_a_removal_composes(typed):
    from gpt_lightning.cli.composition import compose

    with pytest.raises(UserError) as refused:
        habits.check_arguments([typed], "train")
    for override in re.findall(r"[\w.]+=\w+", str(refused.value)):
        compose("train", override)
