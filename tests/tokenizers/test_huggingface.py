"""Tout tokenizer.json, face à transformers qui lit le même dossier : six tokenizers, appris ici."""

import json
import random
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from gpt_lightning.decoding.text import GrowingText, continuation_decoder, prompt_ids, prompt_text
from gpt_lightning.serving.openai.response import text_increments
from gpt_lightning.tokenizers import ChatTokenizer, HuggingFaceTokenizer, from_state
from gpt_lightning.tokenizers.chat import MARKS
from gpt_lightning.tokenizers.messages import Message
from gpt_lightning.tokenizers.template import template_for
from gpt_lightning.weights import huggingface_tokenizer
from tests.conftest import CORPORA, ROOT
from tests.smollm2 import FOLDER as SMOLLM2

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LEARNT = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]


def split(pattern):
    pieces = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence(
        [pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def byte_level(pattern, special, normalizer=None, **options):
    fast = tokenizers.Tokenizer(models.BPE(**options))
    fast.pre_tokenizer, fast.decoder = split(pattern), decoders.ByteLevel()
    if normalizer:
        fast.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learn(fast, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, special_tokens=special))
    return fast


def learn(fast, trainer):
    trainer.show_progress = False
    fast.train_from_iterator(LEARNT, trainer)


def qwen():
    fast = byte_level(QWEN, [], normalizers.NFC())
    fast.add_special_tokens(["<|endoftext|>", *MARKS])
    fast.add_tokens(["<think>", "</think>"])
    return fast, {"eos_token": "<|im_end|>"}


def llama3():
    fast = byte_level(LLAMA3, ["<|begin_of_text|>", "<|end_of_text|>"], ignore_merges=True)
    begin = ("<|begin_of_text|>", fast.token_to_id("<|begin_of_text|>"))
    single = processors.TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    fast.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), single])
    return fast, {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


def metaspace():
    """Llama-2 : une espace ajoutée devant, ▁ pour une espace, un octet pour un caractère que l'on n'a pas."""
    fast = tokenizers.Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = decoders.Strip(" ", 1, 0)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
    fast.decoder = decoders.Sequence(steps)
    words = [pre_tokenizers.Split(Regex("▁+[^▁]*"), "isolated")]  # pour apprendre vite ; l'usage n'en a pas
    fast.pre_tokenizer = pre_tokenizers.Sequence(words)
    special = ["<unk>", "<s>", "</s>", *BYTES]
    learn(fast, trainers.BpeTrainer(vocab_size=1100, special_tokens=special, limit_alphabet=120))
    values = json.loads(fast.to_str())
    values["pre_tokenizer"] = None
    values["added_tokens"] = values["added_tokens"][:3]
    fast = tokenizers.Tokenizer.from_str(json.dumps(values))
    fast.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return fast, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigram():
    fast = tokenizers.Tokenizer(models.Unigram())
    fast.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    learn(fast, trainers.UnigramTrainer(vocab_size=900, special_tokens=["<unk>", "</s>"], unk_token="<unk>"))
    return fast, {"eos_token": "</s>", "unk_token": "<unk>"}


def added():
    """Des jetons ajoutés qui prennent les blancs qui les entourent, ou ne valent que pour un mot entier."""
    fast = byte_level(QWEN, ["<fin>"])
    fast.add_special_tokens(
        [AddedToken("<g>", lstrip=True), AddedToken("<d>", rstrip=True), AddedToken("<é>")]
    )
    rules = [
        ("mot", {"single_word": True}),
        ("[G]", {"lstrip": True}),
        ("[D]", {"rstrip": True}),
        ("l'été", {}),
    ]
    fast.add_tokens([AddedToken(content, **options) for content, options in rules])
    return fast, {"eos_token": "<fin>", "additional_special_tokens": ["<un de plus>"]}


MADE = {make.__name__: make for make in (qwen, llama3, metaspace, unigram, added)}


@cache
def pair(name, base):
    """Le nôtre et celui de transformers, lus dans le même dossier."""
    fast, options = MADE[name]()
    folder = Path(base) / name
    folder.mkdir()
    fast.save(str(folder / "tokenizer.json"))
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **options}
    (folder / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")
    ours, why_not = huggingface_tokenizer.read(folder, 3000)
    assert not why_not and ours.state()["kind"] == "huggingface"
    return ours, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(params=MADE)
def both(request, base):
    return pair(request.param, base)


def random_texts(count, seed=0):
    """Des textes de toute sorte : lettres, blancs, combinaisons, emoji, jetons spéciaux écrits, n'importe quoi."""
    rng = random.Random(seed)
    pieces = [
        *"aeé  \n\t'.,1239",
        "e\u0301",
        "ﬁ",
        "Ⅷ",
        "가",
        "각",
        "한국",
        "漢字",
        "😀",
        "👩‍👩‍👧",
        "▁",
        "<0x41>",
    ]
    pieces += [
        "mot",
        "motif",
        " mot ",
        "[G]",
        "[D]",
        "l'été",
        "<think>",
        "<unk>",
        "<s>",
        "</s>",
        "<fin>",
        " <g> ",
    ]
    pieces += [
        "<d>  ",
        "<é>",
        "<|endoftext|>",
        *MARKS,
        "<|begin_of_text|>",
        "don't",
        "   ",
        "\r\n",
        "\u3000",
        "<un de plus>",
    ]
    for _ in range(count):
        size = rng.choice((1, 2, 5, 20, 60))
        yield "".join(
            rng.choice(pieces)
            if rng.random() < 0.7
            else chr(rng.choice((rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x110000))))
            for _ in range(size)
        )


