from concurrent.futures import ProcessPoolExecutor

import pytest

from gpt_lightning import errors
from gpt_lightning.cli.composition import known_keys
from gpt_lightning.cli.explain import explain


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ValueError("x"), TypeError("x"), KeyError("x")])
def test_an_error_of_the_program_is_not_explained_away(error):
    assert explain(error, "train") is None


def test_a_fault_of_the_person_is_its_sentence():
    assert explain(errors.UserError("Tapez autre chose."), "train") == "Tapez autre chose."


def test_a_sentence_crosses_processes():
    """Une phrase levée dans un processus d'encodage arrive entière au premier."""
    with ProcessPoolExecutor(1) as pool, pytest.raises(errors.UserError) as error:
        pool.submit(errors.whole, "max_tokens", "beaucoup").result()
    assert explain(error.value, "train") == "max_tokens=beaucoup : il faut un entier d'au moins 1."


def test_known_keys_are_those_of_the_composed_configuration():
    keys = known_keys("train")
    assert {"model.n_heads", "trainer.max_steps", "seed", "optim.lr", "data.path", "model"} <= set(keys)
    assert "prompt" in known_keys("generate") and "momentum" not in keys
