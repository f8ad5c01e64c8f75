"""Un vrai modèle, SmolLM2-135M-Instruct : les nombres et les textes de transformers, par chaque commande.

`make test-slow` le prépare (tests/smollm2.py) ; sans lui, ces essais échouent.
"""

import json

import pytest
import torch

from gpt_lightning import Strategy, generate, weights
from gpt_lightning.model import cost
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.loading import load_and_describe
from tests import smollm2
from tests.serving.test_command import Served

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
PROMPT = "La capitale de la France est"
BEST = {" une": -2.7295, " le": -2.8853, " en": -2.9104, " de": -3.2025, " pas": -3.7958}
QUESTION = "What is the capital of France?"
TEXTS = [PROMPT, "def fibonacci(n):\n", "Once upon a time, in a naïve café 😀,", "1 + 1 = 2\n\n2 + 2 ="]
NEW = 40


@pytest.fixture(scope="module")
def folder():
    assert (smollm2.FOLDER / "config.json").exists(), "SmolLM2 manque : make test-slow le prépare"
    return smollm2.FOLDER


@pytest.fixture(scope="module")
def theirs(folder):
    options = {"local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **options
    )
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, **options)


@pytest.fixture(scope="module")
def ours(folder):
    return weights.load(str(folder))


def greedy(theirs, ids: list[int], *, stop: bool = False) -> list[int]:
    """Les jetons que transformers écrit après ceux-là, le plus probable à chaque fois."""
    model, tokenizer = theirs
    end = {"eos_token_id": tokenizer.eos_token_id if stop else None, "pad_token_id": 0}
    with torch.no_grad():
        written = model.generate(torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, **end)
    return written[0, len(ids) :].tolist()


@pytest.fixture(scope="module")
def written(theirs):
    """Ce que transformers écrit après PROMPT, et répond à QUESTION."""
    _, tokenizer = theirs
    asked = [{"role": "user", "content": QUESTION}]
    chat = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    texts = [
        tokenizer.decode(greedy(theirs, tokenizer.encode(PROMPT))),
        tokenizer.decode(greedy(theirs, tokenizer.encode(chat), stop=True), skip_special_tokens=True),
    ]
    assert texts[1] == "The capital of France is Paris."
    return texts


def test_it_is_the_preset(ours):
    model, tokenizer = ours
    assert (
        cost.n_parameters(model.config) == 134_515_008 == sum(tensor.numel() for tensor in model.parameters())
    )
    assert tokenizer.vocab_size == model.config.vocab_size == 49_152 and model.config.context_length == 8192


def test_the_five_best_words(ours):
    model, tokenizer = ours
    with torch.no_grad():
        scores = model(torch.tensor([tokenizer.encode(PROMPT)]))[0, -1].log_softmax(-1)
    best = scores.topk(5)
    found = {
        tokenizer.decode([index]): value for value, index in zip(*map(torch.Tensor.tolist, best), strict=True)
    }
    assert list(found) == list(BEST) and found == pytest.approx(BEST, abs=1e-3)


@pytest.mark.parametrize("text", TEXTS)
def test_logits_and_greedy_tokens_are_those_of_transformers(text, ours, theirs):
    model, tokenizer = ours
    ids = tokenizer.encode(text)
    assert ids == theirs[1].encode(text, split_special_tokens=True)
    with torch.no_grad():
        expected = theirs[0](torch.tensor([ids])).logits
        assert (model(torch.tensor([ids])) - expected).abs().max() <= 1e-5 * expected.abs().max()
    (row,) = generate(model, [ids], strategy=Strategy(temperature=0), max_new_tokens=NEW)
    assert row[len(ids) :] == greedy(theirs, ids)


def test_uneven_texts_together_are_those_that_they_are_alone(ours, theirs):
    model, tokenizer = ours
    prompts = [tokenizer.encode(text) for text in TEXTS]
    rows = generate(model, prompts, strategy=Strategy(temperature=0), max_new_tokens=NEW)
    assert [row[-NEW:] for row in rows] == [greedy(theirs, ids) for ids in prompts]