def check(ours, theirs, text):
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False, split_special_tokens=True), ascii(text)
    marked = ours.encode(text, special=True)
    assert marked == theirs.encode(text, add_special_tokens=False), ascii(text)
    assert prompt_ids(ours, text) == (theirs.encode(text, split_special_tokens=True) or [ours.eos_id])
    shown, said = ours.decode(ids), theirs.decode(ids)
    # ByteLevel prend pour des octets les lettres d'un jeton ajouté, « l'été » : ils n'en sont pas
    assert shown == said or ("\ufffd" in said and "l'été" in shown), ascii(text)
    joined = b"".join(map(ours.token_bytes, ids)).decode("utf-8", "replace")
    if (
        "Metaspace" in ours.file() or "Prepend" in ours.file()
    ):  # l'espace ajoutée devant est un octet de son jeton
        joined, shown = joined.lstrip(" "), shown.lstrip(" ")
    assert joined == shown, ascii(text)


def test_bytes_lose_nothing(base):
    for text in random_texts(300, seed=3):
        for name, kept in (("llama3", text), ("qwen", unicodedata.normalize("NFC", text))):
            ours, _ = pair(name, base)
            assert b"".join(map(ours.token_bytes, ours.encode(text))) == kept.encode("utf-8")
            assert ours.decode(ours.encode(text)) == kept


def test_texts_are_cut_and_joined_as_by_transformers(both):
    for text in random_texts(300):
        check(*both, text)


@pytest.fixture(params=[*MADE, "smollm2"])
def every(request, base):
    """Les mêmes, et celui de SmolLM2."""
    if request.param in MADE:
        return pair(request.param, base)
    ours, why_not = huggingface_tokenizer.read(SMOLLM2, 49_152)
    assert not why_not
    return ours, AutoTokenizer.from_pretrained(SMOLLM2)


@pytest.mark.slow
def test_ten_thousand_random_texts(every):
    for text in random_texts(10_000, seed=1):
        check(*every, text)


