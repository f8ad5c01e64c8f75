"""Les GGUF que l'on écrit et que l'on lit, devant llama.cpp (xllamacpp) et transformers ; un vrai, SmolLM2-135M."""

import json
import urllib.request

import numpy as np
import pytest
import torch

from gpt_lightning import weights
from gpt_lightning.tokenizers import TrainedTokenizer
from gpt_lightning.tokenizers.template import Message, template_for
from gpt_lightning.weights import format as form
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.gguf.splits import SPLITS
from gpt_lightning.weights.loading import load_and_describe
from tests import smollm2
from tests.conftest import ROOT
from tests.gguf import rewrite
from tests.weights.test_gguf import LLAMA, SHAPES, bpe, make, sentencepiece
from tests.weights.test_smollm2 import BEST, PROMPT, QUESTION

xllamacpp = pytest.importorskip("xllamacpp", reason="demande l'extra oracles")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.slow
PROMPTS = [
    "Le chat",
    "La langue française",
    "Un café, s'il vous plaît",
    "1 + 1 =",
    "En 1984, l'été",
    "Il était une fois",
    "chat : animal",
    "La capitale de la France est",
    "Bonjour",
    "Une phrase plus longue, qui a des virgules, des points. Et une autre",
    "def f(x):\n    return",
    "Ô temps",
    "« guillemets »",
    "le le le le",
    "A",
    "\n\n",
    "# Titre\n\nUn paragraphe",
    "l'eau d'un puits",
    "œuf, cœur, sœur",
    "fin.",
]
# la plus grande différence d'une log-probabilité ; llama.cpp arrondit aussi les activations à huit bits
FAR = {"f32": 1e-3, "f16": 2e-3, "bf16": 1e-2, "q8_0": 3e-2, "q5_1": 3e-2, "q4_0": 3e-2, "k": 6e-2}
TRAINED = {
    "f32": 1.5e-3,
    "q8_0": 5e-2,
}  # la même, des quatre modèles à peine entraînés : 1,1e-3 et 3,4e-2 mesurés
NEW = 8


