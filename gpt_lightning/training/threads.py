"""Les threads d'un pas sur CPU : tous les cœurs, ou un seul quand d'autres programmes les occupent.

Les threads de torch s'attendent à la fin de chaque opération, en tournant à vide. Si l'un d'eux partage son cœur, tous
prennent son allure : à côté d'un seul programme occupé, un pas sur deux cœurs va de deux à dix fois moins vite que
sur un seul (benchmarks/NOTES.md). Un nombre de threads change les sommes, donc les derniers chiffres : il se décide une
fois, au départ, et la reprise le garde.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from gpt_lightning.model import GPTModel
from gpt_lightning.training.hardware import Machine
from gpt_lightning.training.measures import processor, recall
from gpt_lightning.weights.inference import all_threads, use_threads
from gpt_lightning.wording import number

log = logging.getLogger("gpt_lightning")
VARIABLE = "OMP_NUM_THREADS"
GAIN = 1.0  # ce qu'un seul thread doit valoir : au calme, 0,6 des deux ; à côté d'un programme occupé, 1,3 fois et plus
CALM = 7 / 8  # part des cœurs qu'un processus obtient sur une machine calme : 0,97 à 0,99 sur deux cœurs
# une comparaison alterne six fois 40 ms de pas, et s'arrête passé deux secondes
TURNS, SLICE, LONG = 6, 0.04, 2.0


class Comparison(NamedTuple):
    """Combien de fois un pas va plus vite sur un thread que sur tous, et la part de leurs cœurs qu'ils ont obtenue."""

    ratio: float
    share: float


def is_given_by_variable(launcher: str | None) -> bool:
    """Vrai si OMP_NUM_THREADS vient de la personne : `torchrun` y met 1 de lui-même, pour tous ses processus."""
    value = os.environ.get(VARIABLE)
    return value is not None and (launcher, value) != ("torchrun", "1")


def asked_threads(asked: int | str, typed: bool, launcher: str | None = None) -> int | str:
    """Les threads que la personne donne : `asked` si elle le tape (`typed`), sinon OMP_NUM_THREADS, sinon `asked`."""
    return all_threads() if is_given_by_variable(launcher) and not typed else asked


def usable_cores() -> int:
    """Les cœurs que ce processus a le droit d'employer."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decide(
    threads: int | str,
    machine: Machine,
    model: GPTModel,
    shape: tuple[int, int],
    *,
    resumes: bool,
    launcher: str | None = None,
) -> int | str:
    """Ce que `threads` devient sur cette machine, pour des lots de `shape` (B, T) ; le journal dit ce qui est mesuré.

    Un GPU n'en dépend pas : `auto` y reste. Plusieurs processus se partagent les cœurs ; lancé par srun, chacun a
    peut-être déjà les siens. Plusieurs machines prennent tous les leurs, sans mesure : elles choisiraient chacune pour
    soi. Une reprise (`resumes`) dont le dossier ne dit rien est d'avant cette clé : tous.
    """
    if threads != "auto" or machine.device.type != "cpu":
        return threads
    most, processes = all_threads(), machine.world_size // machine.num_nodes
    if processes > 1:
        if launcher == "torchrun":  # il n'a laissé qu'un thread à chacun, et ne partage pas les cœurs
            return max(1, usable_cores() // processes)
        cores = (os.cpu_count() or 1) if launcher else most
        return max(1, min(most, cores // processes))
    if most == 1 or resumes or machine.num_nodes > 1:
        return most
    ratio, is_calm = measure(model, shape, machine.precision, most)
    chosen = 1 if ratio >= GAIN else most
    crowd = "" if is_calm else ", car d'autres programmes occupent les cœurs"
    log.info(
        f"Threads    : {chosen} ; sur un seul, un pas va {number(ratio, 1)} fois la vitesse de {most}{crowd}"
    )
    return chosen


def measure(model: GPTModel, shape: tuple[int, int], precision: str, most: int) -> tuple[float, bool]:
    """Combien de fois un pas va plus vite sur un thread que sur `most`, et si la machine est calme.

    Une machine calme ne change pas : sa mesure est retenue (measures.py). Occupée, c'est l'instant qui compte, et la
    mesure se fait à chaque fois.
    """
    ratio, share = compare(step_of(model, shape, precision), most)
    if share < CALM:
        return ratio, False
    config = model.config
    what = (
        f"un thread / {most} threads, {shape[0]} x {shape[1]} x {config.emb_dim}, {config.n_heads} têtes, "
        f"{config.hidden_width}, {config.kernels}, {precision}, torch {torch.__version__}, {processor()}"
    )
    return recall(what, lambda: ratio, low=0.001, high=1000).value, True


def step_of(model: GPTModel, shape: tuple[int, int], precision: str) -> Callable[[], None]:
    """Le pas d'un bloc du modèle, avant et arrière, sur un lot (B, T) ; rien n'en reste, ni gradient ni tirage."""
    block, width = model.trf_blocks[0], model.config.emb_dim
    x = torch.full((*shape, width), 1 / width, requires_grad=True)  # (B, T, C)
    positions = torch.arange(shape[1])
    learned = [x, *(p for p in block.parameters() if p.requires_grad)]

    def step() -> None:
        with torch.random.fork_rng(devices=[]):
            with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in precision):
                y = block(x, positions)
            torch.autograd.grad(y.sum(), learned)

    return step


def compare(step: Callable[[], None], most: int) -> Comparison:
    """La vitesse de `step` sur un thread, rapportée à celle de `most` ; laisse `most` threads.

    Les deux alternent, et c'est leur moyenne qui compte : le meilleur temps serait celui d'un moment de calme.
    """
    steps, seconds, computed = {most: 0, 1: 0}, {most: 0.0, 1: 0.0}, 0.0
    for turn in range(TURNS + 1):  # le premier tour échauffe
        for threads in (1, most):
            use_threads(threads)
            began, cpu, count = time.perf_counter(), time.process_time(), 0
            while count == 0 or (turn and time.perf_counter() - began < SLICE):
                step()
                count += 1
            if turn:
                steps[threads] += count
                seconds[threads] += time.perf_counter() - began
                computed += (time.process_time() - cpu) * (threads == most)
        if turn and sum(seconds.values()) > LONG:
            break
    ratio = (steps[1] / seconds[1]) / (steps[most] / seconds[most])
    return Comparison(ratio, computed / seconds[most] / most)
