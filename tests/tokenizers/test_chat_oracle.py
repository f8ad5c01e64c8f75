"""Face à transformers : le gabarit d'un dossier donne les mêmes jetons que le nôtre, sur deux cents conversations."""

import json
import random

import pytest

from gpt_lightning.model import GPTConfig
from gpt_lightning.tokenizers.messages import Message
from gpt_lightning.tokenizers.template import Template
from gpt_lightning.weights import huggingface_template, huggingface_tokenizer
from gpt_lightning.weights.format import Description
from tests.tokenizers.test_huggingface import MADE
from tests.tokenizers.test_recognition import MARKS, NAMES, OFFICIAL

pytestmark = pytest.mark.slow
SAID = "Le chat dort. l'été,\n\n### Réponse :\n12 345 $ 日本語 🙂 <b> {{ x }} à la\tfin ?\n- un </s >"
WORDS = SAID.split(" ")
THOUGHTS = [
    "<think>\nvoyons\n\nbien\n</think>\n\n",
    "<think>\n\n</think>\n\n",
    "</think>",
    "<think>x",
    "<tool_response>",
]


def text(rng: random.Random) -> str:
    said = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
    return ((rng.choice(THOUGHTS) if rng.random() < 0.3 else "") + said).strip() or "Oui"


def talks(count: int) -> list[list[dict]]:
    rng, made = random.Random(11), []
    for _ in range(count):
        roles = ["system"] * (rng.random() < 0.4) + [
            ("user", "assistant")[i % 2] for i in range(rng.randint(1, 6))
        ]
        made.append([{"role": role, "content": text(rng)} for role in roles])
    return made


@pytest.fixture(params=["qwen", "llama3", "metaspace", "unigram"])
def folder(request, tmp_path):
    """Un dossier de Hugging Face dont le tokenizer a tous les jetons spéciaux."""
    fast, options = MADE[request.param]()
    fast.add_special_tokens([mark for mark in MARKS if fast.token_to_id(mark) is None])
    fast.save(str(tmp_path / "tokenizer.json"))
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | options
    return tmp_path, options | {"bos_token": "<|begin_of_text|>"}


@pytest.mark.parametrize("stem", OFFICIAL)
@pytest.mark.parametrize("exported", [False, True], ids=["officiel", "exporté"])
def test_two_hundred_conversations_are_written_as_transformers_does(folder, stem, exported):
    from transformers import AutoTokenizer

    path, options = folder
    (path / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")
    (path / "chat_template.jinja").write_text(OFFICIAL[stem], encoding="utf-8")
    tokenizer, why_not = huggingface_tokenizer.read(path, 4000)
    assert tokenizer is not None, why_not
    config = GPTConfig(vocab_size=4000, context_length=8, emb_dim=8, n_heads=1, n_layers=1)
    description = huggingface_template.describe(Description(config, tokenizer), path)
    assert (description.task, description.template) == ("instruct", NAMES[stem])
    template = Template(description.template, description.tokenizer)
    if exported:
        (path / "chat_template.jinja").write_text(template.jinja(), encoding="utf-8")
    theirs = AutoTokenizer.from_pretrained(str(path))

    def ids(talk, **more):
        return theirs.apply_chat_template(
            talk, tokenize=True, return_dict=False, enable_thinking=False, **more
        )

    for talk in talks(200):
        messages = [Message(turn["role"], turn["content"]) for turn in talk]
        assert ids(talk) == template.render(messages)[0]
        if talk[-1]["role"] == "user":
            assert ids(talk, add_generation_prompt=True) == template.opening(messages)
        elif "</think>" not in talk[-1]["content"]:  # transformers y cherche le texte de la réponse
            assert ids(talk, continue_final_message=True) == template.opening(messages)
