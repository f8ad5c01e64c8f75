"""Reconnaître ce que l'on tape par habitude d'autres outils, et dire ce qu'il faut taper ici."""

import re
from collections.abc import Sequence
from pathlib import Path

from gpt_lightning import __version__
from gpt_lightning.cli import hydra_words, options, words
from gpt_lightning.cli.composition import choices, compose, known_keys
from gpt_lightning.errors import UserError

# une clé d'ailleurs : la nôtre, quand elle n'en est pas la fin (lr : optim.lr)
KEYS = {
    "dropout": "model.drop_rate",
    "n_layer": "model.n_layers",
    "n_head": "model.n_heads",
    "n_embd": "model.emb_dim",
    "block_size": "model.context_length",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "max_iters": "trainer.max_steps",
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "grad_clip": "trainer.gradient_clip_val",
    "eval_interval": "eval_every",
    "learning_rate": "optim.lr",
    "dataset": "data",
    "out_dir": "output_dir",
    "num_tokens": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "checkpoint": "ckpt_path",
    "n": "num_samples",
}
# une clé qui n'a pas d'équivalent mot pour mot : la phrase entière
SENTENCES = {
    "resume": "Pour reprendre le dernier entraînement : ckpt_path=last.",
    "debug": "Pour un essai de quelques pas, sans journal ni checkpoint : trainer.fast_dev_run=true.",
    "cpu": "Pour rester sur le processeur : trainer.accelerator=cpu (device=cpu pour generate.py).",
    "model": "Le modèle vient du checkpoint : ckpt_path=last, un dossier d'exécution, un fichier ou hf:nom.",
    "tokenizer": "Le tokenizer vient du checkpoint, avec le modèle : il ne se choisit pas ici.",
    "trainer.overfit_batches": "trainer.limit_train_batches limite une époque, dans l'ordre du chargeur.",
    "trainer.use_distributed_sampler": "Le chargeur partage lui-même les fenêtres : retirez cette clé.",
    "trainer.barebones": "Un entraînement écrit toujours ses mesures et ses checkpoints : retirez cette clé.",
}
SENTENCES |= {
    f"lora.{key}": f"lora.{key}= n'a pas d'effet sans adaptateurs : ajoutez lora=default."
    for key in ("rank", "alpha", "modules", "rslora", "drop_rate", "save")
}
# un choix d'ailleurs : le nôtre
CHOICES = {
    ("tokenizer", "bpe"): "tokenizer=trained (appris sur le corpus) ou tokenizer=gpt2 (celui de GPT-2)",
    ("tokenizer", "char"): "tokenizer=characters",
    ("tokenizer", "words"): "tokenizer=words_v2",
    ("trainer", "cpu"): "trainer.accelerator=cpu",
    ("trainer", "mps"): "trainer.accelerator=mps",
    ("logger", "tb"): "logger=tensorboard",
    ("logger", "aim"): "logger=trackio, lui aussi sur cette machine",
    ("decoding", "top_p"): "decoding=nucleus",
    ("decoding", "sampling"): "decoding=temperature",
    ("optim", "adam"): "optim=adamw",
    ("optim", "sgd"): "optim=target optim._target_=torch.optim.SGD optim.lr=0.1",
}


def check_arguments(argv: list[str], config_name: str) -> list[str]:
    """Vérifie que Hydra lit ces arguments, et les renvoie ; un mot seul y est devenu `prompt=`, s'il y en a un.

    UserError sur une option, une suppression ou un mot d'ailleurs. `--version` écrit notre version, et finit.
    """
    if "--version" in argv:
        print(f"gpt_lightning {__version__}")
        raise SystemExit(0)
    hydra_words.check_options(argv, config_name)
    given, rest = options.separate(argv)
    for argument in rest:
        _check_argument(argument, config_name)
    options.check(argv)
    return [*given, *words.with_prompt(rest, config_name)]


