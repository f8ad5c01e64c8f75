"""Entraîner un GPT : `python train.py model=gpt124m trainer.devices=2`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gpt_lightning import cli
from gpt_lightning.cli import defaults, folders, processes, record, short_text, signals, sweeps
from gpt_lightning.cli.composition import hide_environment
from gpt_lightning.cli.targets import build, build_all, resolve
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.corpus import DataModule, build_data, find_data, prepare_data
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.typing import Settings, State

if TYPE_CHECKING:
    import lightning
    import torch
    from lightning.pytorch.loggers import Logger

    from gpt_lightning.training.hardware import Machine
    from gpt_lightning.training.module import GPTModule
    from gpt_lightning.training.plan import Plan
    from gpt_lightning.weights import StartingPoint
    from gpt_lightning.weights.format import TrainingProgress


def train(settings: Settings) -> float:
    """Entraîne selon `settings` (conf/train.yaml composé) ; renvoie la dernière perte de validation, en nats.

    Chaque ligne est une étape, et n'emploie que ce qui est calculé au-dessus d'elle. `asked` est ce que la commande
    demande, `used` ce qui sert, une fois connus les poids de départ et la machine.
    """
    began, typed = time.monotonic(), record.typed_overrides()
    asked = defaults.follow(settings, lambda values: RunConfig.read(values, optimizer_of(values)))
    threads = find_threads(asked)
    machine = find_machine(asked)

    from gpt_lightning import weights
    from gpt_lightning.training import engine, module, report

    # l'exécution à continuer, s'il y en a une ; puis les objets qui vérifient leurs réglages en se construisant
    resumed = weights.resumable(asked.ckpt_path, asked.base_path) if asked.ckpt_path else None
    done = resumed.progress if resumed is not None and is_the_same_run(asked) else None
    engine.prepare_process(asked)
    loggers = [*build_all("logger", asked.logger), *engine.serve_metrics(asked.metrics_port)]
    callbacks = build_all("callbacks", asked.callbacks)
    equipment = engine.equipment(asked, loggers, callbacks, signals.last_signal)
    task = find_data(asked.data, asked.tokenizer).task

    # le point de départ, les données, le plan, le modèle dans son module ; puis la valeur de ce qui était auto
    start = weights.starting_point(asked.init_from, asked.model, resumed, task=task, base=asked.base_path)
    used, data, trainer, shared, planned = defaults.follow(
        asked.values(),
        lambda values: open_corpus(values, asked.optimizer, start, typed, machine, equipment, done),
    )
    if resumed is not None and (why := engine.why_over(planned, resumed, callbacks)):
        return engine.finish_without_training(resumed.progress, callbacks, why)
    gpt = module.GPTModule.of(used, start, data, planned, typed)
    threads = decide_threads(threads, machine, gpt, used, done)
    seconds = report.estimate_seconds(gpt.model, planned, used.length, processes.once(machine.matmul_rate))
    used = engine.decide(used, gpt, machine, threads, seconds)

    # afficher ce qui sera fait, entraîner, afficher le résultat
    short_text.announce(typed, used.values())
    said = report.before(used, machine, gpt, start, seconds)
    begin(trainer, planned, asked, used, loggers, began, said)
    with processes.launch_children("train", used.values(), shared), signals.note_signals():
        signum = engine.fit(trainer, gpt, data, used.ckpt_path)
    folders.leave_if_stopped(used.folder, "train", signum, trainer.global_step)
    following = folders.next_commands(used.folder, *gpt.task.following)
    return report.after(trainer, gpt, used.folder, time.monotonic() - began, following)


def begin(
    trainer: "lightning.Trainer",
    planned: "Plan",
    asked: RunConfig,
    used: RunConfig,
    loggers: "list[Logger]",
    began: float,
    said: Sequence[str],
) -> None:
    """Note les réglages ; donne au Trainer son plan, aux journaux leur exécution, et à la page ce qui est prévu."""
    from gpt_lightning.training import engine

    record.record(used.folder, asked.values(), used.values())
    engine.follow(trainer, planned, used, loggers, began)
    engine.begin(trainer, hide_environment(used.values()), said, record.saved_environment(used.folder))


class Corpus(NamedTuple):
    """Un corpus prêt, les réglages qui lui vont, son Trainer, ce que les autres processus reçoivent, le plan."""

    used: RunConfig
    data: DataModule
    trainer: "lightning.Trainer"
    shared: State
    planned: "Plan"


def open_corpus(
    values: Settings,
    optimizer: type,
    start: "StartingPoint",
    typed: Sequence[str],
    machine: "Machine",
    equipment: Settings,
    done: "TrainingProgress | None",
) -> Corpus:
    """Lit le corpus de ces réglages pour un modèle qui part de `start`, et en fait le plan ; le Trainer se juge avant.

    Unfit si un réglage ne va pas à ce modèle, ou à ce corpus.
    """
    from gpt_lightning.model import GPTConfig
    from gpt_lightning.training import engine, plan

    used = RunConfig.read(values, optimizer).settle(start, typed)
    accumulate = plan.accumulation(used, machine.world_size)
    data = build_data(used.data, used.tokenizer, accumulate=accumulate, done=done)
    trainer = build("trainer", engine.arguments(used, machine, accumulate), **equipment)
    shared = prepare_data(data, start.tokenizer, start.labels)
    if start.state is None:
        GPTConfig.for_vocabulary(dict(start.architecture), data.tokenizer.vocab_size)
    return Corpus(used, data, trainer, shared, plan.plan_run(used, data, machine.world_size, done))


def optimizer_of(settings: Settings) -> type:
    """La classe que `optim` nomme. UserError si elle n'est pas permise."""
    return resolve("optim", settings["optim"]["_target_"])


