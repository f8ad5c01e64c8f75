"""De quoi lancer, tuer, reprendre et comparer des entraînements minuscules, comme une personne les tape."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from gpt_lightning.training.loggers.metrics_csv import read_metrics
from tests.conftest import ROOT, hearing_signals

TINY = (
    "model=tiny",
    "data=text",
    "tokenizer=characters",
    "data.max_length=16",
    "data.batch_size=4",
    "eval_every=5",
    "save_every=3",
    "trainer.log_every_n_steps=2",
    "data.eval_batches=2",
    "callbacks.sample.max_new_tokens=4",
)
TIMED = ("tokens_per_second", "memory_gb", "mfu")  # ce que deux exécutions ne mesurent pas pareil


# Python l'exécute au démarrage : le checkpoint du pas voulu s'ouvre quand l'essai ouvre le tube
HOLD = """
import os, sys
def hold(event, arguments):
    if event == "open" and os.environ["HELD"] in str(arguments[0]) and not hold.held:
        hold.held = True
        open(os.environ["GATE"]).close()
hold.held = False
sys.addaudithook(hold)
"""


class Runs:
    """Des entraînements dans un dossier, avec les mêmes réglages."""

    def __init__(
        self, cwd: Path, cache: Path, text: Path, *typed: str, launcher: tuple[str, ...] = ()
    ) -> None:
        self.cwd, self.launcher = cwd, launcher
        self.typed = [*TINY, f"data.path={text}", *typed]
        self.env = {
            **os.environ,
            "XDG_CACHE_HOME": str(cache),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def command(self, *typed: str) -> list[str]:
        return [*(self.launcher or (sys.executable,)), str(ROOT / "train.py"), *typed]

    def start(self, *typed: str, **options) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*typed),
            cwd=self.cwd,
            env=self.env,
            preexec_fn=hearing_signals,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            **options,
        )

    def fresh(self, name: str, *typed: str, **options) -> subprocess.Popen:
        return self.start(*self.typed, f"output_dir={name}", *typed, **options)

    def held(self, name: str, step: int, *typed: str) -> tuple[subprocess.Popen, Path]:
        """Une exécution qui attend, au checkpoint de ce pas, que l'on ouvre ce tube (`released`)."""
        folder = self.cwd / f"tenue {name}"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(HOLD, encoding="utf-8")
        gate = folder / "tube"
        os.mkfifo(gate)
        free = self.env
        path = f"{folder}{os.pathsep}{free['PYTHONPATH']}"
        self.env = {**free, "PYTHONPATH": path, "HELD": f"step_{step:07d}.ckpt", "GATE": str(gate)}
        try:
            return self.fresh(name, *typed), gate
        finally:
            self.env = free

    def resumed(self, name: str, *typed: str, **options) -> subprocess.Popen:
        return self.start(f"ckpt_path={name}", *typed, **options)

    def whole(self, name: str, *typed: str) -> Path:
        """Une exécution qu'on laisse finir."""
        ended(self.fresh(name, *typed))
        return self.cwd / name


def ended(process: subprocess.Popen, code: int = 0, timeout: float = 240) -> str:
    """La sortie d'un processus, qui doit finir sur `code`."""
    said = process.communicate(timeout=timeout)[0]
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    return said


def until(process: subprocess.Popen, *words: str) -> str:
    """Lit la sortie jusqu'à une ligne qui contient un de `words`, ou la fin."""
    said = ""
    for line in process.stdout:
        said += line
        if any(word in line for word in words):
            break
    return said


@contextlib.contextmanager
def released(gate: Path) -> Iterator[None]:
    """Pendant ce bloc, une exécution tenue passe, dès qu'elle y est."""
    writing = os.open(gate, os.O_RDWR)  # n'attend personne
    try:
        yield
    finally:
        os.close(writing)


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def steps_of(run: Path) -> int:
    """Le pas du dernier checkpoint ; 0 s'il n'y en a pas."""
    path = run / "checkpoints" / "last.ckpt"
    return read(path)["global_step"] if path.exists() else 0


def same_tensors(left, right, where: str = "") -> None:
    """Échoue sur le premier nombre qui diffère, bit à bit, entre deux états de checkpoint."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), (where, left.keys() ^ right.keys())
        for key in left:
            same_tensors(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            same_tensors(one, other, f"{where}[{index}]")
    else:
        assert left == right or left != left, f"{where} : {left!r} et {right!r}"


def measures(run: Path) -> dict[int, dict[str, float]]:
    rows = read_metrics(run / "metrics.csv")
    return {step: {key: v for key, v in row.items() if key not in TIMED} for step, row in rows.items()}


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Ce que TensorBoard montre de cette exécution : (pas, valeur) par mesure."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    def began(path: Path) -> float:
        return next(iter(EventFileLoader(str(path)).Load())).wall_time

    with tempfile.TemporaryDirectory() as ordered:
        # lus dans l'ordre des noms, ceux d'un processus et d'une seconde ne le seraient pas : « 10 » vient avant « 9 »
        for rank, path in enumerate(sorted(run.glob("events.out.tfevents.*"), key=began)):
            (Path(ordered) / f"{rank:06d}.tfevents").symlink_to(path.resolve())
        events = EventAccumulator(ordered)
        events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.rpartition("/")[2] not in TIMED]
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}


def same_run(found: Path, expected: Path) -> None:
    """Les deux exécutions ont fini sur les mêmes bits : poids, optimiseur, horaire, mesures, meilleur, textes."""
    one, other = (read(run / "checkpoints" / "last.ckpt") for run in (found, expected))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "callbacks"):
        same_tensors(one.get(key), other.get(key), key)
    for progress in (one["gpt_lightning"]["progress"], other["gpt_lightning"]["progress"]):
        progress["metrics"] = {key: v for key, v in progress["metrics"].items() if key not in TIMED}
    same_tensors(one["gpt_lightning"], other["gpt_lightning"], "gpt_lightning")
    best, other_best = (read(run / "checkpoints" / "best.ckpt")["state_dict"] for run in (found, expected))
    same_tensors(best, other_best, "best")
    assert measures(found) == measures(expected)
    assert curves(found) == curves(expected)
    texts, other_texts = (
        {path.name: path.read_text(encoding="utf-8") for path in (run / "samples").iterdir()}
        for run in (found, expected)
    )
    assert texts == other_texts
    films = [{path.name: path.read_bytes() for path in (run / "film").glob("*")} for run in (found, expected)]
    assert films[0] == films[1]
    assert sorted(p.name for p in (found / "checkpoints").iterdir()) == sorted(
        p.name for p in (expected / "checkpoints").iterdir()
    )
