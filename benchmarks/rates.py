"""Le taux que `optim.lr=auto` choisit, au milieu de cinq : `python benchmarks/rates.py --texts 100ko.txt 3Mo.txt`.

Chaque essai est un `train.py` d'une graine (`--seed`) et d'un fil, deux à la fois : 300 pas d'un modèle de 1,4, 5
ou 12 M de paramètres (100 pas de 30 et de 124 M, trois taux, le premier texte). La perte est celle de trente lots de
validation, la meilleure de six évaluations (best.ckpt) : un petit texte s'apprend ensuite par cœur. « dictionnaire »
est le corpus du défaut. Chaque essai fini est écrit dans `--results`, une ligne de JSON : la même commande reprend où
elle en était.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from gpt_lightning.training.muon import MuonAdamW
from gpt_lightning.training.optim import resolve_lr

ROOT = Path(__file__).parents[1]
FIVE, THREE = (0.3, 0.6, 1.0, 1.8, 3.0), (0.5, 1.0, 2.0)  # fois le taux choisi
RULES = {"muon": MuonAdamW, "adamw": torch.optim.AdamW}


class Size(NamedTuple):
    width: int
    steps: int
    factors: tuple[float, ...]
    keys: tuple[str, ...]

    def lr(self, optim: str) -> float:
        return float(resolve_lr({"lr": "auto"}, RULES[optim], self.width)["lr"])


def shape(width: int, heads: int, layers: int, batch: int) -> tuple[str, ...]:
    return (
        f"model.emb_dim={width}",
        f"model.n_heads={heads}",
        f"model.n_layers={layers}",
        f"data.batch_size={batch}",
    )


SIZES = {
    "1,4 M": Size(128, 300, FIVE, shape(128, 4, 4, 16)),
    "5 M": Size(256, 300, FIVE, shape(256, 4, 5, 8)),
    "12 M": Size(384, 300, FIVE, shape(384, 6, 6, 8)),
    "30 M": Size(576, 100, THREE, shape(576, 9, 7, 8)),
    "124 M": Size(768, 100, THREE, ("model=modern124m", "data.max_length=128", "data.batch_size=8")),
}
QUIET = (
    "threads=1",
    "compile=false",
    "eval_every=50",
    "trainer.limit_val_batches=30",
    "trainer.enable_progress_bar=false",
    "callbacks.sample=null",
    "callbacks.plot=null",
    "logger=none",
    "+logger.csv._target_=gpt_lightning.training.loggers.MetricsCSV",
    "+logger.csv.path=${output_dir}/metrics.csv",
)


def train(size: Size, optim: str, text: str, rate: float, seed: int) -> float:
    """La perte de validation d'un essai."""
    corpus = ("data=text", f"data.path={Path(text).resolve()}") if text != "dictionnaire" else ()
    with tempfile.TemporaryDirectory() as folder:
        typed = ["model=modern", *size.keys, *corpus, f"optim={optim}", f"optim.lr={rate:g}", *QUIET]
        typed += [f"seed={seed}", f"trainer.max_steps={size.steps}", f"output_dir={folder}/x"]
        done = subprocess.run([sys.executable, "train.py", *typed], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        rows = read_metrics(Path(folder, "x", "metrics.csv")).values()
        return min(row["val/loss"] for row in rows if "val/loss" in row)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", nargs="+", default=["dictionnaire"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--optim", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--results", type=Path, default=Path("rates.jsonl"))
    arguments = parser.parse_args()
    lines = arguments.results.read_text("utf-8").splitlines() if arguments.results.exists() else []
    done = {tuple(key): loss for key, loss in map(json.loads, lines)}

    def tried(key: tuple[str, str, str, float, int]) -> float:  # taille, optimiseur, texte, taux, graine
        if key not in done:
            name, *others = key
            done[key] = train(SIZES[name], *others)
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, done[key]]) + "\n")
        return done[key]

    with ThreadPoolExecutor(2) as pool:
        for optim in arguments.optim:
            for name in arguments.sizes:
                size = SIZES[name]
                for text in arguments.texts if size.factors is FIVE else arguments.texts[:1]:
                    rates = [float(f"{factor * size.lr(optim):.2g}") for factor in size.factors]
                    keys = [(name, optim, text, rate, arguments.seed) for rate in rates]
                    losses = list(pool.map(tried, keys))
                    pairs = zip(rates, losses, strict=True)
                    shown = " | ".join(f"{rate:g} : {loss:.3f}" for rate, loss in pairs)
                    beyond = 100 * (losses[size.factors.index(1.0)] / min(losses) - 1)
                    print(f"| {optim}, {name}, {Path(text).stem} | {shown} | +{beyond:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
