import pytest
import torch

from gpt_lightning.cli.composition import compose_resolved
from gpt_lightning.model import GPTConfig, GPTModel, cost

OPTIONS = [
    {},
    {"tie_weights": False},
    {"qkv_bias": False},
    {"bias": False},
    {"norm": "rmsnorm"},
    {"activation": "swiglu"},
    {"activation": "swiglu", "bias": False, "norm": "rmsnorm", "positions": "rope", "tie_weights": False},
    {"positions": "rope"},
    {"vocab_padding": 64},
]


def config(**values) -> GPTConfig:
    small = {"vocab_size": 101, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 3}
    return GPTConfig(**{**small, **values})


def on_meta(config: GPTConfig) -> GPTModel:
    with torch.device("meta"):
        return GPTModel(config)


def count(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parameter_counts_are_those_of_the_built_module(options):
    model = on_meta(config(**options))
    assert cost.n_parameters(config(**options)) == count(model)
    inside = count(model.trf_blocks) + count(model.final_norm)
    assert cost.n_parameters_without_embeddings(config(**options)) == inside


@pytest.mark.parametrize(
    "shape, parameters",
    [
        ((768, 12, 12), 124_439_808),
        ((1024, 16, 24), 354_823_168),
        ((1280, 20, 36), 774_030_080),
        ((1600, 25, 48), 1_557_611_200),
    ],
)
def test_the_four_sizes_of_gpt2(shape, parameters):
    emb_dim, n_heads, n_layers = shape
    big = GPTConfig(vocab_size=50257, emb_dim=emb_dim, n_heads=n_heads, n_layers=n_layers)
    assert cost.n_parameters(big) == parameters == count(on_meta(big))


@pytest.mark.parametrize(
    "name, n_ids, parameters", [("smol135m", 49_152, 134_515_008), ("qwen3_0_6b", 151_936, 596_049_920)]
)
def test_the_sizes_of_today(name, n_ids, parameters):
    settings, _ = compose_resolved("train", f"model={name}", "output_dir=dossier")
    assert settings["model"]["vocab_size"] is None
    big = GPTConfig.for_vocabulary(settings["model"], n_ids)
    assert cost.n_parameters(big) == parameters == count(on_meta(big))


def test_the_original_is_not_tied():
    assert cost.n_parameters(GPTConfig(vocab_size=50257, tie_weights=False, qkv_bias=False)) == 163_009_536


def test_flops_follow_the_formula():
    big = GPTConfig(vocab_size=50257)
    multiplied = 124_439_808 - 1024 * 768
    assert cost.flops_per_token(big) == 6 * multiplied + 12 * 12 * 768 * 1024
    assert cost.flops_per_token(big) - cost.flops_per_token(big, 256) == 12 * 12 * 768 * 768


@pytest.mark.parametrize(
    "options",
    [{}, {"drop_rate": 0.1}, {"activation": "swiglu"}, {"n_kv_heads": 1, "hidden_dim": 100}],
    ids=str,
)
def test_activation_memory_is_what_autograd_keeps(options):
    one = config(emb_dim=64, n_heads=4, n_layers=4, context_length=64, vocab_size=11, **options)
    model = GPTModel(one)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.hidden(torch.zeros(8, 64, dtype=torch.long))
    measured = sum(size for size, _ in kept.values())
    estimated = cost.training_memory(one, batch_size=8, length=64, fused_attention=not one.drop_rate)[
        "activations"
    ]
    assert estimated == pytest.approx(measured, rel=0.2)


def test_parameter_memory_by_precision():
    n = cost.n_parameters(config())
    memory = {
        p: cost.training_memory(config(), batch_size=1, length=8, precision=p)["parameters"]
        for p in ("32-true", "bf16-true")
    }
    assert memory == {"32-true": 16 * n, "bf16-true": 8 * n}
    with pytest.raises(ValueError, match="precision=fp4"):
        cost.training_memory(config(), batch_size=1, length=8, precision="fp4")
