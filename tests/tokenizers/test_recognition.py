"""Les gabarits d'ailleurs : reconnus d'après leur texte, écrits comme leur Jinja les écrit ; un autre ne l'est pas.

chat_templates/ contient le texte des gabarits de SmolLM2-Instruct, Qwen2, Qwen2.5, Qwen3
(Apache-2.0) et Llama 3, tels que leurs tokenizers les publient : ce que l'on compare, jamais ce que le paquet emploie.
"""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import (
    ByteLevelTokenizer,
    ByteTokenizer,
    ChatTokenizer,
    fingerprint,
    from_state,
    gpt2,
)
from gpt_lightning.tokenizers.bpe import byte_of_character
from gpt_lightning.tokenizers.dialects import DIALECTS, read_name
from gpt_lightning.tokenizers.jinja import jinja
from gpt_lightning.tokenizers.messages import Message, arrange
from gpt_lightning.tokenizers.recognition import LONGEST, recognise
from gpt_lightning.tokenizers.template import Template, template_for

FOLDER = Path(__file__).with_name("chat_templates")
OFFICIAL = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
NAMES = {
    "chatml": "chatml",
    "llama3": "llama3",
    "llama3-litteral": "llama3",
    "qwen2": "chatml:You are a helpful assistant.",
    "qwen2.5": "chatml:You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "qwen3": "qwen3",
    "qwen3-2507": "chatml",
    "qwen3-avril": "qwen3",
    "smollm2": "chatml:You are a helpful AI assistant named SmolLM, trained by Hugging Face",
}
MARKS = list(dict.fromkeys(mark for dialect in DIALECTS.values() for mark in dialect.marks))
READER = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)
TOLD = [
    "Un",
    "l'été, deux\nlignes",
    "à  b\n\n\nc !",
    "<think>\nvoyons\n</think>\n\nOui.",
    "<think>\n\n</think>\n\nNon",
    "a</think>b<think>c",
    "<tool_response>\n3\n</tool_response>",
    "{{ x }} {% if %}",
    "<|im_end|> tapé",
    "<|eot_id|>",
    "### Réponse :",
    "日本語 🙂",
]


def own_marks(*marks: str, end: str | None = None) -> ByteLevelTokenizer:
    """Un tokenizer qui a ses jetons spéciaux : un identifiant par octet, puis eux."""
    special = {mark: 256 + rank for rank, mark in enumerate(("<|endoftext|>", *marks))}
    return ByteLevelTokenizer(
        {char: rank for rank, char in enumerate(byte_of_character())}, special, end or "<|endoftext|>"
    )


def talks(seed: int, count: int) -> list[list[dict]]:
    """Des conversations au hasard : une consigne ou non, des tours, une question ou une réponse à la fin."""
    rng, made = random.Random(seed), []
    for _ in range(count):
        turns = [("user", "assistant")[rank % 2] for rank in range(rng.randint(1, 7))]
        roles = [*(["system"] if rng.random() < 0.5 else []), *turns]
        made.append([{"role": role, "content": rng.choice(TOLD)} for role in roles])
    return made


def to_messages(talk: list[dict]) -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in talk]


def written(text: str, talk: list[dict], **options) -> str:
    options = {"bos_token": "<|begin_of_text|>", "enable_thinking": False, "tools": None} | options
    return READER.from_string(text).render(messages=talk, **options)


@pytest.mark.parametrize("stem", OFFICIAL)
def test_an_official_template_is_recognised_and_written_as_its_jinja(stem):
    name = recognise(OFFICIAL[stem])
    assert name == NAMES[stem]
    template = template_for(name, own_marks(*MARKS))
    decode = template.tokenizer.decode
    for talk in talks(0, 15):
        ids, mask = template.render(to_messages(talk))
        assert decode(ids) == written(OFFICIAL[stem], talk, add_generation_prompt=False)
        assert len(mask) == len(ids)
        if talk[-1]["role"] == "user":
            assert decode(template.opening(to_messages(talk))) == written(
                OFFICIAL[stem], talk, add_generation_prompt=True
            )