class LlamaCpp:
    """Ce fichier, ouvert par llama.cpp."""

    def __init__(self, path, context: int) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context, 1, 0
        params.cpuparams.n_threads, params.warmup, params.fit_params, params.use_jinja = 1, False, False, True
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.server = xllamacpp.Server(params)

    def ask(self, where: str, **body):
        request = urllib.request.Request(
            self.server.listening_address + where,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def tokens(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        return self.ask("/tokenize", content=text, parse_special=special, add_special=start)["tokens"]

    def complete(self, ids: list[int], n: int, **options) -> dict:
        body = {"prompt": ids, "n_predict": n, "temperature": 0, "cache_prompt": False, "return_tokens": True}
        return self.ask("/completion", **body, **options)

    def best(self, ids: list[int], count: int) -> dict[int, float]:
        """Les jetons les plus probables après ceux-là, et leurs log-probabilités."""
        said = self.complete(ids, 1, n_probs=count).get("completion_probabilities")
        return {row["id"]: row["logprob"] for row in said[0]["top_logprobs"]} if said else {}


def scores(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1].log_softmax(-1)


def assert_same_text(model, theirs: LlamaCpp, ids: list[int]) -> None:
    """Chaque jeton que llama.cpp écrit est notre meilleur, ou lui est égal à ce que les arrondis permettent."""
    for token in theirs.complete(ids, NEW)["tokens"]:
        ours = scores(model, ids)
        assert ours.max() - ours[token] < FAR["f32"], (ids, token)
        ids = [*ids, token]


def compare(path, quant: str, prompts=PROMPTS, far=FAR) -> float:
    """Le plus grand écart entre llama.cpp et nous, sur les cinq meilleurs jetons de chaque début de texte.

    En float32, sur les vingt meilleurs, et les textes sont les mêmes.
    """
    model, tokenizer = weights.load(str(path))
    theirs, worst, measured = LlamaCpp(path, min(model.config.context_length, 512)), 0.0, 0
    for prompt in prompts:
        ids = tokenizer.encode(prompt)
        assert theirs.tokens(prompt) == ids, prompt
        ours, best = scores(model, ids), theirs.best(ids, 20 if quant == "f32" else 5)
        measured += bool(best)  # un jeton qui n'est qu'un bout de caractère n'est pas rendu seul
        worst = max([worst, *(abs(float(ours[index]) - value) for index, value in best.items())])
        if quant == "f32":
            assert_same_text(model, theirs, ids)
    print(f"\nMESURE {path.name} {quant} {worst:.1e} {measured}", flush=True)
    assert measured >= len(prompts) // 2
    assert worst < far[quant], worst
    return worst


@pytest.fixture(scope="module")
def tokenizer():
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    return TrainedTokenizer(1000).fit(pages)


@pytest.mark.parametrize("quant", [quant for quant in FAR if quant != "k"])
@pytest.mark.parametrize("shape", SHAPES)
def test_llama_cpp_gives_our_numbers(shape, quant, tokenizer, tmp_path):
    model = make(tokenizer, **SHAPES[shape], context_length=64)
    export(model, tokenizer, tmp_path / "x.gguf", "gguf", quant=quant)
    compare(tmp_path / "x.gguf", quant)


@pytest.mark.parametrize("quant", ["f32", "bf16", "q8_0", "q4_1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_opens_the_same_file(shape, quant, tokenizer, tmp_path):
    """Il suppose à GPT-2 1024 positions, et à Qwen3 des têtes de 128 : ces deux-là se disent."""
    model = make(tokenizer, **SHAPES[shape])
    export(model, tokenizer, tmp_path / "x.gguf", "gguf", quant=quant)
    told = {"gpt2": {"n_positions": 32}, "qwen3": {"head_dim": model.config.head_width}}.get(
        shape.split()[0], {}
    )
    inner = {"n_inner": model.config.hidden_width} if shape.startswith("gpt2") else {}
    options = {"gguf_file": "x.gguf", "local_files_only": True}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager", **told, **inner, **options
    ).eval()
    ours, reread = weights.load(str(tmp_path / "x.gguf"))
    ids = reread.encode(PROMPTS[9])
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits
        assert (ours(torch.tensor([ids])) - expected).abs().max() <= 1e-5 * expected.abs().max()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, **options)
    assert their_tokenizer.encode(PROMPTS[9]) == ids and their_tokenizer.eos_token_id == reread.eos_id


@pytest.mark.parametrize("name", SPLITS)
def test_llama_cpp_cuts_a_text_as_we_do(name, tmp_path):
    split = SPLITS[name]
    given = bpe(split.before, ignore_merges=split.ignore_merges)
    export(make(given), given, tmp_path / "x.gguf", "gguf", quant="f32")
    theirs, (_, ours) = LlamaCpp(tmp_path / "x.gguf", 32), weights.load(str(tmp_path / "x.gguf"))
    texts = [
        *PROMPTS,
        "12345 l'EAU  L'eau\tx\r\n\r\n y ",
        "ça, c'EST 3,14 % :-) !!\n",
        "日本語 ½ ² x²  \n  z",
    ]
    for text in texts:
        assert ours.encode(text) == theirs.tokens(text), text


def test_llama_cpp_cuts_a_sentencepiece_as_we_do(tmp_path):
    path = sentencepiece(tmp_path)
    theirs, (_, ours) = LlamaCpp(path, 16), weights.load(str(path))
    for text in ["le chat dort", "  le  chat\n", "chachat 😀 é", "dortdort le", "x"]:
        assert ours.encode(text) == theirs.tokens(text), text


L3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
Q3 = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
TALK = [
    ("system", "Sois bref."),
    ("user", "Qui dort ?"),
    ("assistant", "Le chat."),
    ("user", "Encore, l'été 12 ?"),
]


@pytest.mark.parametrize(
    "name", ["texte", "texte:Sois sage.", "chatml", "chatml:D'accord ?", "llama3", "qwen3"]
)
def test_llama_cpp_writes_the_same_conversation(name, tokenizer, tmp_path):
    marks = {"llama3": L3, "qwen3": Q3}.get(name)
    base = tokenizer
    if marks:
        import tokenizers

        added = [tokenizers.AddedToken(mark, special=True) for mark in marks]
        base = bpe(SPLITS["gpt-2"].before, added=added)
    template = template_for(name, base)
    model = make(template.tokenizer, context_length=256)
    description = form.Description(model.config, template.tokenizer, task="instruct", template=name)
    export(model, template.tokenizer, tmp_path / "x.gguf", "gguf", description, quant="f32")
    theirs = LlamaCpp(tmp_path / "x.gguf", 256)
    for talk in (TALK, TALK[1:2], TALK[1:]):
        messages = [{"role": role, "content": content} for role, content in talk]
        prompt = theirs.ask("/apply-template", messages=messages)["prompt"]
        ours = template.opening([Message(*message) for message in talk])
        assert theirs.tokens(prompt, special=True, start=True) == ours
        assert_same_text(model, theirs, ours)


@pytest.mark.parametrize("code", [12, 14], ids=["Q4_K", "Q6_K"])
def test_llama_cpp_reads_k_quants_as_we_do(code, tokenizer, tmp_path):
    """Des blocs au hasard, petits et de moyenne nulle : aucun outil de Python n'écrit ces types."""
    kind, rng = gguf.GGMLQuantizationType(code), np.random.default_rng(code)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    model = make(tokenizer, **{**LLAMA, "emb_dim": 256, "hidden_dim": 256}, n_layers=1, context_length=64)
    export(model, tokenizer, tmp_path / "f32.gguf", "gguf", quant="f32")

    def draw(name: str, shape: tuple[int, ...]):
        if len(shape) != 2 or not name.startswith("blk."):
            return None
        blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // block, size), dtype=np.uint8)
        if code == 12:  # échelle * q - minimum, q de 0 à 15 : le minimum fait 7,5 échelles
            blocks[..., :4] = np.float16([4e-4, 3e-3]).view(np.uint8)
            blocks[..., 8:12] = blocks[..., 4:8]
            blocks[..., 12:16] = blocks[..., 12:16] % 16 * 17
        else:
            blocks[..., -2:] = np.float16([1e-3]).view(np.uint8)
            blocks[..., -18:-2] = rng.integers(0, 32, blocks[..., -18:-2].shape)
        return blocks.reshape(*shape[:-1], -1)

    rewrite(tmp_path / "f32.gguf", tmp_path / "x.gguf", code, draw)
    compare(tmp_path / "x.gguf", "k")


@pytest.fixture(scope="module")
def real():
    assert smollm2.FILE.exists(), "SmolLM2 manque : make test-slow le prépare"
    return smollm2.FILE


def test_the_real_file_has_the_five_best_words(real):
    model, tokenizer = weights.load(str(real))
    best = scores(model, tokenizer.encode(PROMPT)).topk(5)
    words = {
        tokenizer.decode([index]): value for value, index in zip(*map(torch.Tensor.tolist, best), strict=True)
    }
    assert list(words) == list(BEST) and words == pytest.approx(BEST, abs=1e-3)


def test_the_real_file_answers(real, command, tmp_path):
    given = [f"ckpt_path={real}", "decoding=greedy", "device=cpu"]
    done = command("gpt_lightning", "chat", f'prompt="{QUESTION}"', *given, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == "The capital of France is Paris.", done.stderr


def test_the_real_file_leaves_as_it_came(real, tmp_path):
    """Lu, écrit, relu : les mêmes nombres en float32, et llama.cpp y répond la même chose."""
    loaded = load_and_describe(str(real))
    export(
        loaded.model,
        loaded.description.tokenizer,
        tmp_path / "x.gguf",
        "gguf",
        loaded.description,
        quant="f32",
    )
    again = load_and_describe(str(tmp_path / "x.gguf"))
    assert again.description.tokenizer.state() == loaded.description.tokenizer.state()
    assert again.description.template == loaded.description.template
    before = loaded.model.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in again.model.state_dict().items())
    theirs = LlamaCpp(tmp_path / "x.gguf", 256)
    messages = [{"role": "user", "content": QUESTION}]
    said = theirs.ask("/v1/chat/completions", messages=messages, temperature=0, max_tokens=20)
    assert said["choices"][0]["message"]["content"] == "The capital of France is Paris."


def test_what_the_commands_train_leaves_for_llama_cpp(command, tmp_path):
    """Le modèle par défaut, un modèle qui répond, un modèle adapté, un Llama : entraînés un peu, puis emportés."""
    few = ("trainer.max_steps=30", "callbacks.sample=null", "data.limit=2000", "trainer.accelerator=cpu")
    llama = [f"model.{key}={json.dumps(value)}" for key, value in {**LLAMA, "hidden_dim": 352}.items()]
    runs = {
        "texte": [],
        "repond": ["experiment=instruct", "data.template=chatml"],
        "llama": llama,
        "adapte": ["init_from=texte", "lora=default"],
    }
    for name, options in runs.items():
        done = command("train.py", *options, *few, f"output_dir={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for quant in ("f32", "q8_0"):
            to = f"{name}.{quant}.gguf"
            done = command(
                *(
                    "gpt_lightning",
                    "export",
                    "format=gguf",
                    f"quant={quant}",
                    f"ckpt_path={name}",
                    f"to={to}",
                ),
                cwd=tmp_path,
            )
            assert done.returncode == 0, done.stderr
            compare(tmp_path / to, quant, far=TRAINED)
    header = gguf.GGUFReader(tmp_path / "texte.f32.gguf").fields
    assert header["general.license"].contents() == "cc-by-sa-4.0"
    done = command("train.py", "init_from=texte.q8_0.gguf", *few, "output_dir=suite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("gpt_lightning", "evaluate", "ckpt_path=texte.q8_0.gguf", "data.limit=2000", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
