"""Muon contre AdamW, à jetons égaux : `python benchmarks/muon.py tinyshakespeare.txt`.

Les deux sont réglés par le même petit balayage de taux d'apprentissage sur une graine, puis
entraînés sur trois. On cherche en combien de jetons Muon atteint la perte finale d'AdamW. La courbe va dans
docs/images/muon.png.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from gpt_lightning.training.loggers.metrics_csv import read_metrics

ROOT = Path(__file__).resolve().parents[1]
RATES = ("1e-3", "3e-3", "1e-2")
NAMES = {"adamw": "AdamW", "muon": "Muon"}
COLOURS = {"adamw": "#0072B2", "muon": "#D55E00"}
Curve = dict[int, float]  # jetons -> perte de validation


def sweep(
    folder: Path, text: str, steps: int, rule: str, *overrides: str
) -> list[tuple[str, str, int, Curve]]:
    """Lance un balayage ; rend (règle, taux, graine, courbe) par entraînement."""
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "-m",
        f"optim={rule}",
        *(["optim.momentum_warmup=100"] if rule == "muon" else []),
        *overrides,
        "model=mini",
        "tokenizer=characters",
        "data=shakespeare",
        f"data.path={text}",
        f"trainer.max_steps={steps}",
        f"threads={torch.get_num_threads()}",  # d'un entraînement à l'autre, les mêmes
        f"eval_every={steps // 20}",
        "trainer.limit_val_batches=12",
        "callbacks.sample=null",
        f"output_dir={folder}",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    runs = []
    for path in sorted(folder.glob("*/config.yaml")):
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = read_metrics(path.parent / "metrics.csv").values()
        curve = {int(row["tokens"]): row["val/loss"] for row in rows if "val/loss" in row}
        optim = settings["optim"]
        runs.append((rule, optim["lr"], settings["seed"], curve))
    return runs


def last(curve: Curve) -> float:
    return curve[max(curve)]


def mean(curves: list[Curve]) -> Curve:
    return {tokens: statistics.mean(curve[tokens] for curve in curves) for tokens in curves[0]}


def tokens_to_reach(curve: Curve, loss: float) -> float | None:
    """Les jetons où la courbe descend à `loss`, interpolés entre deux évaluations."""
    points = sorted(curve.items())
    for (before, high), (after, low) in zip(points, points[1:], strict=False):
        if low <= loss:
            return before + (after - before) * max(0.0, (high - loss) / (high - low))
    return None


def draw(curves: dict[str, list[Curve]], rates: dict[str, str], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for rule, runs in curves.items():
        for curve in runs:
            axes.plot(list(curve), list(curve.values()), color=COLOURS[rule], alpha=0.3, linewidth=1)
        average, style = mean(runs), "-" if rule == "muon" else "--"
        rate = f"{rates[rule]:g}".replace(".", ",")
        label = f"{NAMES[rule]}, taux {rate}, moyenne de {len(runs)} graines"
        axes.plot(
            list(average), list(average.values()), style, color=COLOURS[rule], linewidth=2.5, label=label
        )
    axes.axhline(last(mean(curves["adamw"])), color="0.4", linestyle=":", label="perte finale d'AdamW")
    axes.set(
        title="Muon et AdamW sur tinyshakespeare, caractères, model=mini",
        xlabel="jetons vus",
        ylabel="perte de validation (nats par caractère)",
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:.1f}".replace(".", ","))
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--picture", default=str(ROOT / "docs" / "images" / "muon.png"))
    arguments = parser.parse_args()
    text = str(Path(arguments.text).resolve())
    with tempfile.TemporaryDirectory() as folder:
        rates_swept = (f"optim.lr={','.join(RATES)}", "seed=1")
        tried = [
            run
            for rule in COLOURS
            for run in sweep(Path(folder) / f"taux-{rule}", text, arguments.steps, rule, *rates_swept)
        ]
        print("| règle | taux | perte de validation (graine 1) |\n|---|---|---|")
        for rule, rate, _, curve in tried:
            print(f"| {rule} | {rate:g} | {last(curve):.4f} |", flush=True)
        rates = {
            rule: min((run for run in tried if run[0] == rule), key=lambda run: last(run[3]))[1]
            for rule in COLOURS
        }
        curves = {}
        for rule, rate in rates.items():
            seeds = (f"optim.lr={rate}", "seed=1,2,3")
            runs = sweep(Path(folder) / rule, text, arguments.steps, rule, *seeds)
            curves[rule] = [curve for *_, curve in runs]
    finals = {rule: [last(curve) for curve in seed_curves] for rule, seed_curves in curves.items()}
    for rule, values in finals.items():
        print(f"\n{rule}, taux {rates[rule]:g} : " + ", ".join(f"{value:.4f}" for value in values))
    target, total = statistics.mean(finals["adamw"]), max(curves["adamw"][0])
    tokens = tokens_to_reach(mean(curves["muon"]), target)
    print(
        f"\nMuon atteint {target:.4f} en {tokens:.0f} jetons sur {total} ({tokens / total:.0%})."
        if tokens
        else f"\nMuon n'atteint pas {target:.4f} en {total} jetons."
    )
    draw(curves, rates, Path(arguments.picture))


if __name__ == "__main__":
    main()
