"""Tout ce que l'on promet, en un tableau : `make bench` (TEXTE=tinyshakespeare.txt ajoute la course, une demi-heure).

Chaque ligne est un rapport mesuré dans une même exécution. Sans bf16 natif, ses lignes sont jugées en float32, celles
d'int8 et d'int4 disent « sans bf16 natif ». Il faut une exécution finie sous outputs/ pour le premier jeton.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ctranslate2
import torch
import transformers

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import generate, overhead, race, train_step
from benchmarks.llamacpp import MISSING, QUANTS
from gpt_lightning.weights.inference import native_bf16

NATIVE = native_bf16(torch.device("cpu"))
US, NANO = "gpt_lightning", "à la façon de nanoGPT"
ELSEWHERE = "sans bf16 natif"


def row(work: str, value: str, floor: str, goal: str) -> None:
    print(f"| {work} | {value} | {floor} | {goal} |", flush=True)


def learning(precision: str, steps: int) -> None:
    seconds, memory = train_step.measure(train_step.parse(["--steps", str(steps)]), precision)
    ours, best = seconds[US], min(seconds[NANO], seconds["nanoGPT, compilé"])
    work = f"pas de GPT-2 124M, 4 x 256, {precision} :"
    floors = ("1,2x ; 65 % ; 1,5x", "1,4x ; 75 % ; 2x") if precision == "bf16" else ("1,1x", "1,2x")
    share, theirs = 100 * seconds["produits seuls"] / ours, seconds["transformers"] / ours
    value = f"{best / ours:.2f}x ; {share:.0f} % ; {theirs:.2f}x"
    title = f"{work} nanoGPT au mieux ; produits seuls ; transformers ({1024 / ours:.0f} jetons/s)"
    row(title, value, *floors)
    row(f"{work} pic de mémoire contre nanoGPT", f"{memory[US] / memory[NANO]:.2f}x", "0,9x", "0,8x")


def lightning() -> None:
    raw, ours = (statistics.median(seconds) for seconds in overhead.measure())
    row("pas de mini : notre Trainer contre une boucle nue", f"{100 * (ours / raw - 1):+.1f} %", "1 %", "")


def until_first_step(compiled: str) -> float:
    """Les secondes de `python train.py` à son premier pas écrit."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "x", "metrics.csv")
        typed = ["train.py", f"compile={compiled}", "trainer.log_every_n_steps=1", f"output_dir={folder}/x"]
        typed += [f"threads={torch.get_num_threads()}"]  # sans les choisir : ce n'est pas ce que l'on mesure
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *typed], cwd=generate.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            while not written.exists() or "\n1," not in written.read_text():
                if process.poll() is not None:
                    raise SystemExit(process.communicate()[1].decode())
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            process.kill()
    return seconds


def first_step(rounds: int) -> None:
    """Le premier pas de train.py tel quel, et sans compiler."""
    until_first_step("auto")  # ce qui se garde d'une exécution à l'autre est là
    pairs = [[until_first_step(compiled) for compiled in ("auto", "false")] for _ in range(rounds)]
    ours, eager = map(statistics.median, zip(*pairs, strict=True))
    title = f"premier pas de train.py ({ours:.1f} s) contre le même sans compiler"
    row(title, f"{ours / eager:.2f}x", "1,2x", "")


def beside_llama(times: dict[str, float], missing: str) -> None:
    """Nous et llama.cpp, lot de 1, à chaque type ; s'il n'est pas construit, pourquoi."""
    if MISSING:
        return row("écrire, lot de 1, contre llama.cpp", MISSING, "", "")
    for dtype, floor, goal in (
        ("fp32", "", "0,9x"),
        ("bf16", "", ""),
        ("int8", "1x", "1,2x"),
        ("int4", "1x", "1,2x"),
    ):
        peer = f"llama.cpp {QUANTS[dtype]}"
        title = f"écrire, lot de 1 : nous {dtype} contre {peer} ({times[peer]:.1f} ms par jeton)"
        row(
            title + (missing if dtype != "fp32" else ""),
            f"{times[peer] / times[f'nous {dtype}']:.2f}x",
            floor,
            goal,
        )


