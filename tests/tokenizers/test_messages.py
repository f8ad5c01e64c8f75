"""Une seule lecture des messages : l'entraînement, le serveur, chat et le gabarit exporté écrivent les mêmes jetons."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt_lightning.data.instruct.formats import BadRow, to_messages
from gpt_lightning.errors import UserError
from gpt_lightning.serving.openai.fields import Refused
from gpt_lightning.serving.openai.request import ServedModel, chat
from gpt_lightning.tokenizers import ByteTokenizer, gpt2
from gpt_lightning.tokenizers.messages import BadMessage, Message, arrange, read_messages
from gpt_lightning.tokenizers.template import jinja, template_for

TEXTS = ["Un", " bord\n", "deux\r\nlignes", "", " \r\n", "é ?", "### Fin", "a\n\nb", "\tx", "fin\r\n"]
text = st.sampled_from(TEXTS)
part = st.builds(lambda content: {"type": "text", "text": content}, text)
content = st.one_of(text, st.lists(part, max_size=3))
role = st.sampled_from(["user"] * 4 + ["assistant"] * 4 + ["system", "developer", "tool", "function"])
more = st.sampled_from([{}] * 8 + [{"name": "moi"}, {"weight": 0}, {"weight": 1}, {"train": False}])
more |= st.sampled_from([{"tool_calls": None}, {"tool_calls": [1]}, {"weight": 2}, {"refusal": "non"}])
message = st.builds(
    lambda role, content, more: {"role": role, "content": content} | more, role, content, more
)
talks = st.lists(message, max_size=6)
turns = st.lists(
    st.builds(lambda *turn: list(turn), message, message).map(
        lambda turn: [one | {"role": who} for one, who in zip(turn, ("user", "assistant"), strict=True)]
    ),
    max_size=3,
).map(lambda pairs: sum(pairs, []))
TEMPLATES = [template_for(name, ByteTokenizer()) for name in ("texte", "chatml")]
TWICE = [{"role": "user", "content": one} for one in ("Un", "deux\r\nlignes")]
BLANK = [{"role": "system", "content": ""}, {"role": "user", "content": " Un "}]
MIDDLE = [*TWICE, {"role": "system", "content": "Sois bref."}, {"role": "user", "content": "Un"}]
BEGUN = [*TWICE, {"role": "assistant", "content": "La réponse "}]


def learned_ids(talk: list, template) -> list[int] | None:
    """Les identifiants à l'entraînement ; une conversation qui attend sa réponse en reçoit une."""
    answered = talk if isinstance(talk, list) and talk and is_begun(talk) else [*talk, ANSWER]
    try:
        return template.render(to_messages({"messages": answered}))[0]
    except BadRow as error:
        assert "aucune réponse" not in str(error) or any(marked(one) for one in talk), error
        return None if "aucune réponse" not in str(error) else template.render(read_messages(answered))[0]


ANSWER = {"role": "assistant", "content": "Oui."}


def said(one: dict) -> str:
    parts = one["content"] if isinstance(one["content"], list) else [{"text": one["content"]}]
    return "".join(part["text"] for part in parts).strip()


def is_begun(talk: list[dict]) -> bool:
    spoken = [one for one in talk if said(one)]
    return bool(spoken) and spoken[-1]["role"] == "assistant"


def marked(one: dict) -> bool:
    return one.get("weight") == 0 or one.get("train") is False


def served_ids(talk: list, template) -> list[int] | None:
    model = ServedModel("m", template.tokenizer, 10_000, 8, template)
    try:
        return chat({"messages": talk}, model).prompts[0]
    except Refused as error:
        assert error.error["param"] == "messages"
        return None


@given(talks | turns)
@example(TWICE)
@example(BLANK)
@example(MIDDLE)
@example(BEGUN)
@settings(deadline=None, max_examples=300)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_training_and_serving_refuse_together_or_write_the_same(template, talk):
    served, learned = served_ids(talk, template), learned_ids(talk, template)
    if served is None:
        assert learned is None or (
            is_begun([*talk]) is False and served_ids([*talk, ANSWER], template) is None
        )
        return
    assert learned is not None and learned[: len(served)] == served
    begun = is_begun(talk)
    end = template.render(read_messages([*BEGUN]))[0][len(template.opening(read_messages(BEGUN))) :]
    assert not begun or learned[len(served) :] == end  # la réponse s'arrête au bout, sans sa fin


