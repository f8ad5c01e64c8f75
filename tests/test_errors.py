import pytest

from gpt_lightning.errors import UserError, choice, number, whole


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, -3])
def test_a_whole_number_is_an_int_in_its_limits(value):
    with pytest.raises(UserError, match=r"^k=.* : il faut un entier d'au moins 1\.$"):
        whole("k", value)
    assert whole("k", 1) == 1 and whole("k", 0, 0) == 0 and whole("k", -5, None) == -5


@pytest.mark.parametrize("value", [True, "0.5", None, float("nan"), float("inf"), -0.1, 1.1])
def test_a_number_is_finite_and_in_its_limits(value):
    with pytest.raises(UserError, match=r"^p=.* : il faut un nombre entre 0 et 1\.$"):
        number("p", value, 0, 1)
    assert number("p", 1, 0, 1) == 1 and number("p", 0.0, 0, 1) == 0


def test_a_strict_limit():
    with pytest.raises(UserError, match="plus grand que 0"):
        number("lr", 0, above=0)
    assert number("lr", 1e-9, above=0) == 1e-9


@pytest.mark.parametrize("value", ["oui", 1, None, "true"])
def test_a_choice_is_listed_as_it_is_typed(value):
    with pytest.raises(UserError, match="les choix sont auto, true, false"):
        choice("compile", value, ("auto", True, False))
    assert choice("compile", True, ("auto", True, False)) is True
