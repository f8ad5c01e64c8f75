"""LoRA à côté d'un affinage entier : `python benchmarks/lora.py`.

Un pas d'AdamW sur 4 fenêtres de 256 jetons, GPT-2 124M aux poids tirés : temps médian de pas entrelacés, et pic de
mémoire de chacun dans un processus à lui.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.lora import LoRAConfig, adapt
from gpt_lightning.model.trainable import learn_only, n_trainable

KINDS = ("entier", "lora")


def stepper(kind: str, layers: int) -> tuple[Callable[[], None], int]:
    """Un pas d'entraînement, et combien de paramètres y apprennent."""
    torch.manual_seed(0)
    model = GPTModel(GPTConfig(vocab_size=50257, n_layers=layers))
    if kind == "lora":
        adapt(model, LoRAConfig(rank=8))
    learn_only(model, "lora" if kind == "lora" else "all")
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, fused=True)
    ids = torch.randint(50257, (4, 257))

    def step() -> None:
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, n_trainable(model)


def peak(kind: str, layers: int) -> None:
    """Écrit le pic de mémoire de trois pas, moins celui de torch seul."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step, learned = stepper(kind, layers)
    for _ in range(3):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"memory": (after - before) * 1024, "learned": learned}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12, help="12 : GPT-2 124M")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--peak", choices=KINDS, help="un seul, pour sa mémoire")
    given = parser.parse_args()
    if given.peak:
        peak(given.peak, given.layers)
        return
    peaks = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--peak", kind, "--layers", str(given.layers)]
        peaks[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    steps = {kind: stepper(kind, given.layers)[0] for kind in KINDS}
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(given.steps + 1):
        for kind in KINDS:
            began = time.perf_counter()
            steps[kind]()
            if turn:  # le premier pas alloue
                times[kind].append(time.perf_counter() - began)
    for kind in KINDS:
        median = statistics.median(times[kind])
        print(
            f"{kind:8} {1000 * median:8.0f} ms par pas, {1024 / median:6.0f} jetons/s, "
            f"{peaks[kind]['memory'] / 1e9:5.2f} Go, {peaks[kind]['learned']:,} paramètres qui apprennent"
        )


if __name__ == "__main__":
    main()
