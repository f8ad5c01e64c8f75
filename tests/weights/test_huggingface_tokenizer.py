"""Le tokenizer d'un dossier de Hugging Face, comparé à la bibliothèque tokenizers, ou la raison de s'en passer."""

import json
import random

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import weights
from gpt_lightning.tokenizers import from_state
from gpt_lightning.weights import huggingface_tokenizer
from gpt_lightning.weights.exporting import export
from tests.tokenizers.test_huggingface import llama3, metaspace


@pytest.fixture(scope="module", params=[2000, pytest.param(50_257, marks=pytest.mark.slow)])
def theirs(request):
    """Un BPE d'octets appris ici ; 50 257 : autant de jetons que GPT-2, et ce ne sont pas les siens."""
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfglmnprstv" for b in ("a", "é", "i", "ou", "un", "x")]
    words = ("".join(rng.choices(syllables, k=rng.randint(2, 6))) for _ in range(request.param + 10_000))
    one = tokenizers.Tokenizer(tokenizers.models.BPE())
    one.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    one.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=request.param,
        min_frequency=1,
        special_tokens=["<fin>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    one.train_from_iterator(words, trainer)
    assert one.get_vocab_size() == request.param
    return one


@pytest.fixture(scope="module", params=["tokenizer.json", "vocab.json"])
def folder(theirs, tmp_path_factory, request):
    """Un GPT-2 de deux couches et son tokenizer, comme transformers les enregistre."""
    found = tmp_path_factory.mktemp("hf")
    config = transformers.GPT2Config(
        vocab_size=theirs.get_vocab_size(), n_positions=32, n_embd=16, n_layer=1, n_head=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(found)
    if request.param == "tokenizer.json":
        theirs.save(str(found / "tokenizer.json"))
    else:
        theirs.model.save(str(found))
    (found / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<fin>"}), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def ours(folder):
    return weights.load(str(folder))[1]


def test_its_tokens_are_its_own(ours, theirs):
    assert ours.vocab_size == theirs.get_vocab_size() and ours.eos_id == theirs.token_to_id("<fin>")
    assert ours.state()["kind"] == "byte_level"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("abcdéèl mnou'x0 \n\t1’—😀ſ\u200d!.")))
def test_it_cuts_and_joins_like_tokenizers(ours, theirs, text):
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == text == theirs.decode(ids)


@given(st.lists(st.integers(1, 1999), max_size=30))
def test_any_tokens_are_read_like_tokenizers(ours, theirs, ids):
    assert ours.decode(ids) == theirs.decode(ids)


def test_an_exported_folder_has_it(ours, theirs, folder, tmp_path):
    our, tokenizer = weights.load(str(folder))
    export(our, tokenizer, tmp_path / "hf", "hf")
    again = weights.load(str(tmp_path / "hf"))[1]
    read = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    for text in ("le chat", "bacédi lun  mun\n", "été 🦄"):
        assert again.encode(text) == tokenizer.encode(text) == read(text)["input_ids"]
    assert again.eos_id == tokenizer.eos_id == read.eos_token_id


def test_a_checkpoint_keeps_it(ours):
    again = from_state(json.loads(json.dumps(ours.state())))
    assert again.encode("bacé lunounx") == ours.encode("bacé lunounx") and again.eos_id == ours.eos_id


def spoiled(theirs, **changes):
    values = json.loads(theirs.to_str())
    for key, change in changes.items():
        values[key] = change(values.get(key)) if callable(change) else change
    return values


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Lowercase"}},
        {
            "pre_tokenizer": {
                "type": "Metaspace",
                "replacement": "▁",
                "prepend_scheme": "first",
                "split": True,
            }
        },
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}},
        {"pre_tokenizer": None},
        {"model": lambda one: {**one, "merges": one["merges"][::-1]}},
        {"model": lambda one: {**one, "ignore_merges": True}},
        {"added_tokens": lambda added: [{**token, "lstrip": True} for token in added]},
        {"added_tokens": lambda added: [{**token, "special": False} for token in added]},
        {"decoder": None},
    ],
)
def test_what_is_not_gpt2_is_read_by_tokenizers(theirs, tmp_path, changes):
    text = json.dumps(spoiled(theirs, **changes))
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    read, why_not = huggingface_tokenizer.read(tmp_path, 50_257)
    assert not why_not and read.state()["kind"] == "huggingface"
    again = tokenizers.Tokenizer.from_str(text)
    again.encode_special_tokens = True
    for sample in ("Bacé lunoun<fin> a", " <fin>\n"):
        assert read.encode(sample) == again.encode(sample).ids
        assert read.decode(read.encode(sample)) == again.decode(again.encode(sample).ids, False)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"),
        ({"model": lambda one: {**one, "merges": [["é", "~"]]}}, "abîmé"),
        ({"model": lambda one: {**one, "merges": 3}}, "abîmé"),
        ({"model": lambda one: {**one, "dropout": 0.1}}, "dropout"),
        ({"decoder": {"type": "CTC"}}, "abîmé"),
        ({"decoder": {"type": "BPEDecoder", "suffix": "</w>"}}, "BPEDecoder"),
        ({"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}, "WordPiece"),
        ({"model": None}, "ne décrit pas"),
        ({"model": {}}, "genre inconnu"),
    ],
)
def test_another_kind_is_refused_by_its_name(theirs, tmp_path, changes, reason):
    (tmp_path / "tokenizer.json").write_text(json.dumps(spoiled(theirs, **changes)), encoding="utf-8")
    read, why_not = huggingface_tokenizer.read(tmp_path, 50_257)
    assert read is None and reason in why_not


