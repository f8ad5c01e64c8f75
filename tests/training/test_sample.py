from types import SimpleNamespace

import pytest

from gpt_lightning.decoding import Strategy
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import CharacterTokenizer
from gpt_lightning.training.callbacks import SampleText


def test_a_prompt_that_the_tokenizer_cannot_read_does_not_stop_the_run(tmp_path):
    module = SimpleNamespace(
        tokenizer=CharacterTokenizer().fit(["un chat dort"]), prompts=("un chat", "The with statement")
    )
    sample = SampleText(max_new_tokens=3, strategy=Strategy(temperature=0), folder=str(tmp_path))
    sample.on_train_start(SimpleNamespace(), module)
    assert sample._prompts == ["un chat", ""]


@pytest.mark.parametrize("value", ["abc", -1, None, 2.5])
def test_an_impossible_length_is_refused_when_it_is_read(value, tmp_path):
    with pytest.raises(UserError, match="callbacks.sample.max_new_tokens"):
        SampleText(max_new_tokens=value, strategy=Strategy(), folder=str(tmp_path))
