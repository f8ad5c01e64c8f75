"""Les adaptateurs de peft, dans les deux sens : les mêmes logits, ou une phrase qui nomme ce qui n'existe pas ici."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt_lightning import weights
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.lora import LoRAConfig, adapt, is_adapter, merge
from gpt_lightning.tokenizers import TrainedTokenizer
from gpt_lightning.tokenizers.template import template_for
from gpt_lightning.weights import format as form
from gpt_lightning.weights.adapters import fingerprint
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.loading import load_and_describe
from tests.conftest import TEXT

SMALL = {
    "vocab_size": 61,
    "context_length": 24,
    "emb_dim": 42,
    "n_heads": 7,
    "n_layers": 3,
    "vocab_padding": 64,
}
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope", "bias": False, "qkv_bias": False,
         "hidden_dim": 75, "n_kv_heads": 1}  # fmt: skip
FAMILIES = {
    "gpt2": {"hidden_dim": 75},
    "gpt2-délié": {"tie_weights": False, "bias": False},
    "llama": LLAMA,
    "mistral": LLAMA | {"emb_dim": 52, "head_dim": 24, "n_kv_heads": 7, "tie_weights": False},
    "qwen2": LLAMA | {"qkv_bias": True},
    "qwen3": LLAMA | {"qk_norm": True, "head_dim": 10},
}
LORAS = [
    {},
    {"modules": ("all",), "rank": 3, "alpha": 5.0, "rslora": True},
    {"modules": ("out_proj", "trf_blocks.1.att.W_key"), "rank": 5, "alpha": 3.0},
    {"modules": ("layers.0", "W_value"), "rank": 1, "drop_rate": 0.1},
]


def learned(values: dict, lora: LoRAConfig):
    """Une base, le modèle adapté, et sa description."""
    torch.manual_seed(0)
    base = GPTModel(GPTConfig(**SMALL | values), draw=True).eval()
    model = adapt(copy.deepcopy(base), lora).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.normal_(std=0.1)
    description = form.Description(
        base.config, None, lora=lora, base=fingerprint(base.state_dict(), base.config)
    )
    return base, model, description


def written(tmp_path, values: dict, lora: LoRAConfig):
    """(le dossier de peft, celui de sa base, le modèle adapté)."""
    base, model, description = learned(values, lora)
    export(base, None, tmp_path / "base", "hf")
    state = model.state_dict()
    plain = GPTModel(base.config, draw=False)
    plain.load_state_dict(merge(state, lora))
    export(plain, None, tmp_path / "peft", "peft", description, adapted=state)
    return tmp_path / "peft", tmp_path / "base", model


def some_ids(count: int = 2):
    return torch.randint(61, (count, 20), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name, lora",
    [
        pytest.param(name, lora, marks=[] if (i + j) % 4 == 0 else pytest.mark.slow, id=f"{name}-{lora}")
        for i, name in enumerate(FAMILIES)
        for j, lora in enumerate(LORAS)
    ],
)
def test_what_leaves_comes_back(name, lora, tmp_path):
    folder, base, model = written(tmp_path, FAMILIES[name], LoRAConfig(**lora))
    loaded = load_and_describe(str(folder), base=str(base))
    torch.testing.assert_close(loaded.model(some_ids()), model(some_ids()), atol=1e-5, rtol=1e-5)
    again = loaded.description.lora
    assert (again.rank, again.rslora, again.drop_rate) == tuple(
        getattr(model_lora := LoRAConfig(**lora), key) for key in ("rank", "rslora", "drop_rate")
    )
    assert again.alpha == pytest.approx(model_lora.alpha)
    for key, tensor in model.state_dict().items():  # une matrice jointe rend ses parts
        if is_adapter(key):
            assert torch.equal(loaded.adapted[key], tensor), key
    export(loaded.model, None, tmp_path / "encore", "peft", loaded.description, adapted=loaded.adapted)
    first, second = (load_file(path / "adapter_model.safetensors") for path in (folder, tmp_path / "encore"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_gpt2_joins_its_three_matrices_and_llama_keeps_its_own(tmp_path):
    folder, _, _ = written(tmp_path / "gpt2", {}, LoRAConfig(rank=4, alpha=6.0))
    values = json.loads((folder / "adapter_config.json").read_text())
    assert (values["r"], values["lora_alpha"], values["target_modules"]) == (12, 18.0, ["c_attn"])
    assert values["fan_in_fan_out"] and not values["rank_pattern"]
    b = load_file(folder / "adapter_model.safetensors")[
        "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"
    ]
    blocks = b.view(3, 42, 3, 4)
    assert all(bool(blocks[i, :, j].any()) == (i == j != 1) for i in range(3) for j in range(3))
    folder, _, _ = written(tmp_path / "llama", LLAMA, LoRAConfig(rank=4, alpha=6.0))
    values = json.loads((folder / "adapter_config.json").read_text())
    assert (values["r"], values["lora_alpha"], values["target_modules"]) == (4, 6.0, ["q_proj", "v_proj"])
    assert not values["fan_in_fan_out"]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Un dossier de peft qui n'est pas des nôtres, et sa base, qu'il nomme."""
    folder, base, _ = written(
        tmp_path_factory.mktemp("ailleurs"), LLAMA, LoRAConfig(modules=("W_query",), rank=3)
    )
    (folder / "gpt_lightning.json").unlink()
    set_keys(folder, base_model_name_or_path=str(base))
    return folder