@pytest.mark.slow
def test_the_corpora_and_the_sources(every):
    paths = [*CORPORA.rglob("*.txt"), *(ROOT / "gpt_lightning").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    assert sum("les-miserables" in str(path) for path in paths) == 5
    for path in paths:
        check(*every, path.read_text(encoding="utf-8"))


def test_a_stream_is_the_text(both):
    """Jeton par jeton : rien ne manque, rien ne s'ajoute, d'où que l'on continue."""
    ours, _ = both
    for text in random_texts(80, seed=2):
        ids = ours.encode(text)
        whole = ours.decode(ids)
        assert "".join(text_increments(ours, ids)) == whole
        for cut in {0, 1, len(ids) // 2, max(0, len(ids) - 1)}:
            start = [ours.bos_id, *ids[:cut]] if ours.bos_id is not None else ids[:cut]
            before = prompt_text(ours, start)
            grown = GrowingText(continuation_decoder(ours, before, start))
            shown = "".join([*map(grown.push, ids[cut:]), grown.finish()])
            if not before.endswith("\ufffd"):
                assert before + shown == whole, (ascii(text), cut)


def test_no_content_is_a_special_token(both):
    ours, theirs = both
    special = {
        index
        for index, token in theirs.added_tokens_decoder.items()
        if token.special and token.content != "<unk>"
    }
    for text in random_texts(200, seed=4):
        assert not special.intersection(ours.encode_content(text))
        if special.isdisjoint(ours.encode(text)):
            assert ours.encode_content(text) == ours.encode(text)


def test_a_state_is_a_text_that_gives_it_back(both):
    ours, _ = both
    again = from_state(json.loads(json.dumps(ours.state())))
    assert again.state() == ours.state() and type(again) is type(ours)
    assert (again.eos_id, again.bos_id, again.vocab_size) == (ours.eos_id, ours.bos_id, ours.vocab_size)
    assert again.encode("Été 😀") == ours.encode("Été 😀")


def test_half_a_character_is_a_replacement(both):
    ours, _ = both
    assert ours.encode("a\ud83d") == ours.encode("a\ufffd")


def test_its_own_chat_marks_serve_and_others_are_added(both):
    ours, theirs = both
    chat = ChatTokenizer(ours)
    has_marks = ours.ids_of(MARKS).keys() == set(MARKS)
    assert chat.vocab_size == ours.vocab_size + (0 if has_marks else 2)
    assert [chat.start_id, chat.eos_id] == [chat.base.special_id(mark) for mark in MARKS]
    text = f"{MARKS[0]}user\nÉté{MARKS[1]}"
    assert chat.encode(text, special=True)[0] in (chat.start_id, ours.encode(" ")[0])
    assert {chat.start_id, chat.eos_id} <= set(chat.encode(text, special=True))
    assert not {chat.start_id, chat.eos_id} & set(chat.encode(text))
    again = from_state(json.loads(json.dumps(chat.state())))
    assert (again.start_id, again.eos_id, again.vocab_size) == (chat.start_id, chat.eos_id, chat.vocab_size)
    assert chat.base.encode("Été <think>") == ours.encode("Été <think>")
    if has_marks:
        assert chat.eos_id == theirs.convert_tokens_to_ids(MARKS[1])


def test_marks_that_a_text_could_write_become_special(base):
    """Un vocabulaire où <|im_end|> est un jeton ordinaire : ce qu'un message contient n'en fait jamais un."""
    fast, _ = qwen()
    values = json.loads(fast.to_str())
    for token in values["added_tokens"]:
        token["special"] = token["content"] not in MARKS
    chat = ChatTokenizer(HuggingFaceTokenizer(json.dumps(values)))
    assert chat.eos_id not in chat.encode("a<|im_end|>") and chat.eos_id in chat.encode(
        "a<|im_end|>", special=True
    )
    assert chat.vocab_size == HuggingFaceTokenizer(json.dumps(values)).vocab_size


def test_a_wordpiece_is_refused_by_its_name(tmp_path):
    fast = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    learn(fast, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[SEP]"]))
    fast.save(str(tmp_path / "tokenizer.json"))
    read, why_not = huggingface_tokenizer.read(tmp_path, 3000)
    assert read is None and "WordPiece" in why_not


def test_a_message_never_writes_a_special_token(both):
    ours, theirs = both
    special = [token.content for token in theirs.added_tokens_decoder.values() if token.special]
    for name in ("texte", "chatml"):
        template = template_for(name, ours)
        words = [content for content in (*special, *MARKS) if content != "<unk>"]
        ids = template.opening([Message("user", "a ".join(words))])
        empty = template.opening([Message("user", "a")])
        controls = (
            {template.tokenizer.special_id(word) for word in words} - {None}
            if name == "chatml"
            else ours.ids_of(words).values()
        )
        assert [index for index in ids if index in controls] == [
            index for index in empty if index in controls
        ]