def test_generate_and_chat_write_the_same_text(folder, written, command, tmp_path):
    options = [f"ckpt_path={folder}", "decoding=greedy", "dtype=fp32", "device=cpu", f"max_new_tokens={NEW}"]
    done = command("generate.py", f"prompt={PROMPT}", *options, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == (PROMPT + written[0]).strip()
    done = command("gpt_lightning", "chat", f"prompt={QUESTION}", *options, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == written[1]


@pytest.mark.parametrize("kind", ["dossier", "gguf"])
def test_serve_and_the_page_write_the_same_text(kind, folder, written, cache, tmp_path):
    source = folder if kind == "dossier" else smollm2.FILE
    with Served(tmp_path, f"ckpt_path={source}", "dtype=fp32", "device=cpu", cache=cache) as server:
        body = {"prompt": PROMPT, "max_tokens": NEW, "temperature": 0}
        status, answer = server.ask("/v1/completions", body)
        assert status == 200 and answer["choices"][0]["text"] == written[0]
        body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": NEW, "temperature": 0}
        status, answer = server.ask("/v1/chat/completions", body)
        assert status == 200 and answer["choices"][0]["message"]["content"] == written[1]
        assert answer["choices"][0]["finish_reason"] == "stop"
        text = ""
        for _ in range(8):  # la page, un jeton à la fois
            status, answer = server.ask("/api/next", {"text": PROMPT + text, "temperature": 1})
            assert status == 200, answer
            text += answer["candidates"][0]["token"]
        assert written[0].startswith(text)
        status, answer = server.ask("/api/next", {"text": PROMPT, "temperature": 1})
        best = {row["token"]: row["logprob"] for row in answer["candidates"][:5]}
        assert list(best) == list(BEST) and best == pytest.approx(BEST, abs=1e-3)


def test_it_leaves_as_it_came(folder, theirs, ours, tmp_path):
    loaded = load_and_describe(str(folder))
    export(loaded.model, loaded.description.tokenizer, tmp_path / "sortie", "hf", loaded.description)
    config, before = (
        json.loads((where / "config.json").read_text()) for where in (tmp_path / "sortie", folder)
    )
    assert config["model_type"] == before["model_type"] == "llama"
    their = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "sortie", attn_implementation="eager"
    )
    assert all(
        torch.equal(tensor, theirs[0].state_dict()[name]) for name, tensor in their.state_dict().items()
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "sortie", local_files_only=True)
    asked = [{"role": "user", "content": QUESTION}]
    for options in ({"add_generation_prompt": True}, {}):
        one, other = (
            each.apply_chat_template(asked, tokenize=False, **options) for each in (tokenizer, theirs[1])
        )
        assert one == other
    for text in TEXTS:
        assert tokenizer.encode(text) == theirs[1].encode(text)
    assert tokenizer.eos_token_id == theirs[1].eos_token_id


@pytest.mark.parametrize("dtype", ["bf16", "int8", "int4"])
def test_it_answers_in_fewer_bits(folder, dtype, command, tmp_path):
    options = [f"ckpt_path={folder}", "decoding=greedy", "device=cpu", f"dtype={dtype}"]
    done = command("gpt_lightning", "chat", f"prompt={QUESTION}", *options, cwd=tmp_path)
    assert done.returncode == 0 and "Paris" in done.stdout


def test_adapters_of_peft_leave_and_come_back(folder, tmp_path):
    peft = pytest.importorskip("peft")

    def base():
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )

    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", use_rslora=True)
    adapted = peft.get_peft_model(base(), config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.02)
    adapted.save_pretrained(tmp_path / "leur")
    loaded = load_and_describe(str(tmp_path / "leur"))  # la base que peft y a nommée
    assert loaded.description.template.startswith("chatml")
    export(loaded.model, None, tmp_path / "notre", "peft", loaded.description, adapted=loaded.adapted)
    again = peft.PeftModel.from_pretrained(base(), tmp_path / "notre").eval()
    ids = torch.tensor([loaded.description.tokenizer.encode(QUESTION)])
    with torch.no_grad():
        expected = adapted(ids).logits
        most = 1e-5 * float(expected.abs().max())
        assert (expected - base()(ids).logits).abs().max() > 0.1
        assert (loaded.model(ids) - expected).abs().max() <= most
        assert (again(ids).logits - expected).abs().max() <= most
