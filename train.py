"""Entraîner un GPT : `python train.py model=gpt124m trainer.devices=2`."""

import time

from gpt_lightning import cli, messages, processes


def train(settings: dict) -> float:
    """Entraîne selon `settings` (conf/train.yaml composé) ; rend la dernière perte de validation, en nats.

    Ce qui peut être refusé l'est avant de lire le corpus ; ce qui sera fait est dit avant de commencer.
    """
    from gpt_lightning import weights
    from gpt_lightning.model import GPTConfig, GPTModel
    from gpt_lightning.training.optim import OptimConfig

    began = time.monotonic()
    GPTConfig.from_dict({**settings["model"], "vocab_size": settings["model"]["vocab_size"] or 1})
    optim = OptimConfig.from_dict(settings["optim"], cli.optimizer_factory(settings["optim"]))

    from gpt_lightning.training import (
        callbacks,
        hardware,
        setup,
    )  # lightning : trois secondes, après les fautes de frappe
    from gpt_lightning.training.module import GPTModule
    from gpt_lightning.training.plan import accumulation, make_plan

    setup.quiet()
    setup.keep_memory()
    setup.seed(settings["seed"])
    initial, tokenizer = weights.load(settings["init_from"]) if settings["init_from"] else (None, None)
    trainer_settings = setup.trainer_settings(settings["trainer"], processes.place())
    data = cli.instantiate(settings["data"], tokenizer=tokenizer or cli.instantiate(settings["tokenizer"]))
    architecture = initial.config.to_dict() if initial else settings["model"]
    setup.check_window(data.max_length, architecture["context_length"])
    nodes = cli.instantiate(settings["callbacks"])
    out = setup.output_folder(settings)
    trainer = cli.instantiate(
        trainer_settings,
        default_root_dir=str(out),
        logger=setup.loggers(cli.instantiate(settings["logger"])),
        callbacks=setup.callbacks(nodes, trainer_settings, callbacks.Finish(setup.hyperparameters(settings))),
    )
    accumulate = data.accumulate = accumulation(
        settings["global_batch_tokens"],
        settings["global_batch_size"],
        batch_size=data.batch_size,
        max_length=data.max_length,
        world_size=trainer.world_size,
        given=trainer_settings["accumulate_grad_batches"],
    )

    setup.say(trainer, messages.starting(str(out)))
    data.report = lambda folder: setup.say(trainer, messages.building(folder))
    data.progress = cli.EncodingProgress()
    stats = data.prepare()
    batches = len(data.order(world_size=trainer.world_size))
    setup.check_validation(stats.val_windows, trainer.world_size)
    if trainer_settings["limit_train_batches"] is not None:
        batches = setup.limited(batches, trainer_settings["limit_train_batches"], accumulate)
        trainer.limit_train_batches = batches
    plan = make_plan(
        batches_per_epoch=batches,
        accumulate=accumulate,
        tokens_per_batch=data.batch_size * data.max_length * trainer.world_size,
        **setup.limits(settings),
    )
    setup.check_schedule(optim, plan)
    setup.follow(trainer, plan, accumulate)
    drop_rate = settings["model"]["drop_rate"]
    config = setup.with_vocabulary({**architecture, "drop_rate": drop_rate}, data.tokenizer.vocab_size)
    device, precision = trainer.strategy.root_device, trainer_settings["precision"]
    compiled = setup.compiled(settings["compile"], device.type)
    memory = config.training_memory(
        batch_size=data.batch_size,
        length=data.max_length,
        precision=precision,
        fused_attention=device.type != "cpu" or config.drop_rate == 0,
    )
    seconds = setup.estimated_seconds(config, plan, length=data.max_length, device=device)
    setup.say(
        trainer,
        messages.device(device.type, trainer.world_size, precision, compiled),
        messages.corpus(stats, data.name),
        messages.model(config.n_parameters(), config.flops_per_token(data.max_length), memory),
        messages.plan(plan.total_steps, plan.epochs, plan.tokens_per_step, accumulate, seconds),
    )

    if settings["ckpt_path"]:
        step = weights.resumable_step(settings["ckpt_path"])
        setup.say(trainer, messages.resuming(settings["ckpt_path"], step))
        if plan.total_steps is not None and step >= plan.total_steps:
            raise ValueError(messages.nothing_left_to_do(step))

    model = GPTModel(config)
    if initial:
        model.load_state_dict(initial.state_dict())
        setup.say(
            trainer,
            messages.starting_from(settings["init_from"], config.n_parameters(), tokenizer is not None),
        )
    module = GPTModule(
        model,
        tokenizer=data.tokenizer,
        optim=optim,
        plan=plan,
        compile_model=compiled,
        bytes_per_token=stats.val_bytes / stats.val_tokens,
    )
    if trainer.is_global_zero:
        cli.save_settings(settings, out / "config.yaml")
        cli.save_settings(hardware.environment(), out / "environment.yaml")
    with processes.launched_by_lightning(out / "config.yaml"):
        trainer.fit(module, data, ckpt_path=settings["ckpt_path"], weights_only=True)
    seconds = time.monotonic() - began
    results = {**module.metrics, "best": setup.best_score(trainer), "tokens": module.tokens_seen}
    results["memory"] = hardware.peak_memory(device)
    setup.say(trainer, messages.finished(str(out), results, seconds, setup.written(out)))
    return module.metrics["val/loss"]


if __name__ == "__main__":
    cli.run(train, "train")
