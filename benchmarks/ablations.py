"""Ce que chaque réglage fait apprendre, à jetons égaux et à secondes égales.

    python benchmarks/ablations.py --texts les-miserables/ tinyshakespeare.txt [--only NOM ...] [--results FICHIER]

D'abord chaque réglage seul : une graine, le dictionnaire, un tiers des jetons d'une exécution. Puis mini, modern et les
meilleurs des autres à secondes égales : trois graines, trois corpus, en entier. La boucle est nue ; modèle, corpus et
optimiseur sont ceux du paquet. Les secondes sont celles du processeur, sur un fil, sans les évaluations : une autre
commande à côté ne les change guère.
« À secondes égales » se lit sur les mêmes courbes, quand la première ligne (mini) a fini. Chaque essai fini est écrit
dans `--results`, une ligne de JSON : la même commande reprend où elle en était.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.score import score
from gpt_lightning.training.engine import keep_memory
from gpt_lightning.training.hardware import native_bf16
from gpt_lightning.training.muon import Group, MuonAdamW
from gpt_lightning.training.schedule import Schedule

POINTS = 12  # d'une courbe
HALF = native_bf16(torch.device("cpu"))
SEEDS = (123, 1, 2)
USUAL: dict[str, float] = {
    "batch": 16,
    "length": 128,
    "lr": 0.01,
    "lr_embedding": 0,  # 0 : comme lr
    "lr_head": 0,
    "weight_decay": 0.1,
    "zloss": 0.0,
    "embedding_std": 0.02,
    "zero_projections": 0,
    "first_batch": 0,  # le lot du premier tiers des jetons ; 0 : le même
    "first_length": 0,
    "at_documents": 0,  # 1 : chaque fenêtre commence avec un document
}


Curve: TypeAlias = list[tuple[int, float, float]]  # jetons, secondes, bits par octet


class Lever(NamedTuple):
    """Un essai : ce qu'il change à la boucle (USUAL), et à la configuration de train.py."""

    loop: dict[str, float] = {}
    keys: tuple[str, ...] = ("model=modern",)


def modern(*keys: str, **loop: float) -> Lever:
    """La forme retenue, et ce que l'essai y change."""
    return Lever(loop, ("model=modern", *keys))


SHAPE = ("model=mini", "model.norm=rmsnorm", "model.positions=rope", "model.activation=swiglu")
LEVERS = {
    "mini": Lever(keys=("model=mini",)),
    "RMSNorm": Lever(keys=SHAPE[:2]),
    "et rope": Lever(keys=SHAPE[:3]),
    "et SwiGLU": Lever(keys=SHAPE),
    "et sans biais": Lever(keys=(*SHAPE, "model.bias=false", "model.qkv_bias=false")),
    "modern (et Q et K normalisées)": modern(),
    "deux têtes pour K et V": modern("model.n_kv_heads=2"),
    "deux têtes": modern("model.n_heads=2"),
    "2 couches de 192": modern("model.n_layers=2", "model.emb_dim=192"),
    "3 couches de 160": modern("model.n_layers=3", "model.emb_dim=160", "model.n_heads=5"),
    "6 couches de 96": modern("model.n_layers=6", "model.emb_dim=96", "model.n_heads=3"),
    "vocabulaire de 1 024": modern("tokenizer.size=1024"),
    "vocabulaire de 4 096": modern("tokenizer.size=4096"),
    "vocabulaire de 8 192": modern("tokenizer.size=8192"),
    "fenêtres qui commencent avec un document": modern(at_documents=1),
    "fenêtres de 256": modern(length=256, batch=8),
    "fenêtres de 64 au premier tiers": modern(first_length=64, first_batch=32),
    "lots de 8": modern(batch=8),
    "lots de 32": modern(batch=32),
    "lots de 32, taux de 0,014": modern(batch=32, lr=0.014),
    "lots de 8 au premier tiers": modern(first_batch=8),
    "taux de 0,005": modern(lr=0.005),
    "taux de 0,007": modern(lr=0.007),
    "taux de 0,02": modern(lr=0.02),
    "taux de 0,03 pour l'embedding": modern(lr_embedding=0.03),
    "taux de 0,03 pour la tête": modern(lr_head=0.03),
    "montée de 2 %": modern("optim.warmup=0.02"),
    "descente en cosinus": modern("optim.schedule=cosine"),
    "palier, puis descente": modern("optim.schedule=wsd"),
    "sans weight decay": modern(weight_decay=0.0),
    "weight decay de 0,3": modern(weight_decay=0.3),
    "z-loss de 1e-4": modern(zloss=1e-4),
    "embedding tiré à 0,5": modern(embedding_std=0.5),
    "projections de sortie nulles": modern(zero_projections=1),
    "tête et embedding liés": modern("model.tie_weights=true"),
    "moment qui monte en 100 pas": modern("optim.momentum_warmup=100"),
    "trois itérations de Newton-Schulz": modern("optim.ns_steps=3"),
}
MODERN = "modern (et Q et K normalisées)"
BEST = 4  # des autres réglages, repris en entier à côté de mini et de modern


