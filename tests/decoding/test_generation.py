import pytest
import torch

from gpt_lightning.decoding import Strategy, generate, stream
from gpt_lightning.errors import UserError
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


def test_log_probabilities_are_those_of_the_model():
    one, prompt = model(), [1, 2, 3]
    strategy = Strategy(temperature=0.7, top_k=5)
    tokens = [
        t
        for ts in stream(one, [prompt], strategy=strategy, max_new_tokens=8, seed=1, logprobs=True)
        for t in ts
    ]
    ids = prompt + [token.id for token in tokens]
    expected = one(torch.tensor([ids[:-1]]))[0].log_softmax(-1)[torch.arange(2, 10), torch.tensor(ids[3:])]
    torch.testing.assert_close(torch.tensor([token.logprob for token in tokens]), expected.detach())
    (first,) = next(stream(one, [prompt], strategy=strategy, max_new_tokens=1))
    assert first.logprob is None


def test_the_row_number_chooses_the_draw():
    one, strategy = model(), Strategy(temperature=1.5)
    options = {"strategy": strategy, "max_new_tokens": 9, "seed": 5}
    both = [[t.id for t in ts] for ts in stream(one, [[1, 2], [1, 2]], **options)]
    second = [t.id for ts in stream(one, [[1, 2]], first_row=1, **options) for t in ts]
    assert second == [ids[1] for ids in both]


class Counted(torch.nn.Module):
    """Un modèle qui compte ses passes."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config, self.passes = inner, inner.config, 0

    def forward(self, *arguments):
        self.passes += 1
        return self.inner(*arguments)

    def next_logits(self, *arguments):
        self.passes += 1
        return self.inner.next_logits(*arguments)


@pytest.mark.parametrize("penalties", [{}, {"repetition_penalty": 1.3, "no_repeat_ngram": 4}], ids=str)
@pytest.mark.parametrize("prompts", [[[1, 2, 3, 1, 2]], [[4, 5, 4, 5, 4], [7], list(range(30))]], ids=len)
@pytest.mark.parametrize("ngram", [1, 2])
def test_guessing_from_the_text_changes_no_token(penalties, prompts, ngram):
    one = model(context_length=48)
    plain = Strategy(temperature=0, **penalties)
    guessing = Strategy(temperature=0, lookup_ngram=ngram, **penalties)
    expected = generate(one, prompts, strategy=plain, max_new_tokens=60)
    assert generate(one, prompts, strategy=guessing, max_new_tokens=60) == expected


def test_guessing_saves_passes_on_a_text_that_repeats():
    one = model(context_length=256)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if "trf_blocks" in name or "pos_emb" in name:
                parameter.zero_()  # chaque jeton ne dépend que du précédent : la suite boucle
    counts = []
    for strategy in (GREEDY, Strategy(temperature=0, lookup_ngram=2)):
        counted = Counted(one)
        text = generate(counted, [[1]], strategy=strategy, max_new_tokens=150)
        counts.append((counted.passes, text))
    assert counts[0][1] == counts[1][1] and counts[0][0] == 150 and counts[1][0] < 75


def test_a_beam_as_wide_as_everything_finds_the_best_text():
    from itertools import product

    one = model(vocab_size=5)
    prompt, steps = [1, 2], 3
    found = generate(one, [prompt], strategy=Strategy(temperature=0, num_beams=25), max_new_tokens=steps)[0]

    @torch.no_grad()
    def score(new):
        ids = prompt + list(new)
        logits = one(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
        return float(logits[torch.arange(1, 1 + steps), torch.tensor(new)].sum())

    assert found[2:] == list(max(product(range(5), repeat=steps), key=score))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("penalties", [{}, {"no_repeat_ngram": 2, "repetition_penalty": 1.2}], ids=str)
def test_beams_equal_transformers(length_penalty, penalties):
    from transformers import GPT2Config, GPT2LMHeadModel

    from gpt_lightning.weights.huggingface import state_from

    torch.manual_seed(3)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=64, n_embd=24, n_layer=2, n_head=2)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(5)
    one = GPTModel(GPTConfig(vocab_size=30, context_length=64, emb_dim=24, n_heads=2, n_layers=2)).eval()
    state = state_from({k: v for k, v in theirs.state_dict().items() if k != "lm_head.weight"}, one.config)
    one.load_state_dict(state, strict=False)
    prompts = torch.randint(0, 30, (6, 5), generator=torch.Generator().manual_seed(1))
    strategy = Strategy(temperature=0, num_beams=4, length_penalty=length_penalty, **penalties)
    ours = generate(one, prompts, strategy=strategy, max_new_tokens=20, eos_id=7, num_samples=2)
    expected = theirs.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=20,
        num_beams=4,
        num_return_sequences=2,
        length_penalty=length_penalty,
        do_sample=False,
        eos_token_id=7,
        pad_token_id=7,
        repetition_penalty=penalties.get("repetition_penalty", 1.0),
        no_repeat_ngram_size=penalties.get("no_repeat_ngram", 0),
    )
    assert ours.tolist() == expected.tolist()


def test_beams_of_unequal_prompts_are_those_they_have_alone():
    one, prompts = model(), [[1, 2, 3, 4], [7], list(range(12))]
    options = {"strategy": Strategy(temperature=0, num_beams=3), "max_new_tokens": 12, "eos_id": 9}
    together = generate(one, prompts, num_samples=2, **options)
    alone = [row for prompt in prompts for row in generate(one, [prompt], num_samples=2, **options)]
    assert together == alone
    with pytest.raises(ValueError, match="num_beams"):
        generate(one, prompts, num_samples=4, **options)


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


@pytest.mark.parametrize("strategy", [GREEDY, Strategy(temperature=1.2, top_p=0.9)], ids=str)
@pytest.mark.parametrize("eos", [None, 7])
def test_what_is_written_before_being_read_is_the_same_text(strategy, eos, monkeypatch):
    """Sur GPU, plusieurs jetons partent sans que l'on attende : ceux d'après la fin s'oublient."""
    from gpt_lightning.decoding import generation

    one, prompts = model(), [[1, 2, 3], [4], [9, 9]]
    options = {"strategy": strategy, "max_new_tokens": 21, "eos_id": eos, "seed": 3, "logprobs": True}
    options["until"] = lambda row, new: row == 1 and len(new) == 10
    plain = list(stream(one, prompts, **options))
    write = generation.Reader.write
    held = []

    def ahead(reader, chosen):
        held.append(chosen)
        write(reader, chosen)

    monkeypatch.setattr(generation.Reader, "write", ahead)
    monkeypatch.setattr(generation, "_burst", lambda *arguments: 8)
    assert list(stream(one, prompts, **options)) == plain
    assert len(held) <= 24


def test_a_nan_is_said_even_when_tokens_are_written_ahead(monkeypatch):
    from gpt_lightning.decoding import generation

    monkeypatch.setattr(generation, "_burst", lambda *arguments: 8)
    one = model()
    with torch.no_grad():
        one.final_norm.scale.fill_(float("nan"))
    for strategy in (GREEDY, Strategy(top_p=0.9), Strategy(top_k=3, repetition_penalty=1.2)):
        with pytest.raises(UserError, match="NaN"):
            list(stream(one, [[1, 2]], strategy=strategy, max_new_tokens=12))