def find_machine(asked: RunConfig) -> "Machine":
    """La machine que `trainer` désigne ; une précision automatique est choisie par le premier processus."""
    from gpt_lightning.training import hardware

    product = asked.data["batch_size"] * asked.length, asked.model["emb_dim"]

    def choose_precision(device: "torch.device") -> str:
        precision = processes.once(lambda: hardware.automatic_precision(device, *product))
        assert precision is not None  # un enfant de Lightning reçoit une précision déjà choisie
        return precision

    return hardware.resolve(asked.trainer, processes.launcher(), choose_precision)


def launcher_name() -> str | None:
    """`torchrun` ou `srun`, s'il a lancé ce processus."""
    where = processes.launcher()
    return None if where is None else where.name


def find_threads(asked: RunConfig) -> int | str:
    """Les threads que la personne donne, employés dès à présent ; « auto » si rien ne les donne."""
    from gpt_lightning.training import threads
    from gpt_lightning.weights.inference import use_threads

    typed, launcher = defaults.is_typed("threads"), launcher_name()
    # un enfant de Lightning reçoit un nombre déjà choisi
    given = processes.once(lambda: threads.asked_threads(asked.threads, typed, launcher)) or asked.threads
    use_threads(given)
    return given


def decide_threads(
    given: int | str, machine: "Machine", gpt: "GPTModule", run: RunConfig, done: "TrainingProgress | None"
) -> int | str:
    """Ce que « auto » devient pour ce modèle, employé dès à présent.

    Une reprise de `done` garde le nombre de son dossier, à moins que d'autres processus, en plus ou en moins, ne
    partagent les cœurs : c'est alors « auto » de nouveau.
    """
    from gpt_lightning.training import threads
    from gpt_lightning.weights.inference import use_threads

    launcher = launcher_name()
    given_now = defaults.gives("threads") or threads.is_given_by_variable(launcher)
    if done is not None and done.world_size != machine.world_size and not given_now:
        given = "auto"
    resumes = done is not None and not defaults.gives("threads")
    shape = run.data["batch_size"], run.length
    chosen = threads.decide(given, machine, gpt.model, shape, resumes=resumes, launcher=launcher)
    use_threads(chosen)
    return chosen


def is_the_same_run(asked: RunConfig) -> bool:
    """Toujours vrai ; UserError si l'un de ces réglages ferait un autre entraînement que celui du dossier."""
    from gpt_lightning.training import restart

    if processes.is_first():  # les autres ont les réglages qu'il a jugés
        restart.refuse_another_run(record.saved_settings(asked.folder), hide_environment(asked.values()))
    return True


def write_sweep_page(folder: Path, keys: Sequence[str], rows: Sequence[sweeps.Result]) -> Path:
    """Écrit la page d'un balayage fini : sa table, ses courbes, et la commande qui essaie la meilleure tâche."""
    from gpt_lightning.training.page import sweep

    best = sweeps.best(rows)
    following = [] if best is None else folders.commands("generate", [], best, folder)
    jobs = [sweep.Job(row.job, row.folder, row.values, row.loss) for row in rows]
    return sweep.write(folder, keys, jobs, following)


def main() -> None:
    """La commande : compose conf/train.yaml, ouvre le dossier, puis appelle `train`."""
    cli.run(train, "train", opens_run=True, ineffective=ineffective.TABLE, sweep_page=write_sweep_page)