class Corpus(NamedTuple):
    """Les jetons des deux moitiés, les débuts de documents de la première, et les octets de la seconde."""

    train: np.ndarray
    val: np.ndarray
    documents: np.ndarray
    val_bytes: int
    vocab_size: int


@lru_cache(maxsize=4)
def corpus(text: str, *keys: str) -> Corpus:
    """Le dictionnaire (`text` vide) ou un texte, encodé comme train.py le fait."""
    settings = compose("train", *keys, *(["data=text", f"data.path={text}"] if text else []))
    data = build("data", {**settings["data"], "seed": 1}, tokenizer=build("tokenizer", settings["tokenizer"]))
    data.prepare()
    train, val = (data.tokens(split)[:].astype(np.int64) for split in ("train", "val"))
    documents = np.asarray(data.base.documents("train"))
    return Corpus(train, val, documents, data.base.n_bytes("val"), data.tokenizer.vocab_size)


def batches(source: Corpus, loop: dict[str, float], total: int, seed: int) -> Iterator[tuple[float, Tensor]]:
    """(part faite, lot) jusqu'à `total` jetons : les fenêtres de chaque passage sont mélangées."""
    rng, done = np.random.default_rng(seed), 0
    queue, width = np.zeros(0, np.int64), 0
    while done < total:
        early = done < total / 3
        length = int(early and loop["first_length"] or loop["length"])
        batch = int(early and loop["first_batch"] or loop["batch"])
        if length != width or len(queue) < batch:
            last = len(source.train) - length - 1
            if loop["at_documents"]:
                marks = np.searchsorted(source.documents, np.arange(0, last, length))
                starts = np.unique(source.documents[np.minimum(marks, len(source.documents) - 1)])
            else:
                starts = np.arange(int(rng.integers(length)) if done else 0, last, length)
            queue, width = rng.permutation(starts[starts <= last]), length
        starts, queue = queue[:batch], queue[batch:]
        yield done / total, torch.from_numpy(source.train[starts[:, None] + np.arange(length + 1)])
        done += batch * length


def groups(model: nn.Module, loop: dict[str, float]) -> list[Group]:
    """Les groupes de paramètres de train.py, l'embedding et la tête à part."""
    named = dict(model.named_parameters())
    hidden = {n: p for n, p in named.items() if "trf_blocks" in n and p.dim() == 2}
    lr, decay = loop["lr"], loop["weight_decay"]
    table = [
        (hidden, lr, decay, True),
        (
            {n: p for n, p in named.items() if n.startswith(("tok_emb", "pos_emb"))},
            loop["lr_embedding"] or lr,
            decay,
            False,
        ),
        ({n: p for n, p in named.items() if n.startswith("out_head")}, loop["lr_head"] or lr, decay, False),
        ({n: p for n, p in named.items() if p.dim() < 2}, lr, 0.0, False),
    ]
    return [
        {"params": list(parameters.values()), "lr": rate, "peak": rate, "weight_decay": decay, "muon": muon}
        for parameters, rate, decay, muon in table
        if parameters
    ]


def start(config: GPTConfig, loop: dict[str, float], seed: int) -> GPTModel:
    """Un modèle neuf, tel que l'essai le tire."""
    torch.manual_seed(seed)
    model = GPTModel(config).train()
    with torch.no_grad():
        if loop["embedding_std"] != USUAL["embedding_std"]:
            model.tok_emb.weight.normal_(std=loop["embedding_std"])
        for name, parameter in model.named_parameters():
            if loop["zero_projections"] and name.endswith(("out_proj.weight", "ff.layers.2.weight")):
                parameter.zero_()
    return model


def loss_of(model: GPTModel, rows: Tensor, zloss: float) -> Tensor:
    """La perte d'un lot (B, T + 1) ; `zloss` y ajoute sa part du carré de log Σ exp."""
    if not zloss:
        return model.loss(rows[:, :-1], rows[:, 1:])
    logits = model(rows[:, :-1]).float().flatten(0, 1)
    own = torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten())
    return own + zloss * logits.logsumexp(-1).square().mean()