def writing(tokens: int, rounds: int) -> None:
    peers = generate.Peers()
    single, batched = (generate.measure(batch, tokens, rounds, peers) for batch in (1, 8))
    missing = "" if NATIVE else f" ({ELSEWHERE})"
    for dtype, peer, floor, goal in (
        ("bf16", "transformers fp32", "2x", "2,4x"),
        ("int8", "CTranslate2 int8", "1,4x", "1,7x"),
        ("int4", "CTranslate2 int8", "2x", "3x"),
        ("fp32", "transformers fp32", "", ""),
        ("fp32", "CTranslate2 fp32", "", "1x"),
        ("fp32, compilé", "nous fp32", "", ""),
    ):
        ours = single[f"nous {dtype}"]
        title = f"écrire, lot de 1 : nous {dtype} ({ours:.1f} ms par jeton) contre {peer}"
        row(title + ("" if "fp32" in dtype else missing), f"{single[peer] / ours:.2f}x", floor, goal)
    beside_llama(single, missing)
    best = min(("int8", "bf16"), key=lambda dtype: batched[f"nous {dtype}"])
    ratio = batched["CTranslate2 int8"] / batched[f"nous {best}"]
    row(f"écrire, lot de 8 : nous {best} contre CTranslate2 int8{missing}", f"{ratio:.2f}x", "1x", "1,3x")
    row(
        "écrire, lot de 8 : nous fp32 contre CTranslate2 fp32",
        f"{batched['CTranslate2 fp32'] / batched['nous fp32']:.2f}x",
        "",
        "",
    )
    beyond = [generate.beyond_products(single, dtype, tokens) for dtype in ("fp32", "bf16", "int8")]
    row(
        "un pas, ses produits retirés (ms) : fp32 ; bf16 ; int8",
        " ; ".join(f"{x:.1f}" for x in beyond),
        "1,5",
        "",
    )
    extra = [100 * (single[f"nous {d}, nucleus"] / single[f"nous {d}"] - 1) for d in ("fp32", "bf16", "int8")]
    row("nucleus contre greedy : fp32 ; bf16 ; int8", " ; ".join(f"{x:+.0f} %" for x in extra), "15 %", "5 %")


def starting(rounds: int) -> None:
    seconds = generate.time_starts(rounds)
    helps = " ; ".join(f"{seconds[name]:.2f} s" for name in ("train.py --help", "generate.py --help"))
    row("train.py --help ; generate.py --help", helps, "1,5 s", "")
    limit = f"{1.3 * seconds['import torch'] + 1:.2f} s"
    row(
        "premier jeton de generate.py (1,3 x import torch + 1 s)",
        f"{seconds['premier jeton']:.2f} s",
        limit,
        "",
    )


def racing(text: str) -> None:
    rows = race.measure(text, [1337, 1, 2], "auto")
    base = statistics.mean(end for _, _, end in rows[NANO])
    for name, runs in rows.items():
        times = [when for _, _, when in runs]
        ratio = "jamais" if None in times else f"{statistics.mean(times) / base:.2f}"
        loss = statistics.mean(loss for loss, _, _ in runs)
        limits = {NANO: ("", ""), "modern": ("0,28", "0,2")}.get(name, ("0,5", "0,33"))
        row(f"course, {name} : part du temps de nanoGPT (perte finale {loss:.3f})", ratio, *limits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="?", help="un texte pour la course")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print(
        f"{os.cpu_count()} cœurs {platform.machine()}, bf16 {'natif' if NATIVE else 'non natif'}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}, CTranslate2 {ctranslate2.__version__}\n"
    )
    print("| Travail | Mesuré | Plancher | But |\n|---|---|---|---|")
    starting(arguments.rounds)
    first_step(arguments.rounds)
    lightning()
    writing(arguments.tokens, arguments.rounds)
    if NATIVE:
        learning("bf16", arguments.steps)
    else:
        row("pas de GPT-2 124M, 4 x 256, bf16", f"{ELSEWHERE} : jugé en float32", "", "")
    learning("fp32", arguments.steps)
    if arguments.text:
        racing(arguments.text)


if __name__ == "__main__":
    main()
