import pytest
import torch

from gpt_lightning.decoding import Strategy, generate, stream
from gpt_lightning.model import GPTConfig, GPTModel

GREEDY = Strategy(temperature=0)


def model(**values) -> GPTModel:
    torch.manual_seed(0)
    small = {"vocab_size": 61, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 2}
    one = GPTModel(GPTConfig(**{**small, **values})).eval()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(6)  # des logits assez écartés pour que la suite ne soit pas constante
    return one


def without_cache(one: GPTModel, ids: list[int], steps: int) -> list[int]:
    """La façon de l'original : relire la fin du texte à chaque jeton."""
    for _ in range(steps):
        window = torch.tensor([ids[-one.config.context_length :]])
        ids = [*ids, int(one(window)[0, -1].argmax())]
    return ids


@pytest.mark.parametrize("name", ["original_tiny", "original_tiny_qkv_bias"])
def test_the_original_greedy_text(name, golden):
    from pathlib import Path

    expected = golden[name]
    path = Path(__file__).parents[1] / "golden" / expected["file"]
    saved = torch.load(path, weights_only=True)["model_state_dict"]
    one = GPTModel(GPTConfig(**expected["config"], tie_weights=False)).eval()
    one.load_state_dict({k: v for k, v in saved.items() if not k.endswith("att.mask")})
    found = generate(one, torch.tensor([expected["greedy_prompt"]]), strategy=GREEDY, max_new_tokens=24)
    assert found[0].tolist() == expected["greedy_24_tokens"]


@pytest.mark.parametrize("options", [{}, {"positions": "rope"}, {"vocab_padding": 64}], ids=str)
@pytest.mark.parametrize("prompt", [[5], list(range(10)), list(range(40))])
def test_cached_text_is_the_uncached_one_even_past_the_context(options, prompt):
    one = model(**options)
    assert generate(one, [prompt], strategy=GREEDY, max_new_tokens=30) == [without_cache(one, prompt, 30)]


def test_unequal_prompts_give_what_they_give_alone():
    one, prompts = model(), [[1, 2, 3, 4, 5, 6], [7], list(range(20, 33))]
    together = generate(one, prompts, strategy=GREEDY, max_new_tokens=25)
    assert together == [generate(one, [p], strategy=GREEDY, max_new_tokens=25)[0] for p in prompts]


def test_same_seed_same_text_whatever_the_batch():
    one, strategy = model(), Strategy(temperature=1.5)
    two = generate(one, [[1, 2]], strategy=strategy, max_new_tokens=20, seed=5, num_samples=2)
    three = generate(one, [[1, 2]], strategy=strategy, max_new_tokens=20, seed=5, num_samples=3)
    assert three[:2] == two and two[0] != two[1]
    assert generate(one, [[1, 2]], strategy=strategy, max_new_tokens=20, seed=6)[0] != two[0]


def test_end_of_text_stops_its_row_only():
    one = model()
    whole = generate(one, [[1], [2]], strategy=GREEDY, max_new_tokens=12)
    end = whole[0][4]
    stopped = generate(one, torch.tensor([[1], [2]]), strategy=GREEDY, max_new_tokens=12, eos_id=end)
    assert stopped[0].tolist() == whole[0][: whole[0].index(end, 1) + 1] + [end] * (
        stopped.shape[1] - whole[0].index(end, 1) - 1
    )
    reasons = {
        token.row: token.reason
        for tokens in stream(one, [[1], [2]], strategy=GREEDY, max_new_tokens=12, eos_id=end)
        for token in tokens
        if token.reason
    }
    assert reasons[0] == "eos"


def test_stop_text_may_straddle_tokens():
    one, decode = model(), lambda ids: "".join(f"{i} " for i in ids)
    whole = generate(one, [[1]], strategy=GREEDY, max_new_tokens=12)[0]
    stop = f"{whole[4]} {whole[5]}"
    stopped = generate(one, [[1]], strategy=GREEDY, max_new_tokens=12, stop=[stop], decode=decode)[0]
    assert len(stopped) < len(whole) and stop in decode(stopped[1:])
    with pytest.raises(ValueError, match="decode"):
        generate(one, [[1]], strategy=GREEDY, max_new_tokens=2, stop=["a"])


def test_nothing_to_produce_gives_the_prompt():
    assert generate(model(), [[1, 2]], strategy=GREEDY, max_new_tokens=0) == [[1, 2]]


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="vide"):
        generate(model(), [[]], strategy=GREEDY, max_new_tokens=2)
    with pytest.raises(ValueError, match="max_new_tokens"):
        generate(model(), [[1]], strategy=GREEDY, max_new_tokens=-1)


def test_padded_ids_are_never_drawn():
    one = model(vocab_size=5, vocab_padding=64)
    with torch.no_grad():
        one.tok_emb.weight[5:] *= 100
    drawn = generate(one, [[1]] * 8, strategy=Strategy(temperature=50.0), max_new_tokens=40, seed=1)
    assert max(max(row) for row in drawn) <= 4


# une table où chaque paire de valeurs se rencontre
PAIRWISE = [
    {
        "norm": "layernorm",
        "activation": "gelu_tanh",
        "positions": "learned",
        "tie_weights": True,
        "bias": True,
    },
    {"norm": "layernorm", "activation": "gelu", "positions": "rope", "tie_weights": False, "bias": False},
    {
        "norm": "layernorm",
        "activation": "swiglu",
        "positions": "learned",
        "tie_weights": False,
        "qkv_bias": False,
    },
    {
        "norm": "rmsnorm",
        "activation": "gelu_tanh",
        "positions": "rope",
        "tie_weights": False,
        "qkv_bias": False,
    },
    {
        "norm": "rmsnorm",
        "activation": "gelu",
        "positions": "learned",
        "tie_weights": True,
        "vocab_padding": 64,
    },
    {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope", "tie_weights": True, "bias": False},
    {"norm": "layernorm", "activation": "gelu_tanh", "positions": "rope", "vocab_padding": 64, "bias": False},
    {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "positions": "learned",
        "vocab_padding": 64,
        "qkv_bias": False,
    },
]


@pytest.mark.parametrize("options", PAIRWISE, ids=lambda o: "-".join(map(str, o.values())))
def test_two_hundred_tokens_with_and_without_cache(options):
    one = model(context_length=64, **options)
    prompts = [[3], list(range(10)), list(range(5, 55))]
    expected = [without_cache(one, prompt, 200) for prompt in prompts]
    assert generate(one, prompts, strategy=GREEDY, max_new_tokens=200) == expected
