"""Ce que `train.py data.path=` choisit pour un texte court, à côté de réglages choisis à la main.

    python benchmarks/short_texts.py 80ko.txt 400ko.txt

Un processus par essai, un fil chacun, deux à la fois ; les secondes sont celles du processeur, démarrage compris. Les
bits par octet sont ceux de la dernière évaluation.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from gpt_lightning.cli.short_text import LITTLE, suit
from gpt_lightning.training.loggers.metrics_csv import read_metrics

ROOT = Path(__file__).parents[1]
QUIET = ("threads=1", "compile=false", "callbacks.sample=null", "trainer.enable_progress_bar=false")
LITTLE_BY_HAND = (
    ("data.passes=5", "model.drop_rate=0.2"),
    ("optim.lr=0.005",),
    ("data.passes=3", "model.drop_rate=0"),
    ("data.batch_size=8",),
    ("tokenizer.size=512", "data.passes=3"),
    ("tokenizer.size=2048", "data.passes=5"),
)
MORE_BY_HAND = (
    ("model.drop_rate=0",),
    ("model.drop_rate=0.2",),
    ("optim.lr=0.007",),
    ("data.batch_size=16",),
    ("tokenizer.size=1024", "data.passes=5"),
    ("tokenizer.size=4096",),
)


def run(text: Path, typed: tuple[str, ...]) -> tuple[float, float]:
    """Les bits par octet de la fin, et les secondes de processeur."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train.py", f"data.path={text.resolve()}", *typed, *QUIET, f"output_dir={folder}/x"]
        with subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} a échoué.")
        rows = read_metrics(Path(folder, "x", "metrics.csv")).values()
        bits = [row["val/bits_per_byte"] for row in rows if "val/bits_per_byte" in row]
        return bits[-1], used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="+", type=Path)
    print("| | bits par octet | secondes |\n|---|---|---|")
    for text in parser.parse_args().texts:
        size = text.stat().st_size
        tries = [(), *(LITTLE_BY_HAND if size <= LITTLE else MORE_BY_HAND)]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(run, [text] * len(tries), tries))
        for typed, (bits, seconds) in zip(tries, results, strict=True):
            name = ", ".join(typed) or " ".join(f"{key}={value}" for key, value in suit(size).items())
            print(f"| {text.stem}, {name} | {bits:.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
