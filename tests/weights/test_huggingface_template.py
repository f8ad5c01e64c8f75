"""Un dossier de Hugging Face et son gabarit : celui que l'on reconnaît sert partout, un autre se dit et se remplace."""

import json
from dataclasses import replace

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from gpt_lightning.commands.dialogue import chat as dialogue
from gpt_lightning.decoding import Strategy
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.serving.openai.fields import Refused
from gpt_lightning.serving.openai.request import ServedModel
from gpt_lightning.serving.openai.request import chat as served
from gpt_lightning.tokenizers import HuggingFaceTokenizer
from gpt_lightning.tokenizers.messages import Message
from gpt_lightning.tokenizers.template import Template, template_for
from gpt_lightning.training import checks
from gpt_lightning.weights import load_for_inference, starting_point
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.format import Description
from gpt_lightning.weights.loading import load_and_describe
from tests.tokenizers.test_recognition import MARKS, NAMES, OFFICIAL

CONFIG = GPTConfig(vocab_size=300, context_length=200, emb_dim=8, n_heads=2, n_layers=1)
ARCHITECTURE = CONFIG.to_dict()
TALK = [Message("user", "Un ?"), Message("assistant", "Oui."), Message("user", "Deux ?")]
OTHER = "{{ '[INST]' + messages[0].content + '[/INST]' }}"


def tokenizer(*marks: str, end: str | None = None) -> HuggingFaceTokenizer:
    """Un octet par jeton, et ces jetons spéciaux."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = tokenizers.Tokenizer(models.BPE({char: rank for rank, char in enumerate(alphabet)}, []))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast.add_special_tokens(["<fin>", *marks])
    return HuggingFaceTokenizer(fast.to_str(), end or "<fin>")


@pytest.fixture
def folder(tmp_path):
    """Fait un dossier que rien d'ici ne décrit : ses poids, son tokenizer, et ce gabarit."""

    def make(template: object, *, inside: bool = False, marks=MARKS, **options):
        to, own = tmp_path / "hf", tokenizer(*marks)
        export(GPTModel(CONFIG), own, to, "hf", Description(CONFIG, own))
        (to / "gpt_lightning.json").unlink()
        path = to / "tokenizer_config.json"
        values = json.loads(path.read_text(encoding="utf-8")) | options
        if inside:
            values["chat_template"] = template
        elif template is not None:
            (to / "chat_template.jinja").write_text(str(template), encoding="utf-8")
        path.write_text(json.dumps(values), encoding="utf-8")
        return str(to)

    return make


BOS = {"bos_token": "<|begin_of_text|>"}


@pytest.mark.parametrize("inside", [False, True, "liste"])
@pytest.mark.parametrize("stem", ["smollm2", "qwen2.5", "llama3", "qwen3"])
def test_the_template_of_a_folder_serves_everywhere(folder, stem, inside):
    text = OFFICIAL[stem]
    if inside == "liste":
        text = [{"name": "tool_use", "template": OTHER}, {"name": "default", "template": text}]
    loaded = load_for_inference(folder(text, inside=bool(inside), **BOS), device="cpu")
    assert loaded.template == NAMES[stem] and not loaded.unknown_template
    template = Template(loaded.template, loaded.tokenizer)
    assert loaded.tokenizer.eos_id == template.eos_id  # une réponse finit là, partout
    ids = template.opening(TALK)
    request = served(
        {"messages": [{"role": role, "content": content} for role, content, _ in TALK]},
        ServedModel("m", loaded.tokenizer, 200, 8, template),
    )
    assert request.prompts == [ids] and request.choices[0].row.eos_id == template.eos_id
    speaker = dialogue.Speaker(loaded)
    assert speaker._fit([*TALK], dialogue.ChatSession(Strategy(), 1)) == ids
    history = [*TALK[:2], Message("user", "x" * 60), TALK[1], Message("user", "y" * 40)]
    short = replace(CONFIG, context_length=len(template.opening(history)))
    speaker.context = short.context_length
    kept = speaker._fit(history, dialogue.ChatSession(Strategy(), 1))
    assert kept == template.opening(history) and len(history) == 3  # le plus vieux tour est parti


