import dataclasses

import pytest

from gpt_lightning.model import GPTConfig


def config(**values) -> GPTConfig:
    small = {"vocab_size": 101, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 3}
    return GPTConfig(**{**small, **values})


@pytest.mark.parametrize(
    "values, why",
    [
        ({"n_heads": 5}, "n_heads=5 ne divise pas model.emb_dim=24"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"emb_dim": -24}, "emb_dim=-24"),
        ({"emb_dim": "large"}, "entier"),
        ({"emb_dim": True}, "entier"),
        ({"drop_rate": 1.0}, "drop_rate=1.0"),
        ({"drop_rate": "peu"}, "nombre"),
        ({"tie_weights": "oui"}, "true, false"),
        ({"norm": "batchnorm"}, "layernorm, rmsnorm"),
        ({"activation": "relu"}, "gelu_tanh"),
        ({"positions": "rope", "n_heads": 8}, "paire"),
    ],
)
def test_impossible_values_are_refused_in_one_sentence(values, why):
    with pytest.raises(ValueError, match=why) as error:
        config(**values)
    assert "\n" not in str(error.value)


def test_unknown_and_missing_keys_are_refused():
    values = config().to_dict()
    assert GPTConfig.from_dict(values) == config()
    with pytest.raises(ValueError, match="n_head "):
        GPTConfig.from_dict({**values, "n_head ": 2})
    with pytest.raises(ValueError, match="vocab_size"):
        GPTConfig.from_dict({**values, "vocab_size": None})


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().n_layers = 4


def test_the_kernels_are_chosen_when_a_model_is_built_and_never_written():
    assert "kernels" not in config(kernels="reference").to_dict()
    assert GPTConfig.from_dict(config(kernels="reference").to_dict()) == config()
