"""GPT-2, Llama, Mistral, Qwen2 et Qwen3 de transformers, poids tirés au hasard, formes impaires : les mêmes nombres."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from gpt_lightning import Strategy, generate, weights
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.tasks import LABELS
from gpt_lightning.weights import format as form
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.huggingface import state_from
from tests.conftest import ROOT, TEXT
from tests.test_conf import composed

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
ODD = {"vocab_size": 101, "hidden_size": 52, "num_attention_heads": 7, "head_dim": 24, "num_hidden_layers": 1,
       "intermediate_size": 75, "max_position_embeddings": 96, "rope_theta": 5000.0}  # fmt: skip
PLAIN = {"vocab_size": 67, "hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
         "intermediate_size": 128, "num_hidden_layers": 3, "max_position_embeddings": 96,
         "tie_word_embeddings": True}  # fmt: skip
GPT2 = {"vocab_size": 101, "n_positions": 96, "n_embd": 63, "n_head": 7, "n_layer": 1, "n_inner": 75,
        "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
CASES = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied": ("GPT2", GPT2 | {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-6}),
    "llama-1": ("Llama", ODD | {"hidden_size": 56, "num_key_value_heads": 1}),  # Llama veut un partage entier
    "llama-7": ("Llama", ODD | {"hidden_size": 63, "num_key_value_heads": 7, "rms_norm_eps": 1e-5}),
    "llama-plain": ("Llama", PLAIN),
    "mistral-1": ("Mistral", ODD | {"num_key_value_heads": 1, "sliding_window": None}),
    "mistral-7": ("Mistral", ODD | {"num_key_value_heads": 7, "sliding_window": 4096}),
    "qwen2-1": ("Qwen2", ODD | {"num_key_value_heads": 1}),
    "qwen2-7": ("Qwen2", ODD | {"num_key_value_heads": 7, "tie_word_embeddings": True}),
    "qwen2-plain": ("Qwen2", PLAIN),
    "qwen3-1": ("Qwen3", ODD | {"num_key_value_heads": 1}),
    "qwen3-7": ("Qwen3", ODD | {"num_key_value_heads": 7, "tie_word_embeddings": True}),
    "qwen3-plain": ("Qwen3", PLAIN | {"rope_theta": 1e6}),
}
MOST = 3e-6  # fois le plus grand logit


def theirs(name: str, shape: dict):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**shape, attn_implementation="eager")
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biais non nuls, matrices assez grandes pour varier
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """Le modèle de transformers, et le nôtre lu dans le dossier qu'il a écrit."""
    model, folder = theirs(*CASES[request.param]), tmp_path_factory.mktemp("hf")
    model.save_pretrained(folder)
    return model, weights.load(str(folder))[0]


def close(ours, expected) -> None:
    assert (ours - expected).abs().max() <= MOST * max(1.0, float(expected.abs().max()))


def test_logits_are_the_same(pair):
    their, our = pair
    ids = torch.randint(their.config.vocab_size, (3, 96))
    with torch.no_grad():
        close(our(ids), their(ids).logits)


