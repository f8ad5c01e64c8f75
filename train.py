"""Entraîner un GPT : `python train.py model=gpt124m trainer.devices=2`."""

import time
from dataclasses import replace
from pathlib import Path

from gpt_lightning import cli, messages


def train(settings: dict) -> float:
    """Entraîne selon `settings` (conf/train.yaml composé) ; rend la dernière perte de validation, en nats.

    Tout ce qui peut être refusé l'est avant que le corpus ne soit lu ; tout ce qui sera fait est dit avant de
    commencer.
    """
    import lightning

    from gpt_lightning.model import GPTConfig, GPTModel
    from gpt_lightning.training import setup
    from gpt_lightning.training.module import GPTModule
    from gpt_lightning.training.optim import OptimConfig
    from gpt_lightning.training.plan import accumulation, make_plan

    began = time.monotonic()
    lightning.seed_everything(setup.check_seed(settings["seed"]), verbose=False)
    GPTConfig.from_dict({**settings["model"], "vocab_size": settings["model"]["vocab_size"] or 1})
    optim = OptimConfig.from_dict(settings["optim"])
    cli.instantiate(settings["decoding"])
    limits = setup.limits(settings["trainer"])
    trainer_settings = setup.trainer_settings(settings["trainer"])
    out = setup.output_folder(settings)
    trainer = cli.instantiate(
        trainer_settings,
        logger=setup.loggers(cli.instantiate(settings["logger"]), out),
        callbacks=setup.callbacks(cli.instantiate(settings["callbacks"]), trainer_settings),
        default_root_dir=str(out),
    )
    data = cli.instantiate(
        {**settings["data"], "tokenizer": settings["tokenizer"]}, report=lambda f: setup.say(trainer, messages.building(f))
    )
    accumulate = accumulation(
        settings["global_batch_tokens"],
        batch_size=data.batch_size,
        max_length=data.max_length,
        world_size=trainer.world_size,
        given=settings["trainer"]["accumulate_grad_batches"],
    )
    setup.check_window(data.max_length, settings["model"]["context_length"])

    stats = data.prepare()
    data.accumulate = accumulate
    config = setup.with_vocabulary(GPTConfig, settings["model"], data.tokenizer.vocab_size)
    plan = make_plan(
        batches_per_epoch=len(data.order(world_size=trainer.world_size)),
        accumulate=accumulate,
        tokens_per_batch=data.batch_size * data.max_length * trainer.world_size,
        max_tokens=settings["max_tokens"],
        eval_every=settings["eval_every"],
        **limits,
    )
    setup.follow(trainer, plan, accumulate)
    compiled = setup.compiled(settings["compile"], trainer)
    memory = config.training_memory(
        batch_size=data.batch_size, length=data.max_length, precision=trainer_settings["precision"]
    )
    setup.say(
        trainer,
        messages.starting(str(out)),
        messages.device(trainer.strategy.root_device.type, trainer.world_size, trainer_settings["precision"], compiled),
        messages.corpus(stats, data.name),
        messages.model(settings["model_name"], config.n_parameters(), config.flops_per_token(data.max_length), memory),
    )
    model = GPTModel(config)
    ...
