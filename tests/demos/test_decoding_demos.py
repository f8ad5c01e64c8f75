"""Les démonstrations du décodage : les nombres sont calculés, les images et les tables se font."""

import pytest
import torch

from gpt_lightning import tokenizers
from gpt_lightning.cli.composition import compose
from gpt_lightning.decoding import Strategy
from gpt_lightning.demos import nucleus, strategies, temperature, top_k, toy
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from tests.conftest import ROOT

RELEASE = str(ROOT / "tests" / "golden" / "releases" / "0.1.0")
TOKENIZER = tokenizers.gpt2()


@pytest.fixture(scope="module")
def model() -> GPTModel:
    torch.manual_seed(0)
    one = GPTModel(GPTConfig(vocab_size=50257, context_length=32, emb_dim=24, n_heads=3, n_layers=1)).eval()
    with torch.no_grad():
        one.out_head.weight.mul_(8)
    return one


def text_of(table, width=140) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_a_demonstration_reads_the_keys_of_inference():
    settings = {**compose("demos/top_k"), "ckpt_path": RELEASE, "device": "cpu"}
    assert toy.subject({**settings, "dtype": "bf16"})[0].tok_emb.weight.dtype == torch.bfloat16
    for key, value in (("n_heads", 2), ("base_path", RELEASE)):
        with pytest.raises(UserError, match=f"{key}="):
            toy.subject({**settings, key: value})


def test_the_toy_vocabulary_is_that_of_the_original(golden):
    assert list(toy.VOCABULARY) == golden["decoding"]["vocab"]
    torch.testing.assert_close(toy.LOGITS, torch.tensor(golden["decoding"]["logits"]))


def test_top_k_step_by_step():
    steps = top_k.compute(toy.LOGITS, k=3)
    kept = {toy.VOCABULARY[place] for place in steps.mask.nonzero().flatten().tolist()}
    assert kept == {"forward", "toward", "closer"} and (steps.after[~steps.mask] == 0).all()
    inside = steps.before[steps.mask]
    torch.testing.assert_close(steps.after[steps.mask], inside / inside.sum())
    shown = text_of(top_k.render(steps, toy.VOCABULARY.__getitem__, "Le livre", most=9))
    assert shown.count("oui") == 3 and shown.count("non") == 6 and "forward" in shown


def test_temperature_widens(model, tmp_path):
    found = temperature.compute(toy.LOGITS, toy.VOCABULARY)
    assert found.words[0] == "forward" and (found.entropy.diff() > 0).all()
    assert (found.probabilities[:, 0].diff() < 0).all()  # le premier perd quand la température monte
    torch.testing.assert_close(found.probabilities.sum(-1), torch.ones(5))
    paths = temperature.render({"Le livre": found, "Encore": found}, tmp_path)
    assert [path.name for path in paths] == ["temperature.pdf", "temperature.png"]


def test_survivors_are_those_of_the_filters(model, tmp_path):
    logits = toy.next_token(model, TOKENIZER, "Un chat")
    found = nucleus.compute(logits, lambda token: toy.readable_token(TOKENIZER, token), k=5, p=0.5, min_p=0.3)
    by_k, by_p, by_min_p = found.masks.values()
    assert by_k.sum() == 5 and by_k[:5].all()
    assert found.probabilities[by_p].sum() <= 0.5 + found.probabilities[0]
    ratio = found.probabilities / found.probabilities[0]
    assert torch.equal(by_min_p, ratio >= 0.3)
    paths = nucleus.render({"Un chat": found}, tmp_path)
    assert paths[0].read_bytes()[:4] == b"%PDF" and paths[1].read_bytes()[1:4] == b"PNG"


def test_strategies_are_measured(model):
    rows = strategies.compute(
        model,
        TOKENIZER,
        "Un chat",
        {
            "greedy": Strategy(temperature=0),
            "sage": Strategy(temperature=0.3),
            "libre": Strategy(temperature=1.5),
            "beam": Strategy(temperature=0, num_beams=2),
            "pénalisée": Strategy(temperature=0.3, no_repeat_ngram=1),
        },
        seeds=3,
        length=12,
    )
    by_name = {row.name: row for row in rows}
    assert by_name["greedy"].entropy == 0 and by_name["greedy"].distinct_2 <= 1 / 3
    assert 0 < by_name["sage"].entropy < by_name["libre"].entropy < torch.tensor(50257.0).log()
    assert by_name["libre"].logprob < by_name["sage"].logprob < 0
    assert by_name["beam"].logprob >= by_name["libre"].logprob
    assert "greedy" in text_of(strategies.render(rows, "Un chat", 3))


def test_the_entropy_is_that_of_the_distribution_drawn_from(model):
    prompt, strategy = "Un chat", Strategy(temperature=1.5, top_k=7)
    ids = TOKENIZER.encode(prompt)
    expected = strategy(model(torch.tensor([ids])).detach()[:, -1]).softmax(-1)
    expected = torch.distributions.Categorical(expected).entropy()
    found = strategies._entropy(model, TOKENIZER, prompt, [5], strategy)
    assert found == pytest.approx(float(expected), rel=1e-4)
