import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from gpt_lightning.cli.arguments import quote, take_free_text, value_of
from gpt_lightning.errors import UserError


@pytest.mark.parametrize(
    "text", ["Il était, l'eau = 1984", "1984", "1e3", "null", "true", "${x}", "a=b", "[1, 2]", "", "-m"]
)
def test_a_prompt_is_taken_as_it_is(text):
    assert take_free_text([f"prompt={text}", "seed=1"]) == (["seed=1"], {"prompt": text})


@pytest.mark.parametrize(
    "typed, meant",
    [('"Il était"', "Il était"), ("'a=b'", "a=b"), ('"a", dit-il, "b"', '"a", dit-il, "b"'), ('"', '"')],
)
def test_a_value_already_quoted_for_hydra_loses_its_quotes(typed, meant):
    assert take_free_text([f"prompt={typed}"])[1] == {"prompt": meant}


def test_several_stop_texts_and_the_standard_input():
    assert take_free_text(["stop=1984", "stop=\n", "-"]) == (
        ["prompt_file='-'"],
        {"stop": ["1984", "\n"]},
    )


def parsed(override: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize(
    "path", ["à lire/mon texte.txt", "l'eau.txt", "a=b,c.txt", "${x}.txt", "C:\\x\\y.txt", "1984"]
)
def test_a_path_is_quoted_for_hydra(path):
    from omegaconf import OmegaConf

    (override,), texts = take_free_text([f"data.path={path}"])
    assert texts == {} and OmegaConf.create({"v": parsed(override)}).v == path


@given(st.text(st.sampled_from("a\\'\"${}x, :=[]~é\n#"), min_size=1))
def test_any_text_comes_back_from_hydra_and_omegaconf(text):
    override = f"data.path={quote(text)}"
    assert OmegaConf.to_container(OmegaConf.create({"v": parsed(override)}), resolve=True)["v"] == text
    assert value_of("data.path", [override]) == text


@pytest.mark.parametrize(
    "argument", ["data.path=\udce9t\udce9.txt", "output_dir=\udce9", "--\udce9", "\udce9=1"]
)
def test_what_is_not_utf8_is_refused(argument):
    with pytest.raises(UserError, match="UTF-8"):
        take_free_text([argument])


def test_quoted_and_null_paths_are_left_to_hydra():
    for argument in ("data.path='a b'", "ckpt_path=null", "ckpt_path="):
        assert take_free_text([argument]) == ([argument], {})


def test_each_path_of_a_list_is_one(monkeypatch):
    monkeypatch.setenv("HOME", "/chez/moi")
    argument = "data.path=[un texte.txt, l'autre.txt, ~/c.txt]"
    [override] = take_free_text([argument])[0]
    [parsed] = OverridesParser.create().parse_overrides([override])
    assert parsed.value() == ["un texte.txt", "l'autre.txt", "/chez/moi/c.txt"]


@pytest.mark.parametrize(
    "name", ["d'été", "a,b", "a=b", "${x}", "100 %", "é à", "#1", "{a}", "[a", "a:b", "null "], ids=repr
)
def test_a_name_is_one_text_whatever_it_holds(name):
    [override] = take_free_text([f"run_name={name}"])[0]
    [parsed] = OverridesParser.create().parse_overrides([override])
    assert OmegaConf.create({"name": parsed.value()}).name == name


def test_a_prompt_that_is_not_utf8_is_refused():
    with pytest.raises(ValueError, match="prompt=.*UTF-8"):
        take_free_text(["prompt=\udce9t\udce9"])


def test_several_paths_in_a_sweep():
    assert take_free_text(["-m", "data.path=a b.txt,c.txt"])[0] == ["-m", "data.path='a b.txt','c.txt'"]


def test_an_option_may_stand_between_two_overrides():
    overrides, _ = take_free_text(["model=tiny", "-m", "seed=1,2", "--cfg", "job", "~logger", "+a=1"])
    assert overrides == ["-m", "--cfg", "job", "model=tiny", "seed=1,2", "~logger", "+a=1"]


def test_a_sweep_has_one_folder():
    with pytest.raises(UserError, match="tout le balayage"):
        take_free_text(["-m", "output_dir=a,b"])


@pytest.mark.parametrize(
    "given, value",
    [([], None), (["ckpt_path=null"], None), (["ckpt_path="], None), (["ckpt_path='a b'"], "a b")],
)
def test_the_value_of_a_key(given, value):
    assert value_of("ckpt_path", ["seed=1", *given]) == value


@pytest.mark.parametrize(
    "path", ["à lire/mon texte.txt", "l'eau, déjà", "a=b", "${x}.txt", "C:\\x\\y", "1984"]
)
def test_a_path_taken_from_the_command_is_read_back(path):
    overrides, _ = take_free_text([f"ckpt_path={path}"])
    assert value_of("ckpt_path", overrides) == path