def set_keys(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


@pytest.fixture
def copied(foreign, tmp_path):
    return shutil.copytree(foreign, tmp_path / "peft")


def test_its_base_is_the_one_it_names_or_base_path(copied, foreign):
    expected, _ = weights.load(str(copied))
    file, _ = weights.load(str(copied / "adapter_model.safetensors"))
    base = json.loads((copied / "adapter_config.json").read_text())["base_model_name_or_path"]
    for named in (None, "personne/modele", ""):
        set_keys(copied, base_model_name_or_path=named)
        with pytest.raises(UserError, match=r"base_path=hf:personne/modele" if named else r"base_path=\."):
            weights.load(str(copied))
        model, _ = weights.load(str(copied), base=base)
        assert torch.equal(model(some_ids()), expected(some_ids()))
    assert torch.equal(file(some_ids()), expected(some_ids()))
    set_keys(copied, base_model_name_or_path=str(copied))
    with pytest.raises(UserError, match="est sa propre base"):
        weights.load(str(copied))
    start = weights.starting_point(str(copied), {"drop_rate": 0.0, "kernels": "fused"}, base=base).build(61)
    torch.testing.assert_close(start.eval()(some_ids()), expected(some_ids()))


def test_a_name_of_the_hub_is_read_like_a_folder(copied, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, allow_patterns: (
            copied if {"adapter_config.json", "adapter_model.*"} < {*allow_patterns} else ""
        ),
    )
    expected, _ = weights.load(str(copied))
    assert torch.equal(weights.load("hf:personne/adaptateurs")[0](some_ids()), expected(some_ids()))


def test_a_template_saved_beside_replaces_the_one_of_the_base(copied, tmp_path):
    tokenizer = template_for("chatml", TrainedTokenizer(size=280).fit([TEXT])).tokenizer
    torch.manual_seed(0)
    base = GPTModel(GPTConfig(**SMALL | LLAMA | {"vocab_size": tokenizer.vocab_size})).eval()
    for kind, name in ((None, "base"), ("chatml", "tokenizer")):
        said = form.Description(
            base.config, tokenizer, task="instruct" if kind else "text", template=kind or ""
        )
        export(base, None, tmp_path / name, "hf", said)
        (tmp_path / name / "gpt_lightning.json").unlink()
    assert not load_and_describe(str(copied), base=str(tmp_path / "base")).description.template
    for name in ("tokenizer_config.json", "vocab.json", "merges.txt"):
        shutil.copy(tmp_path / "tokenizer" / name, copied)
    loaded = load_and_describe(str(copied), base=str(tmp_path / "base"))
    assert loaded.description.template == "chatml" and loaded.description.task == "instruct"


def test_adapters_alone_do_not_lose_a_base_that_is_in_two_places(copied):
    from gpt_lightning.training import checks

    start = weights.starting_point(str(copied), {"drop_rate": 0.0, "kernels": "fused"})
    typed = [f"init_from={copied}", "lora=default", "lora.save=adapters"]
    checks.refuse_settled_by_weights(typed, start)  # peft nomme sa base : elle se retrouve
    with pytest.raises(UserError, match=f"export ckpt_path={copied} base_path=la_base to=ma_base"):
        checks.refuse_settled_by_weights([*typed, "base_path=la_base"], start)


REFUSED = [
    {"use_dora": True}, {"bias": "all"}, {"bias": "lora_only"}, {"modules_to_save": ["lm_head"]},
    {"lora_bias": True}, {"peft_type": "IA3"}, {"peft_type": None}, {"task_type": "SEQ_CLS"},
    {"layer_replication": [[0, 2]]}, {"trainable_token_indices": [3]}, {"alora_invocation_tokens": [1]},
    {"use_qalora": True}, {"use_bdlora": {"nblocks": 2}}, {"arrow_config": {"top_k": 3}},
    {"kasa_config": {"beta": 1}}, {"velora_config": {"scale": 1}}, {"monteclora_config": {"num_samples": 8}},
    {"target_parameters": ["experts"]}, {"megatron_config": {"a": 1}}, {"init_lora_weights": "pissa"},
    {"init_lora_weights": "loftq"}, {"layers_pattern": "blocs"}, {"layers_to_transform": "1"},
    {"exclude_modules": ".*"}, {"rank_pattern": {"(a+)+": 3}}, {"alpha_pattern": [1]}, {"use_rslora": 3},
    {"lora_dropout": 1.5}, {"r": 0}, {"r": True}, {"lora_alpha": 0}, {"lora_alpha": "8"}, {"une_cle_de_demain": True},
]  # fmt: skip


@pytest.mark.parametrize("values", REFUSED, ids=str)
def test_every_other_key_is_refused_by_its_name(values, copied):
    set_keys(copied, **values)
    (key,) = values
    with pytest.raises(UserError, match=key) as error:
        weights.load(str(copied))
    assert str(copied) in str(error.value)


def test_a_key_of_tomorrow_that_nothing_turns_on_changes_nothing(copied):
    expected, _ = weights.load(str(copied))
    set_keys(copied, une_cle_de_demain=None, use_dora=False, modules_to_save=[], fan_in_fan_out=True)
    assert torch.equal(weights.load(str(copied))[0](some_ids()), expected(some_ids()))


@pytest.mark.parametrize(
    "values",
    [
        {"layers_to_transform": [0, 1]},
        {"layers_to_transform": 0},
        {"exclude_modules": ["q_proj"]},
        {"target_modules": ["v_proj"]},
        {"target_modules": None},
        {"r": 4},
        {"rank_pattern": {"q_proj": 2}},
    ],
    ids=str,
)
def test_settings_that_the_tensors_deny_are_refused(values, copied):
    set_keys(copied, **values)
    with pytest.raises(UserError, match="q_proj"):
        weights.load(str(copied))


def test_ranks_that_zeros_would_make_huge_are_refused(copied):
    file = copied / "adapter_model.safetensors"
    tensors = load_file(file)
    first = next(name for name in tensors if name.endswith("layers.0.self_attn.q_proj.lora_A.weight"))
    for name in tensors:  # rang 1 partout, sauf une matrice
        rank = 5000 if name.startswith(first.removesuffix("A.weight")) else 1
        shape = (rank, 42) if name.endswith("A.weight") else (42, rank)
        tensors[name] = torch.zeros(shape)
    for layer in range(3):
        for leaf, inputs, outputs in (("up_proj", 42, 75), ("gate_proj", 42, 75), ("down_proj", 75, 42)):
            name = f"base_model.model.model.layers.{layer}.mlp.{leaf}.lora_"
            tensors |= {f"{name}A.weight": torch.zeros(1, inputs), f"{name}B.weight": torch.zeros(outputs, 1)}
    save_file(tensors, file)
    set_keys(copied, r=1, target_modules=["q_proj", "up_proj", "gate_proj", "down_proj"])
    set_keys(copied, rank_pattern={"layers.0.self_attn.q_proj": 5000})
    with pytest.raises(UserError, match="rank_pattern donne des rangs trop inégaux : le plus grand, 5000"):
        weights.load(str(copied))


def test_a_folder_of_both_kinds_and_another_base_are_refused(copied, tmp_path):
    save_file({"a": torch.zeros(1)}, copied / "model.safetensors")
    with pytest.raises(UserError, match="un modèle entier et des adaptateurs"):
        weights.load(str(copied))
    folder, _, _ = written(tmp_path / "deux", {}, LoRAConfig())
    other, _, _ = learned({"bias": False}, LoRAConfig())
    export(other, None, tmp_path / "autre", "hf")
    with pytest.raises(UserError, match="a été appris sur un autre modèle"):
        weights.load(str(folder), base=str(tmp_path / "autre"))
    with pytest.raises(UserError, match="donnez-la avec base_path="):
        weights.load(str(folder))


def test_what_peft_cannot_say_is_refused(tmp_path):
    lora = LoRAConfig()
    base, model, description = learned({"norm": "rmsnorm"}, lora)
    state = model.state_dict()
    with pytest.raises(UserError, match="Aucune famille"):
        export(base, None, tmp_path / "a", "peft", description, adapted=state)
    classifies = description._replace(config=GPTConfig(**SMALL), task="classify", labels=("a", "b"))
    with pytest.raises(UserError, match="tête de classification"):
        export(base, None, tmp_path / "a", "peft", classifies, adapted=state)
    with pytest.raises(UserError, match="format=peft demande des adaptateurs"):
        export(base, None, tmp_path / "a", "peft")
    with pytest.raises(UserError, match="format=peft écrit les adaptateurs à part"):
        export(base, None, tmp_path / "a", "peft", description, adapted=state, merge=True)
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lora", LORAS, ids=str)
def test_peft_opens_what_is_written(name, lora, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    folder, base, model = written(tmp_path, FAMILIES[name], LoRAConfig(**lora))
    their = transformers.AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    adapted = peft.PeftModel.from_pretrained(their, folder).eval()
    saved = load_file(folder / "adapter_model.safetensors")
    assert peft.get_peft_model_state_dict(adapted).keys() == saved.keys()
    with torch.no_grad():
        torch.testing.assert_close(adapted(some_ids()).logits, model(some_ids()), atol=1e-5, rtol=1e-5)


SETTINGS = {
    "gpt2": {"target_modules": ["c_attn", "c_fc", "c_proj"], "r": 5, "lora_alpha": 3},
    "gpt2-délié": {"target_modules": ["c_attn"], "r": 7, "lora_alpha": 9, "use_rslora": True},
    "llama": {"target_modules": "all-linear", "r": 3, "lora_alpha": 7, "lora_dropout": 0.1},
    "mistral": {
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "r": 4,
        "rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 6},
        "alpha_pattern": {"up_proj": 3},
    },
    "qwen2": {
        "target_modules": r".*\.(k|o)_proj",
        "r": 2,
        "use_rslora": True,
        "alpha_pattern": {"k_proj": 31},
    },
    "qwen3": {
        "target_modules": ["q_proj", "gate_proj", "down_proj"],
        "layers_to_transform": [0, 2],
        "exclude_modules": ["down_proj"],
        "init_lora_weights": False,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_what_peft_writes_is_read(name, safe, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base, _, _ = learned(FAMILIES[name], LoRAConfig())
    export(base, None, tmp_path / "base", "hf")
    their = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    model = peft.get_peft_model(their, peft.LoraConfig(task_type="CAUSAL_LM", **SETTINGS[name])).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_(std=0.1)
        model.save_pretrained(tmp_path / "peft", safe_serialization=safe)
        assert (tmp_path / "peft" / "adapter_model.safetensors").exists() == safe
        our, _ = weights.load(str(tmp_path / "peft"))  # sa base est le dossier qu'il nomme
        torch.testing.assert_close(our(some_ids()), model(some_ids()).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_peft_may_adapt_a_model_without_its_head_and_write_in_half(name, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base, _, _ = learned(FAMILIES[name], LoRAConfig())
    export(base, None, tmp_path / "base", "hf")
    their = transformers.AutoModel.from_pretrained(tmp_path / "base", attn_implementation="eager")
    model = peft.get_peft_model(their, peft.LoraConfig(target_modules="all-linear", r=3)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn_like(parameter).mul(0.1).half())
        model.save_pretrained(tmp_path / "peft")
        file = tmp_path / "peft" / "adapter_model.safetensors"
        save_file({key: tensor.half() for key, tensor in load_file(file).items()}, file)
        our, _ = weights.load(str(tmp_path / "peft"))
        expected = model(some_ids()).last_hidden_state
        torch.testing.assert_close(our.hidden(some_ids()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["lm_head", "q_proj"]},
    ],
    ids=str,
)
def test_what_peft_writes_and_is_not_here_is_named(values, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base, _, _ = learned(LLAMA | {"tie_weights": False}, LoRAConfig())
    export(base, None, tmp_path / "base", "hf")
    their = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], **values})
    peft.get_peft_model(their, config).save_pretrained(tmp_path / "peft")
    named = "lm_head" if "target_modules" in values else next(iter(values))
    with pytest.raises(UserError, match=named):
        weights.load(str(tmp_path / "peft"))
