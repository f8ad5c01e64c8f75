"""L'oracle : le modèle de lm-eval pour transformers, sur notre export. Les mêmes nombres."""

import json

import pytest
import torch

pytest.importorskip("lm_eval", reason="make test-evals : lm-eval a son environnement")
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from gpt_lightning import tokenizers
from gpt_lightning.decoding.batching import Arrival, Batch
from gpt_lightning.harness.adapter import ROWS, HarnessModel
from gpt_lightning.harness.measure import LOCAL, TaskManager, find_tasks, load_tasks, measure, rows
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
STARTS = ["", "Le chat", "licorne :", "Une phrase qui a quelques mots de plus, et un point.", "mot " * 190]
ANSWERS = [" dort.", " un cheval qui a une corne", " a", "é😀", " oui " * 12]


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "hf"
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=50_257, context_length=128, emb_dim=32, n_heads=4, n_layers=2, **SHAPES[request.param]
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


def test_an_answer_is_worth_the_whole_text_less_its_start(pair):
    """La log-probabilité du texte entier, moins celle de son début, si la coupe est entre deux jetons."""
    ours, _ = pair
    texts = [
        ("Le chat", " dort."),
        ("Une phrase qui a quelques mots", " de plus"),
        ("mot " * 20 + "et", " fin"),
    ]
    answers = [value for value, _ in ours.loglikelihood(asks("loglikelihood", *texts), disable_tqdm=True)]
    wholes = ours.loglikelihood_rolling(asks("loglikelihood_rolling", *((a + b,) for a, b in texts)))
    starts = ours.loglikelihood_rolling(asks("loglikelihood_rolling", *((a,) for a, _ in texts)))
    for (start, answer), value, everything, before in zip(texts, answers, wholes, starts, strict=True):
        assert ours.tok_encode(start + answer) == ours.tok_encode(start) + ours.tok_encode(answer)
        # le texte entier se lit après le jeton de début, la réponse non
        first = ours.loglikelihood(
            asks("loglikelihood", ("<|endoftext|>" + start, answer)), disable_tqdm=True
        )
        assert first[0][0] == pytest.approx(everything - before, abs=1e-4)
        assert value != pytest.approx(everything, abs=1e-2)


def test_every_continuation_is_the_same_alone_or_with_others(pair):
    """Plus de textes que de lignes du lot, de longueurs différentes, tirés ou non."""
    ours, _ = pair
    for sampling in ({"do_sample": False}, {"do_sample": True, "temperature": 0.9, "top_k": 20}):
        options = {"until": ["\n", " a"], "max_gen_toks": 12, **sampling}
        starts = [f"{'mot ' * (rank % 7)}le numéro {rank}" for rank in range(ROWS + 5)]
        requests = asks("generate_until", *((start, options) for start in starts))
        together = ours.generate_until(requests)
        alone = [ours._decode(_written(ours, rank, start, options)) for rank, start in enumerate(starts)]
        assert len(set(together)) > 1
        assert together == [text.partition("\n")[0].partition(" a")[0] for text in alone]


def _written(ours: HarnessModel, rank: int, start: str, options: dict):
    row, _ = ours._row(rank, start, options)
    batch = Batch(ours.model, 1)
    batch.join(Arrival([row]))
    while not any(token.reason for token in batch.step()):
        pass
    return row


WRITING = """task: ecrit
dataset_path: json
dataset_kwargs: {data_files: {test: QUESTIONS}}
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


@pytest.mark.parametrize("num_fewshot", [0, 2])
def test_every_metric_is_equal(pair, num_fewshot):
    """Les tâches d'ici, de bout en bout ; deux exemples devant chaque question la coupent presque toujours."""
    ours, theirs = pair
    text = "Le chat dort, et la nuit passe sur la maison. " * 60
    names, cut = list(LOCAL) if num_fewshot == 0 else ["glose_mot", "mot_glose", "h_aspire"], ours.cut
    tasks = [load_tasks(names, find_tasks(names, text), num_fewshot) for _ in range(2)]
    mine, other = (measure(model, loaded, limit=12) for model, loaded in zip(pair, tasks, strict=True))
    assert num_fewshot == 0 or ours.cut > cut  # des débuts sont coupés
    compared = list(zip(rows(mine), rows(other), strict=True))
    assert {row.task for row, _ in compared} == set(names)
    for row, its in compared:
        assert row[:2] == its[:2] and row.items == its.items == 12
        assert row.value == pytest.approx(its.value, rel=1e-4) and row.error == pytest.approx(
            its.error, rel=1e-3
        )


def test_every_metric_of_a_task_that_writes_is_equal(pair, tmp_path):
    ours, theirs = pair
    starts = ["Le chat", "licorne :", "Une phrase qui a quelques mots de plus", "mot " * 70 + "fin"]
    answers = theirs.generate_until(
        asks(
            "generate_until", *((s, {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}) for s in starts)
        ),
        disable_tqdm=True,
    )
    questions = tmp_path / "questions.jsonl"
    lines = [
        {"question": s, "answer": a if rank else "autre"}
        for rank, (s, a) in enumerate(zip(starts, answers, strict=True))
    ]
    questions.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (tmp_path / "ecrit.yaml").write_text(WRITING.replace("QUESTIONS", str(questions)), encoding="utf-8")
    values = []
    for model in pair:
        catalogue = TaskManager(include_path=str(tmp_path), include_defaults=False)
        values.append([row[:3] for row in rows(measure(model, load_tasks(["ecrit"], catalogue)))])
    assert values[0] == values[1] == [("ecrit", "exact_match", 0.75)]