@given(talks | turns)
@settings(deadline=None, max_examples=200)
def test_what_is_arranged_stays_so(talk):
    try:
        messages = read_messages(talk)
    except BadMessage as error:
        assert str(error) and "\n" not in str(error)
        return
    assert arrange(messages) == messages
    assert all(one.role != other.role for one, other in zip(messages, messages[1:], strict=False))
    assert all(one.content == one.content.strip() != "" and "\r\n" not in one.content for one in messages)
    for template in TEMPLATES:
        raw = [Message(one["role"].replace("developer", "system"), said(one)) for one in talk]
        assert template.opening(raw) == template.opening(messages)  # chat, qui n'a pas d'objets JSON


@pytest.fixture(scope="module", params=["texte", "chatml"])
def exported(request, tmp_path_factory):
    """Le tokenizer de transformers que l'export écrit, et notre gabarit."""
    transformers = pytest.importorskip("transformers")
    from gpt_lightning.model import GPTConfig, GPTModel
    from gpt_lightning.weights.exporting import export
    from gpt_lightning.weights.format import Description

    template, to = template_for(request.param, gpt2()), tmp_path_factory.mktemp("hf") / "hf"
    size = {"context_length": 64, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
    config = GPTConfig(vocab_size=template.tokenizer.vocab_size, **size)
    description = Description(config, template.tokenizer, task="instruct", template=request.param)
    export(GPTModel(config), template.tokenizer, to, "hf", description)
    return transformers.AutoTokenizer.from_pretrained(str(to)), template


@given(talk=talks | turns)
@example(TWICE)
@example(BLANK)
@example(MIDDLE)
@example(BEGUN)
@settings(deadline=None, max_examples=150)
def test_the_exported_template_reads_as_we_do(exported, talk):
    theirs, template = exported
    talk = [{key: one[key] for key in ("role", "content")} for one in talk]

    def ids(**options):
        return theirs(theirs.apply_chat_template(talk, tokenize=False, **options))["input_ids"]

    try:
        messages = read_messages(talk)
    except BadMessage:
        with pytest.raises(Exception, match=r"."):
            assert talk  # transformers ne rend rien d'une liste vide
            ids()
        return
    assert ids() == template.render(messages)[0]
    assert ids(add_generation_prompt=True) == template.opening(messages)
    last = talk[-1]["content"]  # transformers cherche ce texte, tel quel, dans la conversation écrite
    if is_begun(talk) and isinstance(last, str) and last.strip() and "\r" not in last:
        assert ids(continue_final_message=True) == template.opening(messages)


def test_the_exported_template_needs_no_extension():
    jinja2 = pytest.importorskip("jinja2")
    for name in ("texte", "chatml"):
        jinja2.Environment().from_string(jinja(name))


FAULTS = [
    ([{"role": "tool", "content": "x"}], r"message 1 \(messages\[0\]\.role\).*'tool'"),
    ([*TWICE, {"role": "function", "content": "x"}], r"message 3 .*'function'"),
    ([*TWICE, {"role": "assistant", "content": "", "tool_calls": [1]}], r"message 3 .*tool_calls"),
    ([{"role": "user", "content": "x", "images": ["a"]}], "images"),
    (
        [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"a": 1}}]}],
        "cache_control",
    ),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "morceaux"),
    ([*TWICE, {"role": "assistant", "content": "x", "weight": 0.5}], "weight=0.5 : il faut 0 ou 1"),
    ([*TWICE, {"role": "assistant", "content": "x", "weight": True}], "weight=True : il faut 0 ou 1"),
    ([*TWICE, {"role": "assistant", "content": "x", "train": 0}], "train=0 : il faut true ou false"),
    ([*TWICE, {"role": "assistant", "content": "x", "train": False, "weight": 1}], "contredisent"),
    ([*TWICE, {"role": "user", "content": "x", "weight": 0}], "message 3 .* même weight"),
    (MIDDLE, "message 3 .*system doit être le premier"),
    ([{"role": "assistant", "content": "x"}], "message 1 .*n'a pas de question"),
    ([{"role": "system", "content": "x"}], "question"),
    ([{"role": "user", "content": 3}], r"messages\[0\]\.content"),
    (["x"], "message 1 .*objet"),
    ({}, "liste de messages"),
]


@pytest.mark.parametrize("talk, words", FAULTS, ids=[words for _, words in FAULTS])
def test_a_fault_says_which_message_everywhere(talk, words):
    with pytest.raises(UserError, match=words) as seen:
        read_messages(talk)
    model = ServedModel("m", ByteTokenizer(), 10_000, 8, TEMPLATES[0])
    with pytest.raises(Refused, match=words):
        chat({"messages": talk}, model)
    answered = [*talk, ANSWER] if isinstance(talk, list) else talk
    with pytest.raises(BadRow, match=words):
        to_messages({"messages": answered})
    assert "\n" not in str(seen.value)
