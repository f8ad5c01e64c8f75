"""Entraîner un GPT : `python train.py model=gpt124m trainer.devices=2`."""

import time
from pathlib import Path
from typing import Any

from gpt_lightning import cli, wording
from gpt_lightning.cli import console, folders, processes, signals
from gpt_lightning.cli.composition import as_saved
from gpt_lightning.cli.targets import build, build_all, resolve
from gpt_lightning.commands import idle
from gpt_lightning.commands.corpus import prepared, unread

# ce que l'on fait ensuite d'un modèle de chaque tâche
NEXT = {
    "text": ("generate", "decoding=nucleus"),
    "instruct": ("chat",),
    "classify": ("classify", 'prompt="..."'),
}


def train(settings: dict[str, Any]) -> float:
    """Entraîne selon `settings` (conf/train.yaml composé) ; rend la dernière perte de validation, en nats.

    Chaque étape appelle une pièce, de haut en bas ; aucune valeur ne remonte.
    """
    from gpt_lightning.training import checks, hardware, optim

    # refuser ce qui se refuse sans rien lire, avant d'attendre lightning
    began, folder = time.monotonic(), Path(settings["output_dir"])
    optimizer = resolve("optim", settings["optim"]["_target_"])
    checks.check(settings, optimizer)
    lot = settings["data"]["batch_size"] * settings["data"]["max_length"], settings["model"]["emb_dim"]
    machine = hardware.resolve(
        settings["trainer"],
        processes.launcher(),
        lambda device: processes.once(lambda: hardware.automatic_precision(device, *lot)),
    )

    from gpt_lightning import weights
    from gpt_lightning.training import divergence, module, plan, report, resume, trainer

    resumed = (
        weights.resumable(settings["ckpt_path"], settings["base_path"]) if settings["ckpt_path"] else None
    )
    done = resumed.progress if resumed else None
    if done is not None and processes.is_first():  # les autres ont les réglages qu'il a jugés
        resume.refuse_another_run(folders.load_yaml(folder / folders.SETTINGS) or {}, as_saved(settings))

    # ouvrir l'exécution : la graine, les journaux, et tout ce qui juge ses réglages en se construisant
    trainer.prepare_process(settings["seed"])
    console.log.info(f"Dossier    : {str(folder)}")
    typed = folders.typed_overrides()
    loggers, nodes = build_all("logger", settings["logger"]), build_all("callbacks", settings["callbacks"])
    data = unread(settings, accumulate=plan.accumulation(settings, machine.world_size))
    build("trainer", trainer.arguments(settings["trainer"], machine, plan.SHORTEST), logger=False)

    # le point de départ, les données, le plan
    start = weights.starting_point(
        settings["init_from"], settings["model"], resumed, task=data.task, base=settings["base_path"]
    )
    checks.refuse_settled_by_weights(typed, start)
    lora, train_on = checks.what_learns(settings, start)
    if start.labels:
        data.labels = start.labels  # celles d'un modèle qui classe déjà : jamais renumérotées
    asked, settings = settings, checks.settled(settings, optimizer, start.architecture)
    if done is not None:
        settings["model"] = asked["model"]  # ce que la prochaine reprise comparera
    if start.source:
        settings["init_from"] = start.source
    found = prepared(data, start.tokenizer)
    checks.check_validation(data.statistics.val_windows, machine.world_size)
    recipe = optim.OptimConfig.from_dict(settings["optim"], optimizer)
    order = data.order(world_size=machine.world_size)
    left = len(order) if done is None else order.remaining(done.windows)
    planned = plan.make_plan(
        settings, machine.world_size, len(order), recipe.schedule, done=done, left=left, order=order
    )
    if done is not None:
        resume.refuse_another_corpus(done, data.identity)
        resume.refuse_another_size(done, machine.world_size, planned.tokens_per_step, settings)
        if done.evaluated and planned.total_steps is not None and done.step >= planned.total_steps:
            trainer.tidy(nodes)
            console.log.info(
                f"Rien à faire : cet entraînement est à son dernier pas ({wording.number(done.step)}) ; "
                f"prolongez-le, par exemple trainer.max_steps={2 * done.step}."
            )
            return done.metrics["val/loss"]
    rate = processes.once(lambda: hardware.matmul_rate(machine.device, machine.precision))

    # le modèle dans son module, et le Trainer
    labels = len(getattr(data, "labels", ()))
    model = start.build(data.tokenizer.vocab_size, n_labels=labels, lora=lora, train_on=train_on)
    adapted = (
        module.Adapted(lora, *start.identity(model), settings["lora"]["save"] == "adapters") if lora else None
    )
    length = settings["data"]["max_length"]
    seconds = report.estimated_seconds(model, planned, length=length, rate=rate)
    compiled = trainer.compiled(settings["compile"], machine.device.type, seconds)
    # ce qui était auto est décidé une fois : la reprise, et les autres processus, le gardent
    settings = {
        **settings,
        "compile": compiled,
        "trainer": {**settings["trainer"], "precision": machine.precision},
    }
    gpt = module.GPTModule(
        model,
        data=data,
        optim=recipe,
        plan=planned,
        compiled=compiled,
        prompt=settings["prompt"],
        guard=divergence.DivergenceGuard(settings["nan_policy"], settings["nan_skips"]),
        adapted=adapted,
    )
    callbacks = trainer.chosen(nodes, as_saved(settings), typed, signals.received)
    options = {"default_root_dir": str(folder), "logger": loggers or False, "callbacks": callbacks}
    engine = build("trainer", trainer.arguments(settings["trainer"], machine, planned), **options)

    # dire ce qui sera fait, le faire, dire ce qui a été fait
    report.before(settings, machine, gpt, start, corpus=data.summary, rate=rate)
    folders.record(folder, settings)
    if done is not None:
        trainer.continue_logs(loggers, done.step)
    with processes.children_run("train", settings, found), signals.noted():
        signum = trainer.fit(engine, gpt, data, settings["ckpt_path"])
    if signum:
        console.log.info(folders.interrupted(folder, "train", signals.name_of(signum), engine.global_step))
        raise signals.Interrupted(signum)
    report.after(engine, gpt, folder, time.monotonic() - began, folders.following(folder, *NEXT[data.task]))
    return gpt.metrics["val/loss"]


def main() -> None:
    """La commande : compose conf/train.yaml, ouvre le dossier, puis appelle `train`."""
    cli.run(train, "train", opens_run=True, rules=idle.RULES)
