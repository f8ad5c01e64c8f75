"""LoRA : au premier pas le modèle lui-même, puis la même chose que peft, et seules deux petites matrices apprennent."""

import copy

import pytest
import torch

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.lora import ALL, LoRAConfig, LoRALinear, adapt, is_adapter, merge
from gpt_lightning.model.trainable import TRAINED, learn_only, n_trainable

SHAPE = {"vocab_size": 61, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 3}
CONFIGS = [
    {},
    {"modules": ("all",), "rank": 3},
    {"modules": ("out_proj", "layers.2"), "rslora": True, "rank": 5, "alpha": 3},
]
MODELS = [{}, {"qkv_bias": False, "tie_weights": False}, {"activation": "swiglu", "norm": "rmsnorm"}]


def model(**options) -> GPTModel:
    torch.manual_seed(0)
    return GPTModel(GPTConfig(**SHAPE, **options)).eval()


def drawn(one: GPTModel) -> GPTModel:
    """Des adaptateurs qui ont appris quelque chose."""
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if is_adapter(name):
                parameter.normal_(std=0.2)
    return one


@pytest.fixture
def ids():
    return torch.randint(61, (2, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("values", CONFIGS, ids=str)
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_at_step_zero_it_is_the_base_exactly(values, options, ids):
    base = model(**options)
    assert torch.equal(adapt(copy.deepcopy(base), LoRAConfig(**values))(ids), base(ids))


@pytest.mark.parametrize("values", CONFIGS, ids=str)
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_merged_equals_unmerged(values, options, ids):
    config = LoRAConfig(**values)
    one = drawn(adapt(model(**options), config))
    before = one(ids)
    assert (before - model(**options)(ids)).abs().max() > 1e-3
    plain = GPTModel(one.config, draw=False)
    plain.load_state_dict(merge(one.state_dict(), config))
    torch.testing.assert_close(plain.eval()(ids), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", MODELS, ids=str)
@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_only_the_adapters_have_gradients_and_they_are_those_of_the_formula(options, kernels, ids):
    one = drawn(learn_only(adapt(model(**options, kernels=kernels), LoRAConfig(modules=("all",))), "lora"))
    one.loss(ids[:, :-1], ids[:, 1:]).backward()
    for name, parameter in one.named_parameters():
        assert (parameter.grad is not None) == is_adapter(name), name
    found = {name: p.grad.clone() for name, p in one.named_parameters() if p.grad is not None}
    everything = learn_only(one, "all")
    everything.zero_grad()
    logits = everything(ids[:, :-1])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, everything.get_parameter(name).grad, atol=1e-6, rtol=1e-4)


def test_the_head_is_never_adapted():
    one = adapt(model(tie_weights=False), LoRAConfig(modules=("all",)))
    adapted = {name for name, layer in one.named_modules() if isinstance(layer, LoRALinear)}
    assert len(adapted) == 6 * 3 and "out_head" not in adapted
    with pytest.raises(UserError, match="out_head n'est pas une couche qui s'adapte"):
        adapt(model(), LoRAConfig(modules=("out_head",)))
    with pytest.raises(UserError, match="gate n'est pas"):  # d'un autre réseau
        adapt(model(), LoRAConfig(modules=("gate",)))
    assert set(ALL) >= {name.rpartition("att.")[2] for name in adapted if "att" in name}


def test_one_block_can_be_named():
    one = adapt(model(), LoRAConfig(modules=("trf_blocks.1.att.W_key",)))
    assert [name for name, layer in one.named_modules() if isinstance(layer, LoRALinear)] == [
        "trf_blocks.1.att.W_key"
    ]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_is_for_training_only(kind, ids):
    one = drawn(adapt(model(), LoRAConfig(drop_rate=0.5))).to(kind)
    assert torch.equal(one.eval()(ids), one(ids))
    one.train()
    assert not torch.equal(one(ids), one(ids))


@pytest.mark.parametrize(
    "values, what",
    [
        ({"rank": 0}, "lora.rank=0"),
        ({"alpha": 0}, "lora.alpha=0"),
        ({"modules": []}, "lora.modules doit nommer des couches"),
        ({"modules": 5}, "lora.modules doit nommer des couches"),
        ({"modules": None}, "lora.modules doit nommer des couches"),
        ({"rslora": "oui"}, "lora.rslora=oui"),
        ({"drop_rate": 1.0}, "lora.drop_rate=1.0"),
        ({"rang": 8}, "Clé inconnue dans lora : rang"),
    ],
)
def test_a_wrong_value_gets_one_sentence(values, what):
    with pytest.raises(UserError, match=what):
        LoRAConfig.from_dict(values)


def test_a_configuration_survives_a_checkpoint():
    one = LoRAConfig(rank=4, modules=("all",), rslora=True)
    assert LoRAConfig.from_dict(one.to_dict()) == one
    assert LoRAConfig.from_dict({"modules": "all"}).modules == ("all",)


def test_what_learns():
    counts = {}
    for what in TRAINED:
        if what == "head":
            with pytest.raises(UserError, match="train_on=head"):
                learn_only(model(), what)
        else:
            counts[what] = n_trainable(learn_only(adapt(model(), LoRAConfig(rank=2)), what))
    assert counts["lora"] == 3 * 2 * 2 * (24 + 24)
    assert counts["lora"] < counts["last_block"] < counts["all"]


@pytest.mark.slow  # peft est dans l'environnement oracles
@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_the_logits_are_those_of_peft(values, ids):
    peft = pytest.importorskip("peft")
    config = LoRAConfig(**values)
    ours = drawn(adapt(model(), config))
    modules = [part for part in ALL if part != "gate"] if "all" in config.modules else list(config.modules)
    wanted = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=modules,
        use_rslora=config.rslora,
        lora_dropout=0.0,
    )
    theirs = peft.inject_adapter_in_model(wanted, model()).eval()
    with torch.no_grad():
        for name, layer in ours.named_modules():
            if isinstance(layer, LoRALinear):
                other = theirs.get_submodule(name)
                other.lora_A["default"].weight.copy_(layer.lora_A)
                other.lora_B["default"].weight.copy_(layer.lora_B)
        assert (theirs(ids) - ours(ids)).abs().max() <= 1e-6
