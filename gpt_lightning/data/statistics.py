"""Ce qu'une base contient : vocabulaire employé, jetons fréquents, longueurs des documents."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpt_lightning import durable

if TYPE_CHECKING:
    from gpt_lightning.data.windowed import WindowModule

CHUNK = 1 << 22


@dataclass(frozen=True)
class Contents:
    """`counts` (V,) : combien de fois chaque jeton ; `lengths` : jetons de chaque document."""

    counts: np.ndarray
    lengths: np.ndarray


def compute(data: "WindowModule") -> Contents:
    """Parcourt la base préparée de `data` (un WindowModule), en mémoire constante."""
    store, tokens = data.store, data.tokens("train", "val")
    assert store is not None  # préparée
    counts = np.zeros(data.tokenizer.vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), CHUNK):
        counts += np.bincount(tokens[start : start + CHUNK], minlength=len(counts))
    lengths = [np.diff(store.documents(split), append=store.n_tokens(split)) for split in ("train", "val")]
    return Contents(counts, np.concatenate(lengths))


def render(contents: Contents, folder: Path) -> list[Path]:
    """Écrit lengths.pdf et lengths.png : la distribution des longueurs de documents."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    lengths = contents.lengths[contents.lengths > 0]
    axes.hist(lengths, bins=np.geomspace(1, max(2, lengths.max()), 40).tolist(), color="#0072B2")
    axes.axvline(
        np.median(lengths), color="#D55E00", ls="--", label=f"médiane : {np.median(lengths):.0f} jetons"
    )
    axes.set(
        xscale="log", xlabel="longueur (jetons)", ylabel="documents", title="Longueur des documents du corpus"
    )
    axes.legend()
    with durable.refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return durable.save_figure(figure, folder, "lengths")
