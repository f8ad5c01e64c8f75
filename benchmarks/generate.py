"""La génération à côté de transformers, CTranslate2 et llama.cpp, GPT-2 124M : `python benchmarks/generate.py`.

Poids au hasard, les mêmes partout, la norme finale agrandie pour que les probabilités aient l'entropie de celles d'un
modèle entraîné (quatre nats environ). Départ de 32 jetons ; concurrents entrelacés, médianes de `--rounds` tours.
"""

import argparse
import copy
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import ctranslate2
import torch
import transformers

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.llamacpp import MISSING, QUANTS, LlamaCpp
from gpt_lightning.decoding import Strategy, generate
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.fast.products import Product
from gpt_lightning.tokenizers import gpt2
from gpt_lightning.weights import to_device
from gpt_lightning.weights.exporting import export

GREEDY = Strategy(temperature=0)
NUCLEUS = Strategy(temperature=0.8, top_p=0.9)
PEAKED = 6.7  # des logits d'écart type 3,7
ROOT = Path(__file__).resolve().parents[1]
Works = dict[str, partial]


class Peers:
    """Le même GPT-2 124M ici, chez transformers, chez CTranslate2 et chez llama.cpp."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.plain = GPTModel(GPTConfig(vocab_size=50257)).eval()
        with torch.no_grad():
            self.plain.final_norm.scale.mul_(PEAKED)
        self.folder = tempfile.TemporaryDirectory()
        theirs, self.converted = f"{self.folder.name}/hf", f"{self.folder.name}/ct2"
        export(self.plain, gpt2(), Path(theirs), "hf")
        self.theirs = transformers.GPT2LMHeadModel.from_pretrained(theirs).eval()
        self.words = transformers.GPT2TokenizerFast.from_pretrained(theirs)
        ctranslate2.converters.TransformersConverter(theirs).convert(self.converted)

    def ours(self, dtype: str, compile: bool = False) -> GPTModel:
        return to_device(copy.deepcopy(self.plain), "cpu", dtype, compile=compile)

    def ctranslate2(self, dtype: str) -> ctranslate2.Generator:
        kind = {"fp32": "float32"}.get(dtype, dtype)
        return ctranslate2.Generator(self.converted, compute_type=kind, intra_threads=torch.get_num_threads())

    def works(self, batch: int, tokens: int) -> Works:
        """Ce qu'il y a à mesurer ; le nom dit qui, en quel type, et comment."""
        prompt = torch.randint(0, 50256, (batch, 32), generator=torch.Generator().manual_seed(1))
        made = {}
        for dtype in ("fp32", "bf16", "int8", "int4"):
            model = self.ours(dtype)
            made[f"nous {dtype}"] = partial(by_us, model, prompt, tokens, GREEDY)
            made[f"nous {dtype}, nucleus"] = partial(by_us, model, prompt, tokens, NUCLEUS)
            made[f"nous {dtype}, un jeton"] = partial(by_us, model, prompt, 1, GREEDY)
            made[f"produits seuls {dtype}"] = products_of(model, batch, tokens)
            if batch == 1 and not MISSING:
                peer = LlamaCpp(self.plain, QUANTS[dtype], Path(self.folder.name))
                made[f"llama.cpp {QUANTS[dtype]}"] = partial(peer.generate, prompt[0].tolist(), tokens)
            if dtype == "fp32" and batch == 1:
                fast = self.ours(dtype, compile=True)
                made["nous fp32, compilé"] = partial(by_us, fast, prompt, tokens, GREEDY)
        made["transformers fp32"] = partial(by_transformers, self.theirs, prompt, tokens)
        words = [self.words.convert_ids_to_tokens(row) for row in prompt.tolist()]
        for dtype in ("fp32", "int8"):
            engine = self.ctranslate2(dtype)
            made[f"CTranslate2 {dtype}"] = partial(by_ctranslate2, engine, words, tokens)
        return made


def by_us(model, prompt, tokens, strategy):
    return generate(model, prompt, strategy=strategy, max_new_tokens=tokens, seed=1)


def by_transformers(model, prompt, tokens):
    limits = {"max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": 0, "do_sample": False}
    return model.generate(prompt, attention_mask=torch.ones_like(prompt), **limits)


def by_ctranslate2(engine, words, tokens):
    limits = {"max_length": tokens, "min_length": tokens, "sampling_topk": 1}
    return engine.generate_batch(words, include_prompt_in_result=False, **limits)


def products_of(model, batch: int, tokens: int) -> partial:
    """Les produits d'un pas de `model`, dans leur ordre, `tokens` fois et rien d'autre."""
    config, weight = model.config, model.tok_emb.weight
    hidden, context = config.hidden_width, config.n_heads * config.head_width
    calls = []
    for name, layer in model.named_modules():
        if isinstance(layer, Product | torch.nn.Linear):
            width = {"out_proj": context, "2": hidden}.get(name.rpartition(".")[2], config.emb_dim)
            calls.append((layer.forward, torch.randn(batch, width, dtype=weight.dtype)))
    return partial(call_all, calls, tokens)


@torch.inference_mode()
def call_all(calls: list[tuple], tokens: int) -> None:
    for _ in range(tokens):
        for layer, x in calls:
            layer(x)


