"""L'entraînement par défaut apprend vraiment : mieux qu'un bigramme interpolé, l'oracle le plus dur sur ce corpus."""

from collections import Counter

import numpy as np
import pytest

from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.training.loggers.metrics_csv import read_metrics


def interpolated_bigram(train: np.ndarray, val: np.ndarray, vocab_size: int) -> float:
    """La perte en nats de l P(b|a) + (1 - l) P(b), apprise sur `train`, lissage et l choisis sur `val`.

    C'est tricher en faveur de l'oracle : le modèle, lui, ne choisit rien sur la validation.
    """
    pairs, previous = Counter(zip(train[:-1], train[1:], strict=True)), Counter(train[:-1])
    bigram = np.array([pairs[a, b] / max(1, previous[a]) for a, b in zip(val[:-1], val[1:], strict=True)])
    best = np.inf
    for smoothing in (1.0, 0.3, 0.1, 0.03, 0.01):
        counts = np.bincount(train, minlength=vocab_size) + smoothing
        unigram = (counts / counts.sum())[val[1:]]
        for weight in np.linspace(0, 0.99, 100):
            best = min(best, -np.log(weight * bigram + (1 - weight) * unigram).mean())
    return best


@pytest.mark.slow
def test_the_default_run_beats_the_bigram(command, cache, tmp_path):
    done = command("train.py", cwd=tmp_path, timeout=1200)
    assert done.returncode == 0, done.stderr
    (metrics,) = tmp_path.glob("outputs/**/metrics.csv")
    final = list(read_metrics(metrics).values())[-1]["val/loss"]
    values = {**compose("train")["data"], "seed": 123, "cache_dir": str(cache / "gpt_lightning")}
    data = build("data", values, tokenizer=build("tokenizer", compose("train")["tokenizer"]))
    data.prepare()
    train, val = (data.tokens(split)[:].astype(np.int64) for split in ("train", "val"))
    oracle = interpolated_bigram(train, val, data.tokenizer.vocab_size)
    print(f"entraînement par défaut {final:.4f} nats, bigramme interpolé {oracle:.4f} nats")
    assert final < oracle
    (sample,) = list(tmp_path.glob("outputs/**/samples/*.txt"))[-1:]
    assert all(len(text.split()) > 3 for text in sample.read_text(encoding="utf-8").split("\n---\n"))