def test_a_vocabulary_without_its_rules_is_not_guessed(theirs, tmp_path):
    theirs.model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    assert "Qwen2Tokenizer" in huggingface_tokenizer.read(tmp_path, 50_257)[1]


def test_without_files_text_is_refused(tmp_path):
    found, why_not = huggingface_tokenizer.read(tmp_path, 50_257)
    assert found is None and "vocab.json" in why_not


def saved_gpt2(folder, fast, options):
    """Un GPT-2 minuscule, dont le vocabulaire a plus de lignes que son tokenizer n'a de jetons."""
    size = fast.get_vocab_size() + 20
    config = transformers.GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    fast.save(str(folder / "tokenizer.json"))
    options = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **options,
    }  # AutoTokenizer prendrait celui de GPT-2
    (folder / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")
    return folder


def test_the_tokenizer_of_gpt2_is_gpt2(tmp_path):
    from gpt_lightning.tokenizers import gpt2_merges, huggingface_files

    for name, text in huggingface_files(gpt2_merges()).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    options = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")
    assert huggingface_tokenizer.read(tmp_path, 50_257)[0].state() == {"kind": "gpt2"}
    transformers.AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "encore")
    assert (tmp_path / "encore" / "tokenizer.json").exists()
    assert huggingface_tokenizer.read(tmp_path / "encore", 50_257)[0].state() == {"kind": "gpt2"}


@pytest.mark.parametrize(
    "said, end, start",
    [
        ({"tokenizer_config.json": {"eos_token": "</s>", "bos_token": "<s>"}}, "</s>", "<s>"),
        ({"tokenizer_config.json": {"eos_token": {"content": "</s>"}, "add_bos_token": False}}, "</s>", None),
        ({"special_tokens_map.json": {"eos_token": "</s>"}}, "</s>", "<s>"),
        (
            {"generation_config.json": {"eos_token_id": [2, 1]}, "config.json": {"eos_token_id": 0}},
            "</s>",
            "<s>",
        ),
        ({"config.json": {"eos_token_id": 2}}, "</s>", "<s>"),
        (
            {"tokenizer_config.json": {"eos_token": "<absent>"}, "config.json": {"eos_token_id": 2}},
            "<absent>",
            "<s>",
        ),
        ({}, None, "<s>"),
    ],
)
def test_what_begins_and_ends_a_text(tmp_path, said, end, start):
    fast, _ = metaspace()
    fast.save(str(tmp_path / "tokenizer.json"))
    for name, content in said.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    read, _ = huggingface_tokenizer.read(tmp_path, 3000)
    state = read.state()
    assert (state["end"], state.get("start")) == (end, start)
    assert read.eos_id == (None if end is None else read.ids_of([end])[end])


@pytest.mark.parametrize("make", [pytest.param(llama3, marks=pytest.mark.slow), metaspace])
def test_a_folder_trains_and_writes_with_its_tokenizer(make, command, text_file, tmp_path):
    folder = tmp_path / "dossier"
    saved_gpt2(folder, *make())
    (theirs, _), (_, expected) = make(), weights.load(str(folder))
    small = ["data.max_length=16", "data.batch_size=4", "trainer.max_steps=2", "eval_every=1"]
    trained = command(
        "train.py", f"init_from={folder}", "data=text", f"data.path={text_file}", *small, cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr
    _, kept = weights.load(str(next(tmp_path.glob("outputs/**/checkpoints/last.ckpt"))))
    assert kept.state() == expected.state()
    assert kept.encode("Le chat") == theirs.encode("Le chat", add_special_tokens=False).ids
    said = command("generate.py", "prompt=Le chat", "max_new_tokens=8", cwd=tmp_path)
    assert said.returncode == 0 and said.stdout.startswith("Le chat"), said.stderr
    out = tmp_path / "export"
    exported = command("gpt_lightning", "export", "format=hf", f"to={out}", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert (out / "tokenizer.json").read_text("utf-8") == (folder / "tokenizer.json").read_text("utf-8")
    again = transformers.AutoTokenizer.from_pretrained(out)
    before = transformers.AutoTokenizer.from_pretrained(folder)
    assert again.encode("Le <s> chat") == before.encode("Le <s> chat")
    assert (again.eos_token, again.bos_token) == (before.eos_token, before.bos_token)