def beyond_products(times: dict[str, float], dtype: str, tokens: int) -> float:
    """Les ms que chaque pas ajoute aux produits, la lecture du départ retirée."""
    total, first = (tokens * times[name] for name in (f"nous {dtype}", f"nous {dtype}, un jeton"))
    return (total - first) / (tokens - 1) - times[f"produits seuls {dtype}"]


def interleave(works: Works, rounds: int) -> dict[str, float]:
    """La médiane des secondes de chaque travail, les travaux entrelacés ; un tour de chauffe."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(batch: int, tokens: int, rounds: int, peers: Peers | None = None) -> dict[str, float]:
    """Les millisecondes de chaque travail, divisées par `tokens`."""
    seconds = interleave((peers or Peers()).works(batch, tokens), rounds)
    return {name: 1e3 * value / tokens for name, value in seconds.items()}


@torch.inference_mode()
def without_cache(model, prompt, tokens, *, every_logit=False):
    """Relire tout le texte à chaque jeton ; `every_logit` : calculer aussi les logits de tout le texte (l'original)."""
    ids = prompt
    for _ in range(tokens):
        logits = model(ids)[:, -1] if every_logit else model.next_logits(ids)
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), dim=1)
    return ids


def against_no_cache(arguments) -> None:
    ours = Peers().plain
    prompt = torch.randint(0, 50257, (1, 32), generator=torch.Generator().manual_seed(1))
    for title, n, every in (
        ("sans cache", arguments.long, False),
        ("à la façon de l'original", arguments.tokens, True),
    ):
        began = time.perf_counter()
        slow = without_cache(ours, prompt, n, every_logit=every)
        middle = time.perf_counter()
        fast = generate(ours, prompt, strategy=GREEDY, max_new_tokens=n)
        seconds = {"gpt_lightning": time.perf_counter() - middle, title: middle - began}
        show(f"{n} jetons, {title}", seconds, n)
        print(f"\nJetons identiques : {'oui' if torch.equal(slow, fast) else 'non'}", flush=True)


def lookup(arguments) -> None:
    """Un texte qui se répète : les devinettes contre un jeton par passe."""
    ours = Peers().plain
    with (
        torch.no_grad()
    ):  # chaque jeton ne dépend que du précédent, et la suite boucle : elle répète sa source
        for name, parameter in ours.named_parameters():
            if name.startswith("pos_emb") or name.endswith(("out_proj.weight", "out_proj.bias")):
                parameter.zero_()
    generator = torch.Generator().manual_seed(2)
    prompt = torch.randint(0, 50257, (1, 4), generator=generator)
    texts, n = {}, arguments.long

    def run(name, strategy):
        texts[name] = generate(ours, prompt, strategy=strategy, max_new_tokens=n)

    guessing = Strategy(temperature=0, lookup_ngram=2)
    works = {
        "gpt_lightning": lambda: run("guess", guessing),
        "un jeton par passe": lambda: run("plain", GREEDY),
    }
    seconds = interleave(works, 1)
    show(f"lookup_ngram=2, {n} jetons d'un texte qui boucle", seconds, n)
    print(f"\nJetons identiques : {'oui' if torch.equal(texts['guess'], texts['plain']) else 'non'}")


def time_starts(rounds: int) -> dict[str, float]:
    """Les secondes de `import torch`, des aides, et du premier jeton de generate.py, qui lit la dernière exécution."""
    commands = {
        "import torch": ["-c", "import torch"],
        "train.py --help": ["train.py", "--help"],
        "generate.py --help": ["generate.py", "--help"],
        "premier jeton": ["generate.py", "prompt=", "max_new_tokens=50", "decoding=greedy"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, typed in commands.items():
            began = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, *typed], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                process.stdout.read(1)
                first = time.perf_counter() - began
                process.communicate()
            if process.returncode:
                raise SystemExit(
                    "generate.py demande une exécution finie sous outputs/ : « make train » d'abord."
                )
            if turn:
                total = time.perf_counter() - began
                seconds[name].append(first if name == "premier jeton" else total)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(title: str, seconds: dict[str, float], tokens: int) -> None:
    print(f"\n### {title}\n\n| | jetons/s | nous / lui |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {tokens / value:.1f} | {value / seconds['gpt_lightning']:.2f}x |", flush=True)


def side_by_side(arguments) -> None:
    peers = Peers()
    for batch in (1, 8):
        print(f"\n### lot de {batch}, {arguments.tokens} jetons\n\n| | ms par pas |\n|---|---|")
        times = measure(batch, arguments.tokens, arguments.rounds, peers)
        for name, value in times.items():
            print(f"| {name} | {value:.1f} |", flush=True)
        for dtype in ("fp32", "bf16", "int8", "int4"):
            print(
                f"| un pas {dtype}, ses produits retirés | {beyond_products(times, dtype, arguments.tokens):.1f} |"
            )


def starting(arguments) -> None:
    print()
    for name, value in time_starts(arguments.rounds).items():
        print(f"{name} : {value:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--long", type=int, default=512, help="jetons contre la génération sans cache")
    parser.add_argument("--rounds", type=int, default=3)
    parts = {"side": side_by_side, "cache": against_no_cache, "lookup": lookup, "start": starting}
    parser.add_argument("--only", choices=parts, action="append")
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, CTranslate2 {ctranslate2.__version__}"
    )
    for name, part in parts.items():
        if not arguments.only or name in arguments.only:
            part(arguments)


if __name__ == "__main__":
    main()
