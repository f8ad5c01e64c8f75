"""L'index d'un corpus : sa taille, son temps, la mémoire, 200 jetons tracés ; la part copiée au fil des passages.

python benchmarks/trace.py 2000000 50000000                 # des jetons du dictionnaire, tirés de nouveau
python benchmarks/trace.py --figure outputs/.../metrics.csv # docs/images/copie.png
"""

import argparse
import csv
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gpt_lightning.data.dictionary import definitions
from gpt_lightning.data.tracing.spans import trace
from gpt_lightning.data.tracing.suffixes import Suffixes, build_index, write_index

CHARACTERS = 3.2  # par jeton, pour le tokenizer appris par défaut
TEXT = 200  # jetons tracés


def documents(tokens: int, texts: list[str]) -> Iterator[list[str]]:
    """Des documents du dictionnaire, tant de jetons ; au-delà de ce qu'il a, leurs mots sont tirés de nouveau."""
    rng, left, again = random.Random(1), int(tokens * CHARACTERS), False
    while left > 0:
        for text in texts:
            if again:
                words = text.split(" ")
                rng.shuffle(words)
                text = " ".join(words)
            yield [text]
            left -= len(text)
            if left <= 0:
                return
        again = True


def resident() -> int:
    """Le pic de la mémoire de ce processus, en octets (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(tokens: int) -> None:
    texts = [message.content for row in definitions(None) for message in row.messages]  # hors de la mesure
    Path("/proc/self/clear_refs").write_text("5")  # le pic repart de maintenant
    before = resident()
    began = time.process_time()
    index = build_index(documents(tokens, texts))
    built = time.process_time() - began
    peak = resident() - before
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.bin"
        began = time.perf_counter()
        write_index(path, index, {})
        written = time.perf_counter() - began
        size = path.stat().st_size
        rng, began = random.Random(2), time.perf_counter()
        index = Suffixes.open(path)
        opened, times = time.perf_counter() - began, []
        for _ in range(20):
            begin = rng.randrange(len(index.ids) - 500)
            parts = [index.text(begin + at, begin + at + 30) for at in (0, 200, 400)]
            text = " ".join(parts * 9)[: int(TEXT * CHARACTERS)]
            began = time.perf_counter()
            trace(index, text)
            times.append(time.perf_counter() - began)
    print(
        f"{tokens} jetons : {len(index.ids)} mots, {len(index.vocabulary)} différents ; "
        f"construit en {built:.1f} s de calcul, "
        f"écrit en {written:.1f} s, {size / tokens:.1f} octets par jeton ; pic {peak / tokens:.1f} octets par jeton ; "
        f"ouvert en {opened:.2f} s ; {TEXT} jetons tracés en {1000 * sorted(times)[10]:.1f} ms (médiane), "
        f"{1000 * max(times):.1f} ms (le plus long)"
    )


def draw(metrics: Path, to: Path, tokens_per_pass: int) -> None:
    """La part copiée et les deux pertes, évaluation par évaluation."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = list(csv.DictReader(metrics.open(encoding="utf-8")))
    figure, left = plt.subplots(figsize=(7, 3.6), layout="constrained")
    right = left.twinx()
    for axis, key, label, color in (
        (left, "sample/copied", "part copiée", "tab:red"),
        (right, "val/loss", "perte de validation", "tab:blue"),
        (right, "train/loss", "perte d'entraînement", "tab:gray"),
    ):
        points = [(float(row["tokens"]) / tokens_per_pass, float(row[key])) for row in rows if row.get(key)]
        factor = 100 if axis is left else 1
        axis.plot([x for x, _ in points], [factor * y for _, y in points], label=label, color=color)
    left.set(xlabel="passages sur le corpus", ylabel="part copiée (%)", ylim=(0, None))
    right.set(ylabel="perte (nats par jeton)", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(to, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokens", type=int, nargs="*")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--pass-tokens", type=int, default=1)
    options = parser.parse_args()
    for count in options.tokens:
        measure(count)
    if options.figure:
        draw(options.figure, Path(__file__).parents[1] / "docs/images/copie.png", options.pass_tokens)
    sys.exit(0)
