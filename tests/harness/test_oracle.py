"""L'oracle : le modèle de lm-eval pour transformers, sur notre export. Chaque demande à 1e-4 près."""

import pytest
import torch

pytest.importorskip("lm_eval", reason="make test-evals : lm-eval a son environnement")
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from gpt_lightning import tokenizers
from gpt_lightning.harness.adapter import HarnessModel
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.weights import load_for_inference
from gpt_lightning.weights.exporting import export

SHAPES = {
    "gpt2": {"qkv_bias": True},
    "llama": {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "positions": "rope",
        "bias": False,
        "n_kv_heads": 2,
    },
}
STARTS = ["", "Le chat", "licorne :", "Une phrase qui a quelques mots de plus, et un point.", "mot " * 90]
ANSWERS = [" dort.", " un cheval qui a une corne", " a", "é😀", " oui " * 12]


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "hf"
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=50_257, context_length=64, emb_dim=32, n_heads=4, n_layers=2, **SHAPES[request.param]
    )
    model = GPTModel(config)
    with torch.no_grad():
        model.final_norm.scale.mul_(10)
    export(model, tokenizers.gpt2(), folder, "hf")
    loaded = load_for_inference(str(folder))
    theirs = HFLM(
        pretrained=str(folder), batch_size=8, device="cpu", dtype="float32", logits_cache=False
    )  # son cache mêle deux fenêtres de mêmes jetons, coupées à deux endroits
    return HarnessModel(loaded.model, loaded.tokenizer), theirs


def asks(kind: str, *arguments: tuple) -> list[Instance]:
    return [Instance(kind, {}, given, rank) for rank, given in enumerate(arguments)]


def test_every_answer_has_the_same_log_probability(pair):
    """Cinq débuts, vide et plus long que le contexte compris, et cinq réponses à chacun."""
    ours, theirs = pair
    requests = asks("loglikelihood", *((start, answer) for start in STARTS for answer in ANSWERS))
    cut = ours.cut
    made = ours.loglikelihood(requests, disable_tqdm=True)
    assert ours.cut == cut + len(ANSWERS)  # un début coupé est compté, et dit
    for (mine, greedy), (other, other_greedy) in zip(
        made, theirs.loglikelihood(requests, disable_tqdm=True), strict=True
    ):
        assert mine == pytest.approx(other, abs=1e-4) and greedy == other_greedy


def test_every_text_has_the_same_log_probability(pair):
    ours, theirs = pair
    requests = asks("loglikelihood_rolling", *((text * 40,) for text in ("Le chat dort. ", "é", "a b ")))
    assert ours.loglikelihood_rolling(requests) == pytest.approx(
        theirs.loglikelihood_rolling(requests, disable_tqdm=True), abs=1e-3
    )


def test_every_continuation_is_the_same(pair):
    ours, theirs = pair
    options = {"until": ["\n", " a"], "max_gen_toks": 12, "do_sample": False}
    requests = asks("generate_until", *((start, options) for start in STARTS[1:]))
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)
