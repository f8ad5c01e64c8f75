"""Évaluer un modèle sur un corpus : `python -m gpt_lightning.evaluate ckpt_path=best data=text data.path=texte.txt`."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt_lightning import cli, messages

SPLITS = ("val", "train", "all")


@dataclass(frozen=True)
class Score:
    """`loss` en nats par jeton prédit, `tokens` prédits, `bytes` de texte UTF-8."""

    loss: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        return self.loss * self.tokens / math.log(2) / self.bytes


def score(
    model,
    ids,
    n_bytes: int,
    *,
    max_length: int,
    stride: int,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """La perte de `model` sur un texte de (N,) jetons et `n_bytes` octets, en fenêtres qui avancent de `stride`.

    Chaque jeton sauf le premier est prédit une fois, avec max_length - stride jetons devant lui, sauf au début.
    `progress` reçoit les jetons prédits et leur total. ValueError si la fenêtre ne va pas au modèle ou au texte.
    """
    import torch

    from gpt_lightning.model import linear_cross_entropy

    if max_length > model.config.context_length:
        context = model.config.context_length
        raise ValueError(f"data.max_length={max_length} dépasse le contexte du modèle : essayez {context}.")
    if not 1 <= stride <= max_length:
        raise ValueError(
            f"data.stride={stride} sauterait des jetons : il faut de 1 à data.max_length={max_length}."
        )
    if len(ids) < 2:
        raise ValueError("Le texte a moins de deux jetons : il n'y a rien à prédire.")
    device, total, scored = next(model.parameters()).device, 0.0, 0
    with torch.inference_mode():
        for group in _batches(_windows(len(ids), max_length, stride), batch_size):
            length = group[0][1] - group[0][0]
            rows = torch.stack([torch.as_tensor(ids[start : end + 1]).long() for start, end, _ in group])
            x, y = rows[:, :-1].to(device), rows[:, 1:].to(device)  # (B, T), (B, T)
            new = torch.tensor([length - count for _, _, count in group], device=device)
            fresh = torch.arange(length, device=device) >= new[:, None]  # (B, T) pas encore prédits
            hidden, wanted = model.hidden(x)[fresh], y[fresh]
            mean = linear_cross_entropy(hidden, model.out_head.weight, wanted, model.config.vocab_size)
            total, scored = total + float(mean) * len(wanted), scored + len(wanted)
            progress(scored, len(ids) - 1)
    return Score(total / scored, scored, n_bytes)


def _windows(n_tokens: int, max_length: int, stride: int):
    """(début, fin, jetons nouveaux) : la fenêtre lit [début, fin) et prédit [début + 1, fin + 1)."""
    seen, start = 0, 0
    while seen < n_tokens - 1:
        end = min(start + max_length, n_tokens - 1)
        yield start, end, end - seen
        seen, start = end, start + stride


def _batches(windows, size: int):
    """Par lots de même longueur."""
    batch: list[tuple[int, int, int]] = []
    for window in windows:
        if batch and (len(batch) == size or window[1] - window[0] != batch[0][1] - batch[0][0]):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def evaluate(settings: dict[str, Any]) -> float:
    """Écrit la perte, la perplexité et les bits par octet du modèle de `ckpt_path` sur `data` ; rend la perte."""
    if settings["split"] not in SPLITS:
        raise ValueError(f"split={settings['split']} : les choix sont {', '.join(SPLITS)}.")

    import numpy as np

    from gpt_lightning.weights import ready

    source, model, tokenizer = ready(
        settings["ckpt_path"], **{key: settings[key] for key in ("n_heads", "device", "dtype")}
    )
    data = cli.instantiate(settings["data"], tokenizer=tokenizer)
    data.progress = cli.EncodingProgress()
    data.prepare()
    splits = ("train", "val") if settings["split"] == "all" else (settings["split"],)
    found = score(
        model,
        np.concatenate([data.tokens(split) for split in splits]),
        sum(data.store.meta["splits"][split]["bytes"] for split in splits),
        max_length=data.max_length,
        stride=data.stride,
        batch_size=data.batch_size,
        progress=Progress(),
    )
    print(messages.evaluated(source, f"{data.name}, {settings['split']}", found))
    return found.loss


class Progress:
    """Dit sur stderr où en est l'évaluation, toutes les cinq secondes."""

    def __init__(self, every: float = 5.0):
        self.began, self.every = time.monotonic(), every
        self.next = self.began + every

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self.next:
            self.next = now + self.every
            print(messages.tokens_done(done, total, now - self.began), file=sys.stderr)


if __name__ == "__main__":
    cli.run(evaluate, "evaluate")