def test_loss_and_gradients_are_the_same(pair):
    their, our = pair
    ids = torch.randint(their.config.vocab_size, (2, 65))
    loss = torch.nn.functional.cross_entropy(their(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    ours = our.loss(ids[:, :-1], ids[:, 1:])
    ours.backward()
    assert (ours - loss).abs() <= 1e-5 * loss
    expected = state_from({name: p.grad for name, p in their.named_parameters()}, our.config)
    total = torch.cat([grad.flatten() for grad in expected.values()]).norm()
    for name, parameter in our.named_parameters():
        # le biais des clés a un gradient nul en théorie (le softmax l'ignore) : il n'en reste que de l'arrondi
        scale = total if name.endswith("W_key.bias") else expected[name].norm()
        assert (parameter.grad - expected[name]).norm() <= 1e-5 * scale, name
    our.zero_grad()


@pytest.mark.parametrize("cache", [True, False])
def test_greedy_texts_are_the_same_in_a_padded_batch(pair, cache):
    their, our = pair
    prompts = [torch.randint(1, their.config.vocab_size, (n,)).tolist() for n in (3, 17, 9)]
    padded = torch.tensor([[0] * (17 - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (17 - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    expected = their.generate(
        padded,
        attention_mask=mask,
        max_new_tokens=48,
        do_sample=False,
        use_cache=cache,
        eos_token_id=None,
        pad_token_id=0,
    )
    written = generate(our, prompts, strategy=Strategy(temperature=0), max_new_tokens=48)
    assert [row[-48:] for row in written] == expected[:, -48:].tolist()


def test_it_leaves_and_comes_back(pair, tmp_path):
    their, our = pair
    export(our, None, tmp_path / "sortie", "hf")
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "sortie", attn_implementation="eager"
    ).eval()
    expected = their.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())
    ids = torch.randint(their.config.vocab_size, (1, 50))
    with torch.no_grad():
        close(again(ids).logits, their(ids).logits)
    (tmp_path / "sortie" / "gpt_lightning.json").unlink()  # config.json suffit
    assert weights.load(str(tmp_path / "sortie"))[0].config == our.config


def folder_of(to, name="Qwen3", **shape):
    theirs(name, PLAIN | shape).save_pretrained(to)
    return to


def edited(folder, **values) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    return str(folder)


def test_files_of_before_and_of_now_say_the_same(tmp_path):
    """transformers 4 écrivait rope_theta et torch_dtype, transformers 5 rope_parameters et dtype."""
    now = weights.load(str(folder_of(tmp_path, rope_theta=7000.0)))[0].config
    before = {
        "rope_parameters": None,
        "rope_scaling": None,
        "rope_theta": 7000.0,
        "dtype": None,
        "torch_dtype": "float32",
    }
    assert now.rope_base == 7000 and weights.load(edited(tmp_path, **before))[0].config == now
    assert weights.load(edited(tmp_path, rope_theta=None))[0].config.rope_base == 10_000


WINDOWS = [
    ("Mistral", {"sliding_window": None}, 96),
    ("Mistral", {"sliding_window": 96}, 96),
    ("Mistral", {"sliding_window": 24}, 24),
    ("Qwen2", {"sliding_window": 24, "use_sliding_window": False}, 96),
    ("Qwen2", {"sliding_window": 24, "use_sliding_window": True, "max_window_layers": 3}, 96),
    ("Qwen2", {"sliding_window": 24, "use_sliding_window": True, "max_window_layers": 2}, 24),
    ("Qwen3", {"sliding_window": 24, "use_sliding_window": True, "max_window_layers": 0}, 24),
]


@pytest.mark.parametrize("spelled", [True, False], ids=["layer_types", "sans layer_types"])
@pytest.mark.parametrize("name, window, context", WINDOWS, ids=str)
def test_a_window_that_serves_cuts_the_context_and_says_so(name, window, context, spelled, tmp_path, caplog):
    folder = folder_of(tmp_path, name, **window)
    our = weights.load(str(folder) if spelled else edited(folder, layer_types=None, **window))[0]
    assert our.config.context_length == context
    assert (f"context_length={context} au lieu de 96" in caplog.text) == (context < 96)
    ids = torch.randint(67, (2, context))
    with torch.no_grad():
        close(our(ids), theirs(name, PLAIN | window)(ids).logits)


BEYOND = [
    ("Llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "Llama 3.1 et 3.2.*rope_scaling=llama3"),
    ("Llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling=linear"),
    ("Qwen2", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "rope_scaling=yarn"),
    ("Qwen2", {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_parameters"),
    ("Llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
    ("Llama", {"partial_rotary_factor": 0.25}, "partial_rotary_factor"),
    ("Llama", {"attention_bias": True}, "attention_bias=True"),
    ("Llama", {"mlp_bias": True}, "mlp_bias=True"),
    ("Qwen3", {"attention_bias": True}, "attention_bias=True"),
    ("Mistral", {"hidden_act": "gelu"}, "hidden_act=gelu"),
    ("Qwen2", {"hidden_act": "relu", "final_logit_softcapping": 30.0}, "soft-capping.*hidden_act=relu"),
    ("Llama", {"quantization_config": {"quant_method": "gptq"}}, "quantifiés"),
    ("Mistral", {"num_local_experts": 8, "model_type": "mixtral"}, "mixtral.*experts"),
    ("Qwen3", {"layer_types": ["full_attention", "linear_attention", "full_attention"]}, "linear_attention"),
    ("Llama", {"model_type": "gemma2", "attn_logit_softcapping": 50.0}, "gemma2.*soft-capping"),
    ("Llama", {"model_type": "phi3"}, "phi3.*gpt2, llama, mistral, qwen2, qwen3"),
    ("Llama", {"model_type": "qwen2"}, "W_query.bias"),
    ("Qwen2", {"model_type": "llama"}, "proj.bias n'a pas de place"),
    ("Qwen3", {"model_type": "mistral"}, "norm.weight n'a pas de place"),
    ("Llama", {"num_key_value_heads": 4}, "W_key.weight a la forme"),
    ("Llama", {"hidden_size": "grand"}, "emb_dim"),
    ("Llama", {"num_hidden_layers": 2}, "model.layers.2.*n'a pas de place"),
]  # fmt: skip


@pytest.mark.parametrize("name, values, why", BEYOND, ids=str)
def test_what_it_has_and_we_have_not_is_refused_by_name(name, values, why, tmp_path):
    with pytest.raises(UserError, match=why) as error:
        weights.load(edited(folder_of(tmp_path, name), **values))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


STRANGE = [None, True, -1, 0, 7, 2.5, 1e300, 10**30, "7", "", [], [1], {}, {"rope_type": []}]


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_whatever_config_says_the_answer_is_a_model_or_a_sentence(name, tmp_path):
    folder_of(tmp_path, name, num_hidden_layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in (*config, "rope_scaling", "rope_theta", "sliding_window"):
        for value in STRANGE:
            (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
            try:
                model, _ = weights.load(str(tmp_path))
            except UserError as error:
                assert "\n" not in str(error)
            else:
                with torch.no_grad():
                    assert model(torch.zeros(1, 2, dtype=torch.int64)).shape == (
                        1,
                        2,
                        model.config.vocab_size,
                    )


MODERN = {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope", "bias": False, "qkv_bias": False}
SMALL = {"vocab_size": 61, "context_length": 32, "emb_dim": 24, "n_heads": 4, "n_layers": 2}


def ours(**values) -> GPTModel:
    torch.manual_seed(1)
    return GPTModel(GPTConfig(**{**SMALL, **values})).eval()


@pytest.mark.parametrize(
    "values, kind",
    [
        ({}, "gpt2"),
        ({"hidden_dim": 50, "norm_eps": 1e-6}, "gpt2"),
        (MODERN, "llama"),
        (MODERN | {"n_kv_heads": 2, "tie_weights": False, "vocab_padding": 64}, "llama"),
        (MODERN | {"head_dim": 10, "n_heads": 5, "hidden_dim": 33}, "mistral"),
        (MODERN | {"qkv_bias": True, "n_kv_heads": 1, "rope_base": 1e6}, "qwen2"),
        (MODERN | {"qk_norm": True, "head_dim": 10, "norm_eps": 1e-6}, "qwen3"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_export_writes_the_family_that_it_is(values, kind, dtype, tmp_path):
    our = ours(**values).to(dtype)
    export(our, None, tmp_path / "sortie", "hf")
    their = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "sortie", attn_implementation="eager"
    ).eval()
    assert their.config.model_type == kind and their.dtype == dtype
    again = weights.load(str(tmp_path / "sortie"))[0]
    assert all(tensor.dtype == dtype for tensor in again.state_dict().values())
    ids = torch.randint(61, (2, 32))
    with torch.no_grad():
        close(our.float()(ids), their.float()(ids).logits)
        assert torch.equal(again.float()(ids), our(ids))


@pytest.mark.parametrize("name", ["modern", "modern124m", "smol135m", "qwen3_0_6b"])
def test_the_shapes_of_conf_leave_as_they_are(name, tmp_path):
    """Celles d'aujourd'hui, en plus petit : mêmes têtes et même nombre de têtes de K et V."""
    shape = composed("train", f"model={name}", "model.n_layers=2", "model.emb_dim=144")["model"]
    our = ours(**{**shape, "vocab_size": 61, "context_length": 32})
    export(our, None, tmp_path / "sortie", "hf")
    their = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "sortie", attn_implementation="eager"
    ).eval()
    ids = torch.randint(61, (2, 32))
    with torch.no_grad():
        close(our(ids), their(ids).logits)


@pytest.mark.parametrize(
    "values, asked",
    [
        ({"norm": "rmsnorm"}, ["gpt2", "model.norm=layernorm"]),
        ({"qk_norm": True}, ["gpt2", "model.qk_norm=false au lieu de model.qk_norm=true"]),
        ({"n_kv_heads": 2}, ["gpt2", "model.n_kv_heads=null"]),
        ({"norm": "rmsnorm", "activation": "swiglu", "positions": "rope"}, ["qwen2", "model.bias=false"]),
        (MODERN | {"bias": True}, ["llama", "model.bias=false"]),
        (MODERN | {"qk_norm": True, "qkv_bias": True}, ["model.qk_norm=false"]),
        (MODERN | {"activation": "gelu"}, ["llama", "model.activation=swiglu"]),
    ],
    ids=str,
)
def test_a_mixture_that_no_family_has_names_what_to_change(values, asked, tmp_path):
    with pytest.raises(UserError) as error:
        export(ours(**values), None, tmp_path / "sortie", "hf")
    assert all(words in str(error.value) for words in asked) and not (tmp_path / "sortie").exists()


@pytest.mark.parametrize("values", [{}, MODERN, MODERN | {"qkv_bias": True, "tie_weights": False}], ids=str)
def test_a_classifier_leaves_and_comes_back(values, tmp_path):
    torch.manual_seed(2)
    our = GPTClassifier(GPTConfig(**SMALL | values), 3).eval()
    description = form.Description(our.config, None, task=LABELS.name, labels=("a", "b", "c"))
    export(our, None, tmp_path / "sortie", "hf", description)
    their = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "sortie").eval()
    ids = torch.randint(61, (2, 20))
    their.config.pad_token_id = 1 << 20  # rien n'est du remplissage
    with torch.no_grad():
        close(our.classify(ids, torch.tensor([19, 39])), their(ids).logits)
    their.save_pretrained(tmp_path / "rendu")
    again = weights.load(str(tmp_path / "rendu"))[0]
    assert isinstance(again, GPTClassifier) and torch.equal(again.class_head.weight, our.class_head.weight)


def test_bf16_stays_and_a_mixture_of_types_is_float32(tmp_path):
    model = theirs("Qwen3", PLAIN).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "bf16", max_shard_size="30KB")
    assert len(list((tmp_path / "bf16").glob("*.safetensors"))) > 2
    model.half().save_pretrained(tmp_path / "fp16")
    model.bfloat16().model.norm.float()
    model.save_pretrained(tmp_path / "mixte")
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float32), ("mixte", torch.float32)):
        our = weights.load(str(tmp_path / name))[0]
        assert {tensor.dtype for tensor in our.state_dict().values()} == {dtype}
    start = weights.starting_point(str(tmp_path / "bf16"), {"drop_rate": 0.0, "kernels": "fused"}).build(67)
    assert {tensor.dtype for tensor in start.state_dict().values()} == {torch.float32}  # l'entraînement


@pytest.fixture
def folder(tmp_path):
    """Un Qwen3 en bf16, et un tokenizer à lui."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    special = {"special_tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "show_progress": False}
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, **special)
    tokenizer.train_from_iterator([TEXT], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    fast.save_pretrained(tmp_path / "qwen")
    theirs("Qwen3", PLAIN | {"vocab_size": len(fast)}).to(torch.bfloat16).save_pretrained(tmp_path / "qwen")
    return tmp_path / "qwen"


def test_a_name_of_the_hub_brings_all_that_a_folder_has(folder, tmp_path, monkeypatch):
    def snapshot_download(name, allow_patterns):
        assert name == "personne/qwen"
        (tmp_path / "cache").mkdir()
        for path in folder.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, tmp_path / "cache")
        return str(tmp_path / "cache")

    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "optimizer.pt").write_text("lourd")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model, tokenizer = weights.load("hf:personne/qwen")
    expected, same = weights.load(str(folder))
    assert model.config == expected.config and tokenizer.state() == same.state()
    brought = {path.name for path in (tmp_path / "cache").iterdir()}
    assert {path.name for path in folder.iterdir()} - brought <= {"optimizer.pt", "generation_config.json"}


@pytest.mark.slow
def test_it_learns_in_float32_and_leaves_with_its_tokenizer(folder, command, tmp_path):
    """Des adaptateurs gardés seuls, sur une base en bf16 ; le tout exporté dans sa famille."""
    (tmp_path / "texte.txt").write_text(TEXT, encoding="utf-8")
    small = [
        "data.max_length=32",
        "data.batch_size=4",
        "trainer.max_steps=4",
        "eval_every=2",
        "callbacks.sample=null",
    ]
    typed = [f"init_from={folder}", "data=text", f"data.path={tmp_path / 'texte.txt'}", *small]
    done = command("train.py", *typed, "lora=default", "lora.save=adapters", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = []
    options = ["prompt=Le chat", "max_new_tokens=12", "decoding=greedy", "dtype=fp32", "device=cpu"]
    alone = [f"base_path={folder}"]
    for kind, base in (("hf", []), ("lora", alone), ("peft", alone), (None, [])):
        where = []
        if kind is not None:
            done = command("gpt_lightning", "export", f"format={kind}", f"to={kind}", cwd=tmp_path)
            assert done.returncode == 0 and "pas d'équivalent" not in done.stderr, done.stderr
            where = [f"ckpt_path={kind}"]
        done = command("generate.py", *options, *where, *base, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        written.append(done.stdout)
    assert len(written) == 4 and len({*written}) == 1
    their = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert their.dtype == torch.float32 and their.config.model_type == "qwen3"
    ids = tokenizer("Le chat", return_tensors="pt").input_ids
    row = their.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None)[0]
    assert tokenizer.decode(row).strip() == written[0].strip()


PEAK = """
import resource, sys, torch
from pathlib import Path
from gpt_lightning import weights
def most():
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss garde celui du processus d'avant
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = most()
model = weights.load(sys.argv[1])[0]
size = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
if sys.argv[2] == "écrire":
    weights.to_device(model, "cpu", "fp32")
total = sum(float(tensor.sum()) for tensor in model.parameters())  # chaque page est lue
print((most() - before) / size)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, dtype, until",
    [
        ("GPT2", "float32", "lire"),
        ("Qwen3", "float32", "lire"),
        ("Qwen3", "bfloat16", "lire"),
        ("Qwen3", "float16", "lire"),
        ("Qwen3", "float32", "écrire"),
    ],
)
def test_reading_holds_at_most_1_3_times_the_weights(name, dtype, until, tmp_path):
    """Et le modèle prêt à écrire, dont chaque matrice est rangée autrement : la sienne s'en va aussitôt."""
    sizes = {"vocab_size": 30_000, "hidden_size": 768, "num_hidden_layers": 12, "tie_word_embeddings": False}
    heads = {"intermediate_size": 2048, "num_attention_heads": 12, "num_key_value_heads": 4}
    config = getattr(transformers, f"{name}Config")(**sizes, **(heads if name != "GPT2" else {}))
    model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="200MB")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path), until],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert float(done.stdout.split()[-1]) <= 1.3