def train(lever: Lever, text: str, seed: int, share: float) -> Curve:
    """La courbe d'un essai ; ses points lisent 30 000 jetons de validation, et le dernier, après elle, tous.

    `share` est la part d'une exécution qu'il lit : une passe du dictionnaire, trois d'un texte.
    """
    loop = {**USUAL, **lever.loop}
    settings = compose("train", *lever.keys, *(["data=text", f"data.path={text}"] if text else []))
    words = [key for key in lever.keys if key.startswith("tokenizer")]
    source = corpus(text, *words)
    config = GPTConfig.for_vocabulary(settings["model"], source.vocab_size)
    model, optim = start(config, loop, seed), settings["optim"]
    names = ("momentum", "momentum_warmup", "ns_steps", "eps")
    rule = {name: optim[name] for name in names}
    optimizer = MuonAdamW(groups(model, loop), betas=tuple(optim["betas"]), fused=True, half=HALF, **rule)
    shape = Schedule(**{key: optim[key] for key in ("schedule", "warmup", "decay", "min_lr_ratio")})
    total, done, seconds = int(share * settings["data"]["passes"] * len(source.train)), 0, 0.0
    curve: Curve = []

    def measure(part: int) -> float:
        with autocast():
            found = score(model.eval(), source.val[:part], 1, max_length=128, stride=128, batch_size=64)
        model.train()
        return found.loss * (len(source.val) - 1) / source.val_bytes / math.log(2)

    for progress, rows in batches(source, loop, total, seed):
        began = time.process_time()
        with autocast():
            loss = loss_of(model, rows, loop["zloss"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * max(1e-3, shape.factor(int(progress * 10_000), 10_000))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done, seconds = done + rows[:, 1:].numel(), seconds + time.process_time() - began
        if done * POINTS >= (len(curve) + 1) * total and done < total:
            curve.append((done, round(seconds, 2), round(measure(30_000), 4)))
    spent = round(seconds, 2)
    return [
        *curve,
        (done, spent, round(measure(30_000), 4)),
        (done, spent, round(measure(len(source.val)), 4)),
    ]


def autocast() -> torch.autocast:
    """Le bf16, si le processeur l'a."""
    return torch.autocast("cpu", torch.bfloat16, enabled=HALF)


def at_second(curve: Curve, second: float) -> float:
    """Les bits par octet de la courbe à cette seconde, en ligne droite entre deux points ; après elle, à sa fin."""
    points = curve[:-1]  # le dernier lit d'autres jetons
    for before, after in zip(points, points[1:], strict=False):
        if before[1] <= second < after[1]:
            part = (second - before[1]) / (after[1] - before[1])
            return before[2] + part * (after[2] - before[2])
    return points[-1][2]


def table(results: dict[str, list[Curve]]) -> str:
    """Une ligne par essai : à jetons égaux, ses secondes, et à secondes égales."""
    usual = statistics.mean(curve[-1][1] for curve in results["mini"])
    lines = ["| | bits par octet | secondes | à secondes égales |", "|---|---|---|---|"]
    for name, curves in results.items():
        ends = [curve[-1][2] for curve in curves]
        spread = f" ({min(ends):.3f} à {max(ends):.3f})" if len(ends) > 1 else ""
        equal = statistics.mean(at_second(curve, usual) for curve in curves)
        seconds = statistics.mean(curve[-1][1] for curve in curves)
        lines.append(f"| {name} | {statistics.mean(ends):.3f}{spread} | {seconds:.0f} | {equal:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", nargs="*", default=[], help="les autres corpus de la seconde partie")
    parser.add_argument("--only", nargs="*", default=list(LEVERS), help="ces réglages seulement")
    parser.add_argument("--results", type=Path, default=Path("ablations.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    lines = arguments.results.read_text("utf-8").splitlines() if arguments.results.exists() else []
    done = {tuple(key): curve for key, curve in map(json.loads, lines)}

    def tried(name: str, text: str, seed: int, share: float) -> Curve:
        key = name, text, seed, share
        if key not in done:
            done[key] = train(LEVERS[name], text, seed, share)
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, done[key]]) + "\n")
        return done[key]

    names = ["mini", *(name for name in arguments.only if name != "mini")]
    print(f"Un tiers des jetons du dictionnaire, graine {SEEDS[0]}\n")
    alone = {name: [tried(name, "", SEEDS[0], 1 / 3)] for name in names}
    print(table(alone), flush=True)
    usual = alone["mini"][0][-1][1]
    ranked = sorted(names, key=lambda name: at_second(alone[name][0], usual))
    others = [name for name in ranked if name not in ("mini", MODERN)][:BEST]
    for text in ("", *arguments.texts):
        finals = {
            name: [tried(name, text, seed, 1.0) for seed in SEEDS] for name in ("mini", MODERN, *others)
        }
        print(f"\n{text or 'dictionnaire'}, en entier, graines {SEEDS}\n\n{table(finals)}", flush=True)


if __name__ == "__main__":
    main()