@pytest.mark.parametrize(
    "template, options",
    [
        (OTHER, {}),
        (OFFICIAL["chatml"] + "!", {}),
        ("", {}),
        (OFFICIAL["llama3"], {"bos_token": "<fin>"}),
        (OFFICIAL["llama3"], {}),
        (OFFICIAL["qwen3"], {"marks": ["<|im_end|>"]}),
        ([{"name": "tool_use", "template": OFFICIAL["chatml"]}], {"inside": True}),
    ],
)
def test_another_template_is_said_and_replaced(folder, template, options):
    source = folder(template, **options)
    loaded = load_for_inference(source, device="cpu")
    assert (loaded.template, loaded.unknown_template) == ("", True)
    model = ServedModel("m", loaded.tokenizer, 200, 8, unknown_template=True)
    with pytest.raises(Refused, match="template=chatml"):
        served({"messages": [{"role": "user", "content": "Un ?"}]}, model)
    asked = load_for_inference(source, device="cpu", template="texte:Sois bref.")
    assert (asked.template, asked.unknown_template) == ("texte:Sois bref.", False)
    assert "Sois bref." in asked.tokenizer.decode(Template(asked.template, asked.tokenizer).opening(TALK))


def test_chat_asks_for_the_template_that_it_does_not_recognise(folder, command, tmp_path):
    source = folder(OTHER)
    typed = ("chat", f"ckpt_path={source}", "prompt=Un ?", "max_new_tokens=3", "device=cpu", "seed=1")
    refused = command("gpt_lightning", *typed, cwd=tmp_path)
    assert refused.returncode == 1 and not refused.stdout
    assert "template=chatml, llama3, qwen3 ou texte" in refused.stderr and "Traceback" not in refused.stderr
    answered = command("gpt_lightning", *typed, "template=chatml:Tu réponds, l'ami : en vers.", cwd=tmp_path)
    assert answered.returncode == 0 and answered.stdout.strip("\n"), answered.stderr


def test_a_template_that_the_model_cannot_write_is_refused(folder):
    source = folder(None, marks=())
    assert not load_for_inference(source, device="cpu").unknown_template
    for name, words in (
        ("chatml", "n'a pas ses jetons"),
        ("llama3", "n'a pas <.begin_of_text"),
        ("alpaca", "template=alpaca : les choix sont"),
        ("chatml:", "template : après"),
    ):
        with pytest.raises(UserError, match=words):
            load_for_inference(source, device="cpu", template=name)


def test_training_follows_the_template_of_where_it_starts(folder):
    start = starting_point(folder(OFFICIAL["smollm2"]), ARCHITECTURE | {"kernels": "fused"}, task="instruct")
    assert start.template == NAMES["smollm2"]
    for asked, used in ((None, NAMES["smollm2"]), ("texte", "texte"), ("chatml", "chatml")):
        assert checks.in_template({"template": asked}, start)["template"] == used
    assert checks.in_template({"template": None}, replace(start, template="")) == {"template": "texte"}
    assert checks.in_template({"stride": 3}, start) == {"stride": 3}
    other = replace(start, template="", unknown_template=True)
    assert checks.in_template({"template": "texte"}, other) == {"template": "texte"}
    with pytest.raises(UserError, match=r"data\.template=chatml"):
        checks.in_template({"template": None}, other)
    made = template_for(start.template, start.tokenizer)
    assert made.tokenizer.vocab_size == start.tokenizer.vocab_size  # ses jetons sont ceux du modèle


@pytest.mark.parametrize("name", ["texte:Sois bref.", "chatml", "llama3", "qwen3:Sois bref."])
def test_a_description_keeps_the_template_and_so_does_the_folder_alone(name, tmp_path):
    template = template_for(name, tokenizer(*MARKS))
    description = Description(CONFIG, template.tokenizer, task="instruct", template=name)
    export(GPTModel(CONFIG), template.tokenizer, tmp_path / "hf", "hf", description)
    for alone in (False, True):  # puis sans notre description : ce qu'un outil de Hugging Face en garde
        if alone:
            (tmp_path / "hf/gpt_lightning.json").unlink()
        again = load_and_describe(str(tmp_path / "hf")).description
        assert (again.task, again.template) == ("instruct", name)
        assert Template(name, again.tokenizer).render(TALK) == template.render(TALK)


@pytest.mark.parametrize("name", ["alpaca", "chatml:", 3])
def test_a_template_of_another_version_is_said(name, tmp_path):
    own = tokenizer(*MARKS)
    export(
        GPTModel(CONFIG),
        own,
        tmp_path / "st",
        "safetensors",
        Description(CONFIG, own, task="instruct", template="texte"),
    )
    path = tmp_path / "st/model.safetensors"
    from safetensors.torch import load_file, save_file

    text = json.loads((tmp_path / "st/gpt_lightning.json").read_text()) | {"template": name}
    save_file(load_file(path), path, metadata={"gpt_lightning": json.dumps(text)})
    with pytest.raises(UserError, match="mettez-le à jour"):
        load_and_describe(str(path))
