"""La vitesse du décodage, à côté de transformers et de LitGPT : `python benchmarks/generate.py`.

GPT-2 124M, poids au hasard (les mêmes chez transformers et ici), départ de 32 jetons. Les concurrents sont entrelacés ;
on donne la médiane de `--rounds` tours et des rapports. L'extra `bench` installe transformers ; LitGPT est mesuré s'il
est là : il demande un huggingface_hub plus ancien que constraints.txt.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
import transformers

from gpt_lightning.decoding import Strategy, generate
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.weights.huggingface import state_from

GREEDY = Strategy(temperature=0)
NUCLEUS = Strategy(temperature=0.8, top_p=0.9)
ROOT = Path(__file__).resolve().parents[1]


def models():
    """Le même GPT-2 124M chez transformers et ici."""
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    ours = GPTModel(GPTConfig(vocab_size=50257)).eval()
    tensors = {name: value for name, value in theirs.state_dict().items() if name != "lm_head.weight"}
    ours.load_state_dict(state_from(tensors, ours.config), strict=False)
    return ours, theirs


def litgpt_model(dtype):
    """Un modèle de LitGPT de la même forme ; None si LitGPT n'est pas installé."""
    try:
        from litgpt import GPT, Config
    except ImportError:
        return None
    shape = {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024}
    config = Config(**shape, vocab_size=50257, padded_vocab_size=50257, rotary_percentage=0.25)
    model = GPT(config).eval().to(dtype)
    model.max_seq_length = 1024
    return model


def by_transformers(model, prompt, tokens, strategy):
    sampling = (
        {"do_sample": False}
        if strategy.greedy
        else {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 0}
    )
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        pad_token_id=0,
        **sampling,
    )


def by_litgpt(model, prompt, tokens, strategy):
    from litgpt.generate.base import generate as generate_litgpt

    model.clear_kv_cache()
    with torch.inference_mode():
        model.set_kv_cache(batch_size=1, max_seq_length=prompt.shape[1] + tokens)
        sampling = {"temperature": 0.0} if strategy.greedy else {"temperature": 0.8, "top_p": 0.9}
        return generate_litgpt(model, prompt[0], prompt.shape[1] + tokens, **sampling)


@torch.inference_mode()
def without_cache(model, prompt, tokens, *, every_logit=False):
    """Relire tout le texte à chaque jeton ; `every_logit` : calculer aussi les logits de tout le texte (l'original)."""
    ids = prompt
    for _ in range(tokens):
        logits = model(ids)[:, -1] if every_logit else model.next_logits(ids)
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), dim=1)
    return ids


@torch.inference_mode()
def weights_alone(model, batch, tokens):
    """Chaque couche linéaire une fois par jeton, et rien d'autre."""
    dtype = next(model.parameters()).dtype
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = [torch.randn(batch, layer.in_features, dtype=dtype) for layer in layers]
    for _ in range(tokens):
        for layer, x in zip(layers, inputs, strict=True):
            layer(x)


def interleaved(works: dict, rounds: int) -> dict[str, float]:
    """La médiane des secondes de chaque travail, les travaux entrelacés ; un tour de chauffe."""
    seconds = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(title: str, seconds: dict[str, float], tokens: int) -> None:
    print(f"\n### {title}\n\n| | jetons/s | nous / lui |\n|---|---|---|")
    ours = seconds["gpt_lightning"]
    for name, value in seconds.items():
        print(f"| {name} | {tokens / value:.1f} | {value / ours:.2f}x |", flush=True)


def side_by_side(arguments) -> None:
    ours, theirs = models()
    # sans bf16 natif, transformers y fait un ou deux jetons par seconde : peu de jetons suffisent
    for dtype, batch, n in (
        (torch.float32, 1, arguments.tokens),
        (torch.bfloat16, 1, 32),
        (torch.bfloat16, 8, 16),
    ):
        n = min(n, arguments.tokens) if arguments.short else arguments.tokens
        ours.to(dtype), theirs.to(dtype)
        lit = litgpt_model(dtype) if batch == 1 else None
        prompt = torch.randint(0, 50257, (batch, 32), generator=torch.Generator().manual_seed(1))
        for name, strategy in (("greedy", GREEDY), ("nucleus", NUCLEUS)):
            works = {
                "gpt_lightning": partial(by_us, ours, prompt, n, strategy),
                "transformers": partial(by_transformers, theirs, prompt, n, strategy),
            }
            if lit is not None:
                works["LitGPT"] = partial(by_litgpt, lit, prompt, n, strategy)
            works["poids seuls"] = partial(weights_alone, ours, batch, n)
            title = f"{str(dtype).removeprefix('torch.')}, lot de {batch}, {name}, {n} jetons"
            show(title, interleaved(works, arguments.rounds), batch * n)
        same = torch.equal(by_us(ours, prompt, 8, GREEDY), by_transformers(theirs, prompt, 8, GREEDY))
        print(f"\nHuit jetons greedy identiques chez transformers : {'oui' if same else 'non'}")


def by_us(model, prompt, tokens, strategy):
    return generate(model, prompt, strategy=strategy, max_new_tokens=tokens, seed=1)


def against_no_cache(arguments) -> None:
    ours, _ = models()
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
    ours, _ = models()
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
    seconds = interleaved(works, 1)
    show(f"lookup_ngram=2, {n} jetons d'un texte qui boucle", seconds, n)
    print(f"\nJetons identiques : {'oui' if torch.equal(texts['guess'], texts['plain']) else 'non'}")


def first_token(arguments) -> None:
    """De la commande au premier jeton affiché, sur un petit modèle ; il faut une exécution sous outputs/."""
    times = {"import torch": [], "generate.py": []}
    for _ in range(arguments.rounds + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        times["import torch"].append(time.perf_counter() - began)
        began = time.perf_counter()
        command = [
            sys.executable,
            str(ROOT / "generate.py"),
            "prompt=",
            "max_new_tokens=50",
            "decoding=greedy",
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        ) as one:
            one.stdout.read(1)
            times["generate.py"].append(time.perf_counter() - began)
            one.communicate()
            if one.returncode:
                print(
                    "\ngenerate.py demande une exécution finie sous outputs/ : « python train.py » d'abord."
                )
                return
    torch_s, ours_s = (statistics.median(values[1:]) for values in times.values())
    print(
        f"\n### Premier jeton\n\nimport torch {torch_s:.2f} s ; generate.py {ours_s:.2f} s ; borne 1,3 x + 1 s : "
        f"{1.3 * torch_s + 1:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--long", type=int, default=512, help="jetons contre la génération sans cache")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--short", action="store_true", help="moins de jetons en bf16 (processeur sans bf16 natif)"
    )
    parts = {"side": side_by_side, "cache": against_no_cache, "lookup": lookup, "first": first_token}
    parser.add_argument("--only", choices=parts, action="append")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, "
        f"{os.cpu_count()} cœurs, {torch.get_num_threads()} fils"
    )
    for name, part in parts.items():
        if not arguments.only or name in arguments.only:
            part(arguments)


if __name__ == "__main__":
    main()