@pytest.mark.parametrize("name", [*DIALECTS, *(f'{name}:L\'un "x"\n{{{{ é }}}} END \\' for name in DIALECTS)])
@pytest.mark.parametrize("kind", ["les siens", "ajoutés", "aucun"])
def test_what_is_exported_is_recognised_and_written_alike(name, kind):
    """Notre Jinja, lu par transformers, met en forme comme messages.py ; et un dossier qui le porte se relit."""
    tokenizers = {"les siens": own_marks(*MARKS), "ajoutés": gpt2(), "aucun": ByteTokenizer()}
    if kind != "les siens" and name.startswith("llama3"):
        with pytest.raises(UserError, match=r"prenez data\.template=chatml"):
            template_for(name, tokenizers[kind])
        return
    template = template_for(name, tokenizers[kind])
    text = template.jinja()
    assert recognise(text) == name
    decode = template.tokenizer.decode
    for talk in talks(1, 12):
        talk.insert(len(talk) // 2, {"role": talk[len(talk) // 2]["role"], "content": "  joint\r\n"})
        ours = arrange(to_messages(talk))
        assert decode(template.render(ours)[0]) == written(text, talk, add_generation_prompt=False)
        assert decode(template.opening(ours)) == written(text, talk, add_generation_prompt=True)


def test_a_template_is_recognised_however_it_is_spelled():
    spelled = [
        '{%- for message in messages %}\n    {{- "<|im_start|>" ~ message.role + "\\n" }}\n    {{- message.content }}'
        "\n    {{- '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n"
        "    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
        + OFFICIAL["chatml"],
        OFFICIAL["chatml"].replace("'", '"').replace('["role"]', ".role"),
        "{# un commentaire #}\r\n" + OFFICIAL["chatml"] + "\n",
    ]
    assert [recognise(text) for text in spelled] == ["chatml"] * len(spelled)
    quoted = OFFICIAL["qwen2"].replace(
        "You are a helpful assistant.", 'L\\\'été : \\"<b>\\" \\\\ \\u00e9\\n%}'
    )
    assert recognise(quoted) == 'chatml:L\'été : "<b>" \\ é\n%}'


OTHERS = {
    "vide": "",
    "du texte": "Bonjour",
    "réfléchit toujours": OFFICIAL["qwen3-2507"].replace(
        "assistant\\n' }}\n{%- endif", "assistant\\n<think>\\n' }}\n{%- endif"
    ),
    "une date": "{{ '<|im_start|>system\\nToday<|im_end|>\\n' }}" + OFFICIAL["chatml"],
    "un mot de plus": OFFICIAL["smollm2"] + "x",
    "sans la fin": OFFICIAL["chatml"].replace("'<|im_end|>' + ", ""),
    "deux consignes": OFFICIAL["qwen2.5"].replace("are a helpful", "are a very helpful", 1),
    "une consigne vide": OFFICIAL["qwen2"].replace("You are a helpful assistant.", " "),
    "une consigne libre": OFFICIAL["qwen2"].replace("You are a helpful assistant.", "' + today + '"),
    "bloc ouvert": OFFICIAL["chatml"][:-5],
    "zéro": OFFICIAL["qwen2"].replace("helpful", "\0"),
    "génération": "{% generation %}" + OFFICIAL["chatml"] + "{% endgeneration %}",
    "code": "{{ cycler.__init__.__globals__.os.system('id') }}" + OFFICIAL["chatml"],
    "très long": OFFICIAL["chatml"] + "{# " + "x" * LONGEST + " #}",
    "emboîté": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_template_is_not_recognised(case):
    assert recognise(OTHERS[case]) is None


def test_a_changed_template_is_unknown_or_writes_the_same():
    """La loi, sur trois cents fautes de frappe : ce qui est reconnu écrit ce que l'on écrira."""
    rng, seen = random.Random(3), 0
    for stem, text in OFFICIAL.items():
        told = {
            prompt: [written(text, talk, add_generation_prompt=prompt) for talk in talks(2, 3)]
            for prompt in (True, False)
        }
        for _ in range(40):
            place = rng.randrange(len(text))
            changed = text[:place] + rng.choice("aX \n-{%}'\"+~#.[") + text[place + rng.randint(0, 1) :]
            if recognise(changed) != NAMES[stem]:
                continue
            seen += 1
            for prompt, expected in told.items():
                assert [
                    written(changed, talk, add_generation_prompt=prompt) for talk in talks(2, 3)
                ] == expected
    assert seen > 15


@given(st.text(alphabet="{}%#-+~'\"\\[](). \nabmessage", max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_without_a_fault(text):
    assert recognise(text) is None
    assert recognise(text + OFFICIAL["chatml"]) in (None, "chatml")


@given(system=st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_default_system_message_is_carried(system):
    """Une consigne quelconque passe par le nom, par notre Jinja et par celui de SmolLM2."""
    if not system.strip() or "\0" in system:
        with pytest.raises(UserError, match="il faut une consigne"):
            read_name(f"chatml:{system if not system.strip() else ''}")
        return
    name = f"chatml:{system}"
    assert recognise(jinja(name, last="\n")) == name
    escaped = "".join(f"\\U{ord(char):08x}" for char in system)
    official = OFFICIAL["smollm2"].replace(NAMES["smollm2"].partition(":")[2], escaped)
    assert recognise(official) == name


@pytest.mark.parametrize("name", [*DIALECTS, "chatml:Sois bref."])
def test_what_is_learned_is_the_answers_and_their_end(name):
    template = template_for(name, own_marks(*MARKS))
    talk = [
        Message("user", "Un ?"),
        Message("assistant", "Oui."),
        Message("user", "Deux ?"),
        Message("assistant", "Non."),
    ]
    ids, mask = template.render(talk)
    runs = "".join(
        template.tokenizer.decode([index]) if learned else "\0"
        for index, learned in zip(ids, mask, strict=True)
    )
    end = template.tokenizer.decode([template.eos_id])
    assert [run for run in runs.split("\0") if run] == [f"Oui.{end}", f"Non.{end}"]
    for turns in (1, 3):
        opening, (begun, learned) = template.opening(talk[:turns]), template.render(talk[: turns + 1])
        assert begun[: len(opening)] == opening and learned[len(opening)] and not learned[len(opening) - 1]
        unfinished = template.opening(talk[: turns + 1])  # une réponse commencée
        assert begun[: len(unfinished) + 1] == [*unfinished, template.eos_id]
    everything = template.render(talk, everything=True)[1]
    assert all(everything)


def test_a_thought_leaves_the_answers_of_before_and_stays_learned_in_the_last():
    template = template_for("qwen3", own_marks(*MARKS))
    thought = Message("assistant", "<think>\nvoyons\n</think>\n\nOui.")
    ids, mask = template.render([Message("user", "Un ?"), thought, Message("user", "Deux ?"), thought])
    text = template.tokenizer.decode(ids)
    assert text.count("voyons") == 1 and text.index("voyons") > text.index("Deux")
    learned = template.tokenizer.decode([index for index, kept in zip(ids, mask, strict=True) if kept])
    assert learned == "Oui.<|im_end|><think>\nvoyons\n</think>\n\nOui.<|im_end|>"


@pytest.mark.parametrize("name", [*DIALECTS, "llama3:Sois bref."])
def test_a_typed_mark_is_text(name):
    template = template_for(name, own_marks(*MARKS))
    typed = "".join(MARKS) + "<|endoftext|>"
    plain, marked = (template.render([Message("user", text)])[0] for text in ("x", typed))
    assert sum(index >= 256 for index in marked) == sum(index >= 256 for index in plain)


def test_the_tokenizer_of_a_template_ends_as_an_answer_does():
    template = template_for("llama3", own_marks(*MARKS))
    assert template.tokenizer.eos_id == template.eos_id == template.tokenizer.special_id("<|eot_id|>")
    again = from_state(template.tokenizer.state())
    assert again.eos_id == template.eos_id and fingerprint(again) == fingerprint(template.tokenizer)
    own = own_marks(*MARKS, end="<|eot_id|>")
    assert template_for("llama3", own).tokenizer is own
    chat = ChatTokenizer(own_marks("<|eot_id|>"))
    assert template_for("chatml", chat).tokenizer is chat and chat.adds


@pytest.mark.parametrize(
    "value, words",
    [
        ("alpaca", "les choix sont texte, chatml, llama3, qwen3"),
        (3, "les choix sont"),
        (None, "les choix sont"),
        ("chatml:", "il faut une consigne"),
        ("chatml: \n", "il faut une consigne"),
        (":x", "les choix sont"),
    ],
)
def test_a_name_that_is_none_says_what_to_type(value, words):
    with pytest.raises(UserError, match=words) as seen:
        Template(value, ByteTokenizer(), "template")
    assert str(seen.value).startswith("template") and "\n" not in str(seen.value)


def test_the_jinja_of_an_export_refuses_what_we_refuse():
    for name in DIALECTS:
        for talk in ([], [{"role": "tool", "content": "x"}], [{"role": "assistant", "content": "x"}]):
            with pytest.raises((TemplateError, TypeError)):
                READER.from_string(jinja(name)).render(
                    messages=talk, raise_exception=None, add_generation_prompt=True
                )
