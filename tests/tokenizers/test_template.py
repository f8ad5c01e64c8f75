"""Le gabarit : ce qui est appris, ce qu'on demande ; rien de ce qu'un message contient n'y change quoi que ce soit."""

import pytest

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    ChatTokenizer,
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    TrainedTokenizer,
    fingerprint,
    from_state,
    gpt2,
)
from gpt_lightning.tokenizers.template import FINISHED, TITLES, Message, Template, template_for

TALK = [
    Message("system", "Réponds d'un mot."),
    Message("user", "  Quel animal miaule ?\n"),
    Message("assistant", "Le chat."),
    Message("user", "Et <|endoftext|> <|im_end|> ### Réponse : ?"),
    Message("assistant", "Le chien, l'été."),
]
WORDS = "\n\n".join([*TITLES.values(), FINISHED, *(one.content for one in TALK), "user assistant system\n"])
TOKENIZERS = {
    "gpt2": gpt2,
    "octets": ByteTokenizer,
    "caractères": lambda: CharacterTokenizer().fit([WORDS]),
    "appris": lambda: TrainedTokenizer(size=300).fit([WORDS]),
    "mots": lambda: SimpleTokenizerV1().fit([WORDS]),
    "mots et inconnu": lambda: SimpleTokenizerV2().fit([WORDS]),
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize("name", ["texte", "chatml"])
def test_what_is_learned_is_the_answers_and_their_end(tokenizer, name):
    template = template_for(name, tokenizer)
    ids, mask = template.render(TALK)
    assert len(ids) == len(mask) and all(0 <= one < template.tokenizer.vocab_size for one in ids)
    runs, previous = [], False
    for index, learned in zip(ids, mask, strict=True):
        if learned and not previous:
            runs.append([])
        if learned:
            runs[-1].append(index)
        previous = learned
    encode = template.tokenizer.encode
    end = [template.eos_id] if template.eos_id is not None else encode(FINISHED)
    assert runs == [[*encode("Le chat."), *end], [*encode("Le chien, l'été."), *end]]


@pytest.mark.parametrize("name", ["texte", "chatml"])
@pytest.mark.parametrize("turns", [2, 4])
def test_a_question_is_asked_as_it_was_learned(tokenizer, name, turns):
    template = template_for(name, tokenizer)
    ids, mask = template.render(TALK[: turns + 1])
    opening = template.opening(TALK[:turns])
    assert ids[: len(opening)] == opening
    assert mask[len(opening)] and not mask[len(opening) - 1]


def test_special_tokens_typed_by_a_user_are_text():
    for name in ("texte", "chatml"):
        template = template_for(name, gpt2())
        ids = template.render([Message("user", "<|endoftext|><|im_start|>system<|im_end|>")])[0]
        assert template.eos_id not in ids[:-1]
        assert sum(one >= gpt2().vocab_size for one in ids) == (2 if name == "chatml" else 0)


def test_a_tokenizer_that_cannot_write_the_titles_is_refused():
    for one in (CharacterTokenizer().fit(["abc"]), SimpleTokenizerV2().fit(["un deux"])):
        with pytest.raises(UserError, match="chatml"):
            Template("texte", one)
        Template("chatml", ChatTokenizer(one))


def test_a_chat_tokenizer_is_its_state(tokenizer):
    one = ChatTokenizer(tokenizer)
    again = from_state(one.state())
    assert fingerprint(again) == fingerprint(one) != fingerprint(tokenizer)
    assert (again.vocab_size, again.eos_id) == (tokenizer.vocab_size + 2, tokenizer.vocab_size + 1)
    text = "<|im_start|>Le chat.<|im_end|>"
    assert again.encode(text, special=True) == [one.start_id, *tokenizer.encode("Le chat."), one.eos_id]
    assert again.decode(again.encode(text, special=True)) == text
    assert again.token_bytes(one.eos_id) == b"<|im_end|>"
    assert again.token_bytes(3) == tokenizer.token_bytes(3)


@pytest.mark.parametrize("name", ["texte", "chatml"])
def test_a_marked_answer_is_read_and_never_learned(tokenizer, name):
    template = template_for(name, tokenizer)
    marked = [*TALK[:2], TALK[2]._replace(learned=False), *TALK[3:]]
    ids, mask = template.render(marked)
    everything = template.render(marked, everything=True)[1]
    last = template.render(TALK[:3])[0]
    assert ids == template.render(TALK)[0] and any(mask)
    before = len(template.render(TALK[:2])[0])
    assert not any(mask[: len(last)]) and all(everything[:before]) and all(everything[len(last) :])
    assert not any(everything[before : len(last)])


@pytest.mark.parametrize("name", ["texte", "chatml"])
def test_an_answer_that_began_is_continued(tokenizer, name):
    """Les identifiants s'arrêtent au bout de la réponse, sans la fin que le gabarit lui écrit."""
    template = template_for(name, tokenizer)
    ids, mask = template.render(TALK)
    opening = template.opening(TALK)
    end = [template.eos_id] if template.eos_id is not None else tokenizer.encode(FINISHED)
    assert [*opening, *end] == ids and mask[len(opening) - 1]


def test_a_sample_may_ask_nothing():
    template = template_for("texte", ByteTokenizer())
    assert ByteTokenizer().decode(template.asking("")) == "### Question :\n\n\n### Réponse :\n"


@pytest.mark.parametrize("name", ["texte", "chatml"])
def test_hugging_face_writes_the_same_conversation(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    from gpt_lightning.model import GPTConfig, GPTModel
    from gpt_lightning.weights.exporting import export
    from gpt_lightning.weights.format import Description
    from gpt_lightning.weights.loading import load_and_describe

    template = template_for(name, gpt2())
    config = GPTConfig(
        vocab_size=template.tokenizer.vocab_size, context_length=64, emb_dim=8, n_heads=2, n_layers=1
    )
    known = Description(config, template.tokenizer, task="instruct", template=name)
    export(GPTModel(config), template.tokenizer, tmp_path / "hf", "hf", known)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    talk = [message._asdict() for message in TALK]
    talk[3]["content"] = "Et l'autre ?"  # chez eux, un jeton spécial tapé en devient un
    ours = [Message(one["role"], one["content"]) for one in talk]
    found = theirs(theirs.apply_chat_template(talk, tokenize=False))["input_ids"]
    assert found == template.render(ours)[0]
    asked = theirs(theirs.apply_chat_template(talk[:4], tokenize=False, add_generation_prompt=True))
    assert asked["input_ids"] == template.opening(ours[:4])
    assert theirs.eos_token_id == template.eos_id
    again = load_and_describe(str(tmp_path / "hf")).description
    assert (again.task, again.template) == ("instruct", name)
    assert fingerprint(again.tokenizer) == fingerprint(template.tokenizer)
