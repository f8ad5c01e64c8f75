from types import SimpleNamespace

from gpt_lightning.decoding import Strategy
from gpt_lightning.tokenizers import CharacterTokenizer
from gpt_lightning.training.callbacks import SampleText


def test_a_prompt_that_the_tokenizer_cannot_read_does_not_stop_the_run(tmp_path):
    module = SimpleNamespace(tokenizer=CharacterTokenizer().fit(["un chat dort"]))
    for prompt, kept in (("un chat", "un chat"), ("The with statement", "")):
        sample = SampleText(
            prompt=prompt, max_new_tokens=3, strategy=Strategy(temperature=0), folder=str(tmp_path)
        )
        sample.on_train_start(SimpleNamespace(), module)
        assert sample.prompt == kept
