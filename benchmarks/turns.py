"""Cinq tours d'une conversation : l'attente du premier jeton de chacun, en relisant tout et sans relire.

    OMP_NUM_THREADS=1 python benchmarks/turns.py [dossier ou checkpoint] --dtype fp32 --cpu

Sans dossier, c'est GPT-2 124M, poids tirés au sort. `--cpu` compte les secondes de calcul du processus : elles ne
dépendent pas de ce que la machine fait d'autre. Les questions ont 30 jetons, les réponses 100, tirés au sort.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from gpt_lightning.decoding import Strategy, stream
from gpt_lightning.decoding.prefixes import PrefixCache
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.cache import LanguageModel
from gpt_lightning.weights import load_for_inference
from gpt_lightning.weights.inference import to_device

TURNS, QUESTION, ANSWER = 5, 30, 100


def open_model(source: str | None, dtype: str) -> LanguageModel:
    if source is not None:
        return load_for_inference(source, device="cpu", dtype=dtype).model
    torch.manual_seed(0)
    sizes = {"context_length": 1024, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
    model = GPTModel(GPTConfig(vocab_size=50257, qkv_bias=True, tie_weights=True, **sizes))
    return to_device(model, "cpu", dtype)


def talk(model: LanguageModel, prefixes: PrefixCache | None, cpu: bool) -> tuple[list[float], list[int]]:
    """Les secondes du premier jeton de chaque tour, et ces jetons."""
    draw = torch.Generator().manual_seed(1)
    clock = time.process_time if cpu else time.perf_counter
    history: list[int] = []
    seconds, tokens = [], []
    options = {"strategy": Strategy(temperature=0), "max_new_tokens": 1, "prefixes": prefixes}
    for _ in range(TURNS):
        history += torch.randint(model.config.vocab_size, (QUESTION,), generator=draw).tolist()
        began = clock()
        (step,) = stream(model, [history], **options)
        seconds.append(clock() - began)
        tokens.append(step[0].id)
        history += torch.randint(model.config.vocab_size, (ANSWER,), generator=draw).tolist()
        for _ in stream(model, [history], **options) if prefixes else ():
            pass  # ce que la réponse, écrite, aurait laissé : hors de la mesure
    return seconds, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    model = open_model(arguments.source, arguments.dtype)
    talk(model, None, arguments.cpu)  # les premières passes sont plus lentes
    rows: dict[str, list[list[float]]] = {"en relisant": [], "sans relire": []}
    for _ in range(arguments.rounds):
        read, wanted = talk(model, None, arguments.cpu)
        reused, tokens = talk(model, PrefixCache(model, 512_000_000), arguments.cpu)
        assert tokens == wanted
        rows["en relisant"].append(read)
        rows["sans relire"].append(reused)
    for name, seconds in rows.items():
        middle = [statistics.median(turn) * 1000 for turn in zip(*seconds, strict=True)]
        print(f"| {name} | " + " | ".join(f"{each:.0f}" for each in middle) + " |")


if __name__ == "__main__":
    main()
