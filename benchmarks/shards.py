"""Mesurer data=shards : `python benchmarks/shards.py [DOSSIER]` (2,4 Go y sont écrits, puis effacés).

Deux corpus : 12 fragments de 100 Mo, et 1 000 de 100 ko. Chaque nombre vient d'un processus neuf ; la lecture
s'alterne avec des copies faites par numpy seul, des mêmes fenêtres, dans le même ordre.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

LENGTH, BATCH, BATCHES = 1024, 8, 2000


def write(folder: Path, count: int, size: int) -> Path:
    """`count` fragments de `size` octets, comme ceux de llm.c."""
    folder.mkdir()
    for rank in range(count):
        tokens = np.random.default_rng(rank).integers(0, 50_257, size // 2, dtype=np.uint16)
        header = np.zeros(256, np.int32)
        header[:3] = 20240520, 1, len(tokens)
        with open(folder / f"fineweb_{rank:06d}.bin", "wb") as file:
            file.write(header.tobytes() + tokens.tobytes())
            os.fsync(file.fileno())  # une page pas encore écrite ne se compte pas comme les autres
    return folder


def module(folder: Path):
    from gpt_lightning.data import ShardsDataModule
    from gpt_lightning.tokenizers import gpt2

    return ShardsDataModule(
        tokenizer=gpt2(),
        path=str(folder),
        max_length=LENGTH,
        batch_size=BATCH,
        cache_dir=str(folder.parent / "cache"),
    )


def memory(field: str) -> float:
    """Une ligne de /proc/self/status, en Mo."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(f"{field}:")).split()[1]) / 1024


def plain_copies(folder: Path, starts: np.ndarray) -> None:
    """numpy seul : une tranche de np.memmap par fenêtre, copiée dans un lot."""
    maps = [np.memmap(path, np.uint16, "r", 1024) for path in sorted(folder.glob("*.bin"))]
    ends = np.cumsum([len(part) for part in maps])
    for first in range(0, len(starts), BATCH):
        rows = np.empty((BATCH, LENGTH + 1), np.uint16)
        for row, start in zip(rows, starts[first : first + BATCH].tolist(), strict=True):
            rank = int(np.searchsorted(ends, start, side="right"))
            place = start - int(ends[rank]) + len(maps[rank])
            part = maps[rank][place : place + LENGTH + 1]
            row[: len(part)] = part


def rate(work) -> float:
    """Les jetons que ce travail lit par seconde."""
    began = time.perf_counter()
    work()
    return BATCHES * BATCH * LENGTH / (time.perf_counter() - began)


def measure(folder: Path) -> dict[str, float]:
    import torch  # noqa: F401 : son import n'est pas dans la mesure

    data, results = module(folder), {}
    data.tokenizer.encode("chaud")
    before, began = memory("RssAnon"), time.perf_counter()
    data.prepare()
    data.dataset("train").rows([0])
    results["ouverture (s)"] = time.perf_counter() - began
    results["mémoire propre de l'ouverture (Mo)"] = memory("RssAnon") - before
    rates: dict[str, list[float]] = {"lots": [], "chargeur": [], "numpy": []}
    for _ in range(6):  # le premier passage met les pages en mémoire : il ne compte pas
        data.seed = 1
        loader = data.train_dataloader()
        windows = loader.order.permutation(0)[: BATCHES * BATCH]
        lots, dataset = windows.reshape(-1, BATCH), data.dataset("train")
        rates["lots"].append(
            rate(lambda lots=lots, dataset=dataset: all(len(dataset.rows(lot)) for lot in lots))
        )
        rates["chargeur"].append(rate(lambda loader=loader: all(len(x) for x, _ in islice(loader, BATCHES))))
        rates["numpy"].append(rate(lambda windows=windows: plain_copies(folder, windows * LENGTH)))
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    for name, value in medians.items():
        results[f"lecture, {name} (M jetons/s)"] = value / 1e6
    for name in ("lots", "chargeur"):
        ratios = [ours / plain for ours, plain in zip(rates[name][1:], rates["numpy"][1:], strict=True)]
        results[f"{name} / numpy (>= 0,5)"] = statistics.median(ratios)
    results["mémoire propre après la lecture (Mo)"] = memory("RssAnon") - before
    return results


def share(folder: Path) -> None:
    """Lit toute la validation, le dit, attend, puis écrit la part de ses pages qu'un autre processus a aussi."""
    data = module(folder)
    data.prepare()
    tokens = data.tokens("val")
    for start in range(0, len(tokens), 1 << 22):
        tokens[start : start + (1 << 22)]
    print("lu", flush=True)
    sys.stdin.readline()
    shared = private = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = str(folder) in line
        elif inside and line.startswith("Shared_"):
            shared += int(line.split()[1])
        elif inside and line.startswith("Private_"):
            private += int(line.split()[1])
    print(json.dumps([shared / 1024, private / 1024]), flush=True)
    sys.stdin.readline()


def shared_pages(folder: Path) -> list[list[float]]:
    command = [sys.executable, __file__, "--share", str(folder)]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in both:
        assert process.stdout.readline() == "lu\n"
    answers = []
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
        answers.append(json.loads(process.stdout.readline()))
    for process in both:
        process.communicate("\n")
    return answers


def main(place: str | None) -> None:
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        for count, size in ((12, 100_000_000), (1000, 100_000)):
            corpus = write(folder / f"{count}", count, size)
            done = subprocess.run(
                [sys.executable, __file__, "--measure", str(corpus)],
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"{count} fragments de {size // 1000} ko", done.stdout, sep="\n")
            print("pages communes, pages propres (Mo), de deux processus :", shared_pages(corpus), flush=True)
            shutil.rmtree(corpus)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if sys.argv[1:2] == ["--measure"]:
        print(
            json.dumps(
                {k: round(v, 3) for k, v in measure(Path(sys.argv[2])).items()}, indent=1, ensure_ascii=False
            )
        )
    elif sys.argv[1:2] == ["--share"]:
        share(Path(sys.argv[2]))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
