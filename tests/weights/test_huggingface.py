"""Nos logits, nos gradients et nos textes contre GPT2LMHeadModel de transformers, poids tirés au hasard."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_lightning import Strategy, generate, tokenizers, weights
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.weights.exporting import export

transformers = pytest.importorskip("transformers")
SHAPES = [
    {"vocab_size": 61, "n_positions": 96, "n_embd": 32, "n_head": 4, "n_layer": 2},
    {"vocab_size": 257, "n_positions": 80, "n_embd": 48, "n_head": 3, "n_layer": 3},
    {"vocab_size": 61, "n_positions": 96, "n_embd": 32, "n_head": 1, "n_layer": 1},
    {"vocab_size": 100, "n_positions": 128, "n_embd": 64, "n_head": 8, "n_layer": 4, "tie_word_embeddings": False},
    {"vocab_size": 61, "n_positions": 96, "n_embd": 32, "n_head": 2, "n_layer": 2, "activation_function": "gelu"},
    pytest.param(
        {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12}, marks=pytest.mark.slow
    ),
]  # fmt: skip


def theirs(**shape):
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **ids)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # biais non nuls, matrices assez grandes pour varier
            parameter.add_(0.05 * torch.randn_like(parameter)) if "wpe" not in name else None
    return model


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape['n_embd']}x{shape['n_layer']}")
def pair(request, tmp_path):
    """Le modèle de transformers, et le nôtre lu dans le dossier qu'il a écrit."""
    model = theirs(**request.param)
    model.save_pretrained(tmp_path)
    return model, weights.load(str(tmp_path))[0]


def test_logits_are_the_same(pair):
    their, our = pair
    ids = torch.randint(their.config.vocab_size, (2, min(64, their.config.n_positions)))
    with torch.no_grad():
        assert (their(ids).logits - our(ids)).abs().max() <= 1e-4


def test_greedy_texts_are_the_same(pair):
    their, our = pair
    ids = torch.randint(1, their.config.vocab_size, (1, 8))
    expected = their.generate(ids, max_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(generate(our, ids, strategy=Strategy(temperature=0), max_new_tokens=64), expected)


def test_gradients_are_the_same(pair):
    their, our = pair
    ids = torch.randint(their.config.vocab_size, (2, 33))
    loss = torch.nn.functional.cross_entropy(their(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    our.loss(ids[:, :-1], ids[:, 1:]).backward()
    expected = weights.huggingface.state_from(
        {name: p.grad for name, p in their.named_parameters()}, our.config
    )
    total = torch.cat([grad.flatten() for grad in expected.values()]).norm()
    for name, parameter in our.named_parameters():
        # le biais des clés a un gradient nul en théorie (le softmax l'ignore) : il n'en reste que de l'arrondi
        scale = total if name.endswith("W_key.bias") else expected[name].norm()
        assert (parameter.grad - expected[name]).norm() <= 1e-5 * scale, name


def model(**values) -> GPTModel:
    torch.manual_seed(1)
    small = {"vocab_size": 50257, "context_length": 32, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
    one = GPTModel(GPTConfig(**{**small, **values})).eval()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return one


OPTIONS = [
    {},
    {"tie_weights": False},
    {"qkv_bias": False},
    {"bias": False},
    {"activation": "gelu"},
    {"vocab_padding": 64},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_export_opens_in_transformers_and_comes_back_identical(options, tmp_path):
    our = model(**options)
    export(our, tokenizers.gpt2(), tmp_path / "sortie", "hf")
    their = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "sortie", local_files_only=True).eval()
    ids = torch.randint(50257, (2, 32))
    with torch.no_grad():
        assert (their(ids).logits - our(ids)).abs().max() <= 1e-4
    again, tokenizer = weights.load(str(tmp_path / "sortie"))
    before, after = our.state_dict(), again.state_dict()
    assert before.keys() == after.keys() and tokenizer.vocab_size == 50257
    assert all(torch.equal(before[name][: len(after[name])], after[name]) for name in after)


@pytest.fixture(scope="module")
def exported_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "sortie"
    export(model(), tokenizers.gpt2(), folder, "hf")
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_the_exported_tokenizer_is_ours(exported_tokenizer, text):
    if "<|endoftext|>" not in text:
        assert exported_tokenizer.encode(text) == tokenizers.gpt2().encode(text)


@pytest.mark.parametrize(
    "option", [{"norm": "rmsnorm"}, {"activation": "swiglu"}, {"positions": "rope"}], ids=str
)
def test_what_gpt2_does_not_have_is_refused_by_name(option, tmp_path):
    ((key, value),) = option.items()
    with pytest.raises(ValueError, match=f"model.{key}={value}"):
        export(model(**option), tokenizers.gpt2(), tmp_path / "sortie", "hf")
    assert not (tmp_path / "sortie").exists()


def test_shards_and_files_without_prefix_are_read(tmp_path):
    their = theirs(**SHAPES[0])
    their.save_pretrained(tmp_path / "fragments", max_shard_size="20KB")
    assert (tmp_path / "fragments" / "model.safetensors.index.json").exists()
    their.transformer.save_pretrained(tmp_path / "nu")
    whole = weights.huggingface.state_from(
        their.state_dict(), weights.load(str(tmp_path / "fragments"))[0].config
    )
    for folder in ("fragments", "nu"):
        state = weights.load(str(tmp_path / folder))[0].state_dict()
        assert all(torch.equal(state[name], whole[name]) for name in state)


def edited(folder, **values) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    return str(folder)


@pytest.mark.parametrize(
    "values, why",
    [
        ({"model_type": "llama"}, "llama"),
        ({"activation_function": "relu"}, "relu"),
        ({"n_inner": 7}, "forme"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"n_embd": 48}, "forme"),
        ({"n_layer": 3}, "manque le tenseur trf_blocks.2"),
    ],
)
def test_another_architecture_is_refused_by_name(tmp_path, values, why):
    theirs(**SHAPES[0]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=why):
        weights.load(edited(tmp_path, **values))


def test_folders_that_are_not_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="config.json"):
        weights.load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="model.safetensors"):
        weights.load(str(tmp_path))


def test_the_hub_without_network_is_said(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="hf:personne/rien"):
        weights.load("hf:personne/rien")
