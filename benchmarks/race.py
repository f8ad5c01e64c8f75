"""La course : le démarrage rapide de nanoGPT sur CPU, contre le nôtre, sur la même machine et le même texte.

    python benchmarks/race.py tinyshakespeare.txt

Shakespeare par caractères, 4 couches de 128, fenêtres de 64, lots de 12, 2 000 pas (1,54 M jetons). À la manière de
nanoGPT : fenêtres tirées au hasard, AdamW, cosinus de 1e-3 à 1e-4, échauffement de 100 pas. Les secondes sont celles de
l'entraînement, sans évaluation ; la perte est celle de toute la validation (le dernier dixième du texte). « modern »
est notre défaut sur le même texte, avec un plan court : le taux y est descendu quand il passe sous la perte de nanoGPT.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.peers import NanoGPT
from gpt_lightning.training.engine import keep_memory
from gpt_lightning.training.loggers.metrics_csv import read_metrics

STEPS, BATCH, BLOCK, WIDTH, HEADS, LAYERS, EVERY = 2000, 12, 64, 128, 4, 4, 100
SHAPE = [
    "data=text",
    "tokenizer=characters",
    f"data.max_length={BLOCK}",
    f"data.batch_size={BATCH}",
    "model=mini",
    f"model.emb_dim={WIDTH}",
    f"model.n_heads={HEADS}",
    f"model.n_layers={LAYERS}",
    f"model.context_length={BLOCK}",
    "model.tie_weights=true",
    f"trainer.max_steps={STEPS}",
    "trainer.enable_progress_bar=false",
    f"trainer.log_every_n_steps={EVERY}",
    f"eval_every={EVERY}",
    "callbacks.sample=null",
    "callbacks.plot=null",
    "logger=none",
    "+logger.csv._target_=gpt_lightning.training.loggers.MetricsCSV",
    "+logger.csv.path=${output_dir}/metrics.csv",
]
BRIEF = ["trainer.max_steps=400", "trainer.log_every_n_steps=50", "eval_every=50"]
OURS = {
    "AdamW": ["optim=adamw", "optim.lr=1e-3", "optim.betas=[0.9,0.99]", "optim.schedule=cosine"],
    "Muon": ["optim=muon", "optim.lr=0.01"],
    "modern": ["optim=muon", "model=modern", *BRIEF],
}
ADAMW = ["optim.warmup=0.05", "optim.min_lr_ratio=0.1"]


def nano(text: str, seed: int) -> list[tuple[float, float]]:
    """(secondes, perte de validation) à la manière de nanoGPT."""
    torch.manual_seed(seed)
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([ids[c] for c in text])
    train, val = tokens[: int(0.9 * len(tokens))], tokens[int(0.9 * len(tokens)) :]
    model = NanoGPT(len(ids), BLOCK, WIDTH, HEADS, LAYERS, bias=False).train()
    optimizer = model.optimizer(1e-3, (0.9, 0.99), 0.1)
    seconds, curve = 0.0, []
    for step in range(STEPS + 1):
        if step % EVERY == 0 and step:
            curve.append((seconds, whole_loss(model, val)))
        began = time.perf_counter()
        rate = (
            1e-3 * step / 100
            if step < 100
            else 1e-4
            + 0.45e-3 * (1 + torch.cos(torch.tensor(torch.pi * (step - 100) / (STEPS - 100))).item())
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(train) - BLOCK, (BATCH,))
        x = torch.stack([train[i : i + BLOCK] for i in starts])
        y = torch.stack([train[i + 1 : i + 1 + BLOCK] for i in starts])
        loss = model(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - began
    return curve


@torch.no_grad()
def whole_loss(model: NanoGPT, val: torch.Tensor) -> float:
    model.eval()
    n = (len(val) - 1) // BLOCK
    x, y = val[: n * BLOCK].view(n, BLOCK), val[1 : n * BLOCK + 1].view(n, BLOCK)
    losses = [model(a, b).float().item() * len(a) for a, b in zip(x.split(64), y.split(64), strict=True)]
    model.train()
    return sum(losses) / n


def ours(path: str, seed: int, typed: list[str], precision: str) -> list[tuple[float, float]]:
    """La même courbe pour train.py : les secondes viennent de son débit mesuré."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).parents[1] / "train.py"), *SHAPE, *typed]
        command += [
            f"data.path={path}",
            f"seed={seed}",
            f"trainer.precision={precision}",
            f"threads={torch.get_num_threads()}",  # ceux de nanoGPT, qui n'en choisit pas
            f"output_dir={folder}/x",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        seconds, before, curve = 0.0, 0.0, []
        for row in read_metrics(Path(folder, "x", "metrics.csv")).values():
            if "tokens_per_second" in row:
                seconds += (row["tokens"] - before) / row["tokens_per_second"]
                before = row["tokens"]
            if "val/loss" in row:
                curve.append((seconds, row["val/loss"]))
    return curve


def seconds_to_reach(curve: list[tuple[float, float]], loss: float) -> float | None:
    """Les secondes où la courbe passe sous `loss`, entre deux évaluations en ligne droite ; None si jamais."""
    before = None
    for seconds, value in curve:
        if value <= loss:
            if before is None:
                return seconds
            share = (before[1] - loss) / (before[1] - value)
            return before[0] + share * (seconds - before[0])
        before = seconds, value
    return None


def measure(path: str, seeds: list[int], precision: str) -> dict[str, list]:
    """Par nom, une fois par graine : la perte finale, ses secondes, et celles qui mènent à la perte de nanoGPT."""
    text = Path(path).read_text(encoding="utf-8")
    keep_memory()
    rows: dict[str, list] = {}
    for seed in seeds:
        peer = nano(text, seed)
        end, target = peer[-1]
        rows.setdefault("à la façon de nanoGPT", []).append((target, end, end))
        for name, typed in OURS.items():
            more = ADAMW if name == "AdamW" else []
            curve = ours(str(Path(path).absolute()), seed, [*typed, *more], precision)
            rows.setdefault(name, []).append((curve[-1][1], curve[-1][0], seconds_to_reach(curve, target)))
            print(json.dumps({"seed": seed, name: curve[-1], "nano": peer[-1]}), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1, 2])
    parser.add_argument("--precision", default="auto", help="la nôtre ; nanoGPT calcule en float32 sur CPU")
    arguments = parser.parse_args()
    rows = measure(arguments.text, arguments.seeds, arguments.precision)
    print(f"\ntorch {torch.__version__}, {arguments.precision}, graines {arguments.seeds}\n")
    print(
        "| | perte de validation | secondes | jusqu'à la perte de nanoGPT | rapport |\n|---|---|---|---|---|"
    )
    base = statistics.mean(run[1] for run in rows["à la façon de nanoGPT"])
    for name, runs in rows.items():
        losses, seconds, when = zip(*runs, strict=True)
        never = None in when
        mean = None if never else statistics.mean(when)
        shown = "jamais" if never else f"{mean:.1f}"
        ratio = "" if never else f"{mean / base:.2f}"
        spread = f"{statistics.mean(losses):.3f} ({min(losses):.3f} à {max(losses):.3f})"
        print(f"| {name} | {spread} | {statistics.mean(seconds):.1f} | {shown} | {ratio} |")


if __name__ == "__main__":
    main()