def _check_argument(argument: str, config_name: str) -> None:
    """UserError sur une suppression, ou une option que Hydra ne lit pas."""
    name = argument.partition("=")[0]
    if argument == "-i":
        raise UserError("Pour dialoguer : python generate.py interactive=true.")
    if name == "logger" and (match := re.fullmatch(r"logger=\[(.*)\]", argument)):
        listed = [word.strip(" '\"") for word in match[1].split(",")]
        if listed == [""] or ("none" in listed and len(listed) > 1):
            raise UserError(
                "logger=none ôte tous les journaux, et s'écrit seul ; logger=csv garde metrics.csv."
            )
    keys = known_keys(config_name)
    is_text = "=" not in argument and words.takes_text(config_name) and not _is_key(name, keys)
    if (
        argument[:1] in ("-", "+", "~")
        and ((re.search(r"\s", name) and "prompt" in keys) or is_text)
        and argument != "-"
    ):
        raise UserError(
            f"Un texte qui commence par « {argument[0]} » se tape prompt={words.as_shell(argument)}"
        )
    if argument.startswith("~") and not hydra_words.KEY.fullmatch(argument):
        instead = _without(name[1:], config_name) if _is_key(name, keys) else "retirez ce mot"
        raise UserError(f"Rien ne se retire avec « ~ » : {instead}.")
    if argument.startswith("-") and argument != "-":
        key = name.lstrip("-").replace("-", "_")
        ours = (
            f"{_our_key(key, keys) or key}=valeur"
            if _is_key(key, keys)
            else f"comme {words.example(config_name)}"
        )
        raise UserError(f"« {argument} » : les réglages s'écrivent sans tirets, {ours}.")


def _is_key(name: str, keys: Sequence[str]) -> bool:
    """Vrai si ce mot, sans ses signes, est une clé ou un groupe de cette commande, sous notre nom ou un autre."""
    key = name.lstrip("-+~").replace("-", "_")
    return _our_key(key, keys) is not None or any(f"{ours}.".startswith(f"{key}.") for ours in keys)


def _without(key: str, config_name: str) -> str:
    """Ce qu'il faut taper pour se passer de `key`."""
    listed = choices(key) if key in known_keys(config_name) else []
    if listed:
        return f"{key}=none le désactive" if "none" in listed else f"{key}= prend un de {', '.join(listed)}"
    value: object = compose(config_name)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    is_node = isinstance(value, dict) and "_target_" in value
    return (
        f"{key}=null le désactive" if is_node or value is None else f"{key}={value} est sa valeur habituelle"
    )


def for_key(key: str, keys: Sequence[str]) -> str | None:
    """La phrase pour une clé prise d'un autre outil ; None si on ne la reconnaît pas."""
    if key in SENTENCES and key not in keys:
        return SENTENCES[key]
    group, _, inside = key.partition(".")
    if group == "logger" and inside.partition(".")[0] in choices(group):
        name = inside.partition(".")[0]
        return f"{key}= n'a pas d'effet sans ce journal : ajoutez logger=[tensorboard,{name}]."
    ours = _our_key(key, keys)
    return f"La clé « {key} » s'écrit ici {ours}=..." if ours is not None else None


def _our_key(key: str, keys: Sequence[str]) -> str | None:
    """Notre clé pour celle d'un autre outil : celle de la table, ou la première qui finit par ce nom."""
    ours = KEYS.get(key)
    return ours if ours in keys else next((name for name in keys if name.endswith(f".{key}")), None)


def for_choice(group: str, choice: str) -> str | None:
    """La phrase pour un choix pris d'un autre outil ; None si on ne le reconnaît pas."""
    if (group, choice) in CHOICES:
        return f"{group}={choice} n'existe pas : {CHOICES[group, choice]}."
    if group == "data" and ("." in choice or "/" in choice or Path(choice).exists()):
        return f"Pour lire ce texte : data=text data.path={choice}"
    return None
