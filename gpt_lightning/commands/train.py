"""Entraîner un GPT : `python train.py model=gpt124m trainer.devices=2`."""

import time
from pathlib import Path
from typing import Any

from gpt_lightning import cli, messages
from gpt_lightning.cli import console, folders, processes
from gpt_lightning.cli.targets import build, build_all, resolve


def train(settings: dict[str, Any]) -> float:
    """Entraîne selon `settings` (conf/train.yaml composé) ; rend la dernière perte de validation, en nats.

    Chaque étape appelle une pièce, de haut en bas ; aucune valeur ne remonte.
    """
    began, folder, settings = time.monotonic(), Path(settings["output_dir"]), dict(settings)

    # 1. Refuser ce qui se refuse sans rien lire, avant d'attendre lightning.
    from gpt_lightning.training import checks, hardware
    from gpt_lightning.training.optim import OptimConfig, resolve_lr

    optimizer = resolve("optim", settings["optim"]["_target_"])
    checks.check(settings, optimizer)
    machine = hardware.resolve(settings["trainer"], processes.launcher())

    # 2. Ouvrir l'exécution : la graine, les journaux, les callbacks.
    from gpt_lightning import weights
    from gpt_lightning.model import GPTConfig
    from gpt_lightning.training import plan, provenance, report, trainer
    from gpt_lightning.training.module import GPTModule

    trainer.prepare_process(settings["seed"])
    console.log.info(messages.starting(str(folder)))
    loggers = build_all("logger", settings["logger"])
    callbacks = build_all("callbacks", settings["callbacks"])

    # 3. Le point de départ : un modèle neuf, ou des poids avec leur tokenizer.
    start = weights.starting_point(settings["init_from"], settings["model"])
    checks.check_window(settings["data"]["max_length"], start.architecture["context_length"])
    settings |= {"optim": resolve_lr(settings["optim"], optimizer, start.architecture["emb_dim"])}
    optim = OptimConfig.from_dict(settings["optim"], optimizer)

    # 4. Les données, puis le plan : combien de pas, de quelle taille.
    data = build(
        "data",
        settings["data"],
        tokenizer=start.tokenizer or build("tokenizer", settings["tokenizer"]),
        accumulate=plan.accumulation(settings, machine.world_size),
        report=lambda path: console.log.info(messages.building(path)),
        progress=console.Progress(messages.encoding),
    )
    corpus = data.prepare()
    checks.check_validation(corpus.val_windows, machine.world_size)
    batches = len(data.order(world_size=machine.world_size))
    planned = plan.make_plan(settings, machine.world_size, batches, optim.schedule)
    rate = hardware.matmul_rate(machine.device)  # pour annoncer la durée

    # 5. Le modèle, son module, le Trainer.
    module = GPTModule(
        start.build(GPTConfig.for_vocabulary(start.architecture, data.tokenizer.vocab_size)),
        tokenizer=data.tokenizer,
        optim=optim,
        plan=planned,
        compile_model=trainer.compiled(settings["compile"], machine.device.type),
        bytes_per_token=corpus.val_bytes / corpus.val_tokens,
        prompts=data.openings() if settings["prompt"] is None else [settings["prompt"]],
    )
    hyperparameters = report.hyperparameters(settings, folders.typed_overrides(folder) or [])
    engine = build(
        "trainer",
        trainer.arguments(settings["trainer"], machine, planned),
        default_root_dir=str(folder),
        logger=loggers or False,
        callbacks=trainer.chosen(callbacks, settings["trainer"], hyperparameters),
    )

    # 6. Dire ce qui sera fait, le faire, dire ce qui a été fait.
    told = messages.corpus(corpus, data.name)
    report.before(settings, machine, module, corpus=told, start=start, rate=rate)
    if engine.is_global_zero:
        folders.save_yaml(settings, folder / folders.SETTINGS)
        folders.save_yaml(provenance.environment(), folder / "environment.yaml")
    with processes.children_run("train", folder / folders.SETTINGS), folders.told_if_interrupted(folder):
        trainer.fit(engine, module, data, settings["ckpt_path"])
    report.after(engine, module, folder, time.monotonic() - began, folders.following(folder))
    return module.metrics["val/loss"]


def main() -> None:
    """La commande : compose conf/train.yaml, ouvre le dossier, puis appelle `train`."""
    cli.run(train, "train", opens_run=True)
