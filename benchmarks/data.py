"""Mesurer le chemin des données : `python benchmarks/data.py TEXTE...` (des .txt, répétés jusqu'à 200 Mo).

Chaque rapport compare deux mesures prises l'une après l'autre dans ce processus ; l'alternance et la médiane
amortissent le bruit de la machine.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# torch et lightning sont importés dans les fonctions : les processus qui encodent relisent ce fichier au départ,
# et ne doivent pas payer plus que ceux de « python -m gpt_lightning.data prepare »
LENGTH, BATCH = 1024, 8


def time_of(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def write_corpus(sources: list[Path], megabytes: int, folder: Path) -> Path:
    """Un corpus d'environ `megabytes` Mo : un document par copie d'un texte."""
    corpus = folder / f"corpus{megabytes}"
    corpus.mkdir()
    texts, size, count = [path.read_text(encoding="utf-8") for path in sources], 0, 0
    while size < megabytes << 20:
        text = texts[count % len(texts)]
        (corpus / f"{count:05}.txt").write_text(text, encoding="utf-8")
        size, count = size + len(text.encode()), count + 1
    return corpus


def one_process(corpus: Path) -> None:
    """La référence : tiktoken, document par document, dans un processus."""
    from gpt_lightning import tokenizers

    encoding = tokenizers.gpt2()._encoding
    for path in sorted(corpus.iterdir()):
        encoding.encode_ordinary(path.read_text(encoding="utf-8"))


def build_base(corpus: Path, cache: Path):
    from gpt_lightning import tokenizers
    from gpt_lightning.data.text import SlidingWindowDataModule

    data = SlidingWindowDataModule(
        tokenizer=tokenizers.gpt2(), path=str(corpus), cache_dir=str(cache), max_length=LENGTH, stride=LENGTH
    )
    data.prepare()
    return data


def peak(corpus: Path, folder: Path) -> float:
    """Le pic de mémoire, en Mo, d'un processus neuf qui construit la base, ses aides comprises."""
    code = [sys.executable, __file__, "--build", str(corpus), str(folder / f"pic-{corpus.name}")]
    process, most = subprocess.Popen(code), 0.0
    while process.poll() is None:
        most = max(most, sum(map(resident, family(process.pid))))
        time.sleep(0.1)
    assert process.returncode == 0
    return most


def family(pid: int) -> list[int]:
    """`pid` et ses descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for child in children for p in family(int(child)))]


def resident(pid: int | str = "self") -> float:
    """Mémoire résidente, en Mo."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 2**20


def sparse(folder: Path, gigabytes: int) -> Path:
    path = folder / f"creux{gigabytes}.bin"
    with open(path, "wb") as file:
        file.truncate(gigabytes << 30)
    return path


def reader(paths: list[Path], workers: int):
    import numpy as np

    from gpt_lightning.data.loader import BatchOrder, TrainLoader
    from gpt_lightning.data.windows import SlidingWindowDataset

    dataset = SlidingWindowDataset(paths, max_length=LENGTH, stride=LENGTH, dtype=np.uint16)
    return TrainLoader(dataset, BatchOrder(len(dataset), batch_size=BATCH, seed=1), num_workers=workers)


def tokens_per_second(batches, n_batches: int) -> float:
    batches = iter(batches)
    next(batches)
    began = time.perf_counter()
    for _ in range(n_batches):
        next(batches)
    return n_batches * BATCH * LENGTH / (time.perf_counter() - began)


def random_crops(path: Path):
    """La façon de nanoGPT : des départs au hasard, un torch.from_numpy en int64 par ligne."""
    import numpy as np
    import torch

    while True:
        data = np.memmap(path, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - LENGTH, (BATCH,))
        x = torch.stack([torch.from_numpy(data[i : i + LENGTH].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + LENGTH].astype(np.int64)) for i in starts])
        yield x, y


def main(sources: list[Path], megabytes: int) -> None:
    folder, results = Path(tempfile.mkdtemp()), {}
    try:
        large, small = write_corpus(sources, megabytes, folder), write_corpus(sources, megabytes // 4, folder)
        import lightning  # noqa: F401 : son import n'est pas dans la mesure

        runs = []
        for i in range(3):
            reference = time_of(lambda: one_process(large))
            ours = time_of(lambda i=i: build_base(large, folder / f"base{i}"))
            runs.append((reference, ours))
        results["base : un processus de tiktoken (s)"] = statistics.median(r for r, _ in runs)
        results["base : la nôtre (s)"] = statistics.median(o for _, o in runs)
        results["base : rapport (>= 1,8)"] = statistics.median(r / o for r, o in runs)
        results["base : pic pour un quart du texte (Mo)"] = peak(small, folder)
        results["base : pic pour tout le texte (Mo)"] = peak(large, folder)

        data = build_base(large, folder / "base0")
        paths = data.store.shards("train")
        n_batches = min(2000, len(reader(paths, 0)) - 2)
        ours, crops, two = [], [], []
        for _ in range(5):
            ours.append(tokens_per_second(reader(paths, 0), n_batches))
            crops.append(tokens_per_second(random_crops(paths[0]), n_batches))
            two.append(tokens_per_second(reader(paths, 2), n_batches))
        results["lecture : la nôtre (M jetons/s, >= 60)"] = statistics.median(ours) / 1e6
        results["lecture : tirages de nanoGPT (M jetons/s)"] = statistics.median(crops) / 1e6
        results["lecture : rapport (>= 2)"] = statistics.median(
            o / c for o, c in zip(ours, crops, strict=True)
        )
        results["lecture : 2 processus / aucun (>= 0,5)"] = statistics.median(
            t / o for t, o in zip(two, ours, strict=True)
        )
        shard = sparse(folder, 1)
        results["ouverture : 1 Go de jetons (s, < 0,1)"] = time_of(
            lambda: reader([shard], 0).dataset.dataset.rows([0])
        )
        before = resident()
        four = reader([sparse(folder, 4)], 0)
        batches = iter(four)
        next(batches)
        results["mémoire : 4 Go de jetons ouverts (Mo de plus)"] = resident() - before
        tokens_per_second(batches, 1000)
        results["mémoire : après 1 000 lots de 16 ko (Mo de plus)"] = resident() - before
    finally:
        shutil.rmtree(folder)
    print(json.dumps({key: round(value, 3) for key, value in results.items()}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        build_base(Path(sys.argv[2]), Path(sys.argv[3]))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=int, default=200)
    asked = parser.parse_args()
    main(asked.sources, asked.megabytes)
