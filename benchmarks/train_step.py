"""Un pas d'entraînement de GPT-2 124M, à côté de nanoGPT et de transformers : `python benchmarks/train_step.py`.

Passe avant, passe arrière, AdamW, dropout 0 ; les deux modèles alternent dans un même processus, on donne la médiane.
Le pic de mémoire vient de processus à part. `--original` compare le pas de experiment=original (163 M, dropout 0,1)
à la façon du livre : attention en toutes lettres, logits entiers, AdamW sans noyau fusionné.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.training.engine import keep_memory
from gpt_lightning.training.hardware import peak_memory
from gpt_lightning.training.optim import OptimConfig, build_optimizer

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.peers import NanoGPT, products

ORIGINAL = {"context_length": 256, "drop_rate": 0.1, "qkv_bias": False, "tie_weights": False, "init": "torch"}


class ByTheBook(nn.Module):
    """L'attention du livre, en toutes lettres, avec son masque et son dropout sur les poids."""

    def __init__(self, att, drop_rate: float):
        super().__init__()
        self.att, self.dropout = att, nn.Dropout(drop_rate)

    def forward(self, x, positions, cache=None):
        q, k, v = (
            self.att._heads(project(x)) for project in (self.att.W_query, self.att.W_key, self.att.W_value)
        )
        scores = q @ k.transpose(2, 3)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")) / self.att.head_dim**0.5
        context = self.dropout(weights.softmax(-1)) @ v
        return self.att.out_proj(context.transpose(1, 2).flatten(2))


def our_step(device: str, precision: str, compiled: bool, **shape):
    model = GPTModel(GPTConfig(vocab_size=50257, **shape)).to(device).train()
    loss_of = torch.compile(model.loss) if compiled else model.loss
    return _step(
        loss_of,
        build_optimizer(model, OptimConfig(lr=1e-4, arguments={"betas": (0.9, 0.95)})),
        device,
        precision,
    )


def their_step(device: str, precision: str, compiled: bool):
    import transformers

    shape = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).to(device).train()
    forward = torch.compile(model) if compiled else model

    def loss_of(x, y):
        return F.cross_entropy(forward(x).logits.flatten(0, 1).float(), y.flatten())

    return _step(loss_of, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True), device, precision)


def nano_step(device: str, precision: str, compiled: bool):
    model = NanoGPT(50257, 1024, 768, 12, 12).to(device).train()
    optimizer = model.optimizer(1e-4, (0.9, 0.95), 0.1)
    return _step(torch.compile(model) if compiled else model, optimizer, device, precision)


def book_step(device: str, precision: str, compiled: bool):
    model = GPTModel(GPTConfig(vocab_size=50257, **ORIGINAL)).train()
    for block in model.trf_blocks:
        block.att = ByTheBook(block.att, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1, foreach=False)
    return _step(
        lambda x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten()), optimizer, device, precision
    )


def _step(loss_of, optimizer, device: str, precision: str):
    def step(x, y) -> None:
        context = torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
        with context:
            loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def batch_of(arguments, device: str):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 50257, (arguments.batch, arguments.length + 1), generator=generator).to(device)
    return ids[:, :-1], ids[:, 1:]


def makers(arguments, device: str, precision: str) -> dict:
    if arguments.original:
        return {
            "gpt_lightning": lambda: our_step(device, precision, arguments.compile, **ORIGINAL),
            "à la façon du livre": lambda: book_step(device, precision, arguments.compile),
        }
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    made = {
        "gpt_lightning": lambda: our_step(device, precision, arguments.compile),
        "à la façon de nanoGPT": lambda: nano_step(device, precision, False),
        "nanoGPT, compilé": lambda: nano_step(device, precision, True),
        "transformers": lambda: their_step(device, precision, False),
        "produits seuls": lambda: products(arguments.batch * arguments.length, 768, 12, 50257, dtype, device),
    }
    return {name: make for name, make in made.items() if not arguments.only or name in arguments.only}


def alone(arguments, name: str, precision: str) -> float:
    """Le pic de mémoire, en octets, de deux pas dans un processus neuf."""
    command = [sys.executable, __file__, "--alone", name, "--precision", precision]
    command += ["--batch", str(arguments.batch), "--length", str(arguments.length)]
    command += ["--original"] * arguments.original + ["--compile"] * arguments.compile
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(arguments, precision: str) -> tuple[dict[str, float], dict[str, float]]:
    """Les secondes d'un pas (médianes, pas entrelacés) et le pic de mémoire en Go, par nom."""
    device = device_of(arguments)
    keep_memory()
    x, y = batch_of(arguments, device)
    made = makers(arguments, device, precision)
    # d'abord : sous Linux, le pic d'un processus neuf part de celui de son parent
    memory = {name: alone(arguments, name, precision) / 1e9 for name in made}
    steps = {name: make() for name, make in made.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(arguments.steps + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step(x, y)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}, memory


def device_of(arguments) -> str:
    return "cuda" if torch.cuda.is_available() and not arguments.original else "cpu"


def parse(typed: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--original", action="store_true")
    parser.add_argument("--only", nargs="+", help="seulement ceux-là")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args(typed)


def main() -> None:
    arguments = parse()
    if arguments.alone:
        arguments.only = None
        device = device_of(arguments)
        keep_memory()
        step = makers(arguments, device, arguments.precision[0])[arguments.alone]()
        batch = batch_of(arguments, device)
        step(*batch), step(*batch)
        print(peak_memory(torch.device(device)))
        return
    print(f"torch {torch.__version__}, {device_of(arguments)}, {arguments.batch} x {arguments.length}\n")
    print("| précision | | ms par pas | jetons/s | rapport | pic de mémoire |\n|---|---|---|---|---|---|")
    for precision in arguments.precision:
        medians, memory = measure(arguments, precision)
        for name, median in medians.items():
            cells = (
                f"{1e3 * median:.0f}",
                f"{arguments.batch * arguments.length / median:.0f}",
                f"{median / medians['gpt_lightning']:.2f}x",
                f"{memory[name]:.2f} Go",
            )
            print(f"| {precision} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
