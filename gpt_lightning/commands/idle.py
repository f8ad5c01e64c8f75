"""Ce qui peut être tapé sans effet dans chaque commande, et ce qu'il faut taper : une ligne par cas."""

from gpt_lightning.cli.effects import READ_A_PATH, Rule, Settings


def _limited(settings: Settings) -> bool:
    trainer = settings["trainer"]
    given = (trainer["max_epochs"], trainer["max_time"], settings["max_tokens"])
    return trainer["max_steps"] != -1 or any(one is not None for one in given) or trainer["fast_dev_run"]


def _always(settings: Settings) -> bool:
    return True


_CORPUS = ("train", "evaluate", "prepare")
_LIMITS = "trainer.max_epochs, trainer.max_steps, trainer.max_time ou max_tokens"
LOCAL = ("127.0.0.1", "localhost", "::1")
RULES = (
    Rule(
        _CORPUS,
        ("data.path",),
        lambda s: s["data"]["source"] not in READ_A_PATH,
        "ce corpus ne lit pas de fichier : data=text en lit un",
    ),
    Rule(
        _CORPUS,
        ("data.url", "data.sha256"),
        lambda s: s["data"]["source"] != "download",
        "seul data.source=download télécharge",
    ),
    Rule(
        _CORPUS,
        ("data.url", "data.sha256"),
        lambda s: s["data"]["path"],
        "data.path= est lu à la place : gardez l'un des deux",
    ),
    Rule(
        _CORPUS,
        ("data.jsonl_key", "data.errors"),
        lambda s: s["data"]["source"] not in READ_A_PATH and not s["data"]["val_path"],
        "ce corpus ne lit pas de fichier",
    ),
    Rule(
        _CORPUS,
        ("data.train_split", "data.split"),
        lambda s: s["data"]["val_path"],
        "data.val_path= est la validation : gardez l'un des deux",
    ),
    Rule(
        ("train", "evaluate", "prepare"),
        ("data.text_key", "data.label_key", "data.errors"),
        lambda s: "label_key" in s["data"] and not s["data"]["path"] and not s["data"]["val_path"],
        "ces textes étiquetés ne viennent pas d'un fichier : donnez data.path=",
    ),
    Rule(
        ("train",),
        ("decoding", "callbacks.sample.max_new_tokens", "callbacks.sample.strategy", "callbacks.sample.seed"),
        lambda s: "label_key" in s["data"],
        "un modèle qui classe n'écrit pas de texte",
    ),
    Rule(
        ("train",),
        ("lora.save",),
        lambda s: not s["trainer"]["enable_checkpointing"] or s["trainer"]["fast_dev_run"],
        "cet entraînement n'écrit pas de checkpoint",
    ),
    Rule(("evaluate", "prepare"), ("data.class_weights",), _always, "elle ne sert qu'à train.py"),
    Rule(
        ("classify",),
        ("output", "batch_size"),
        lambda s: s["prompts_file"] is None,
        "elle sert à prompts_file=",
    ),
    Rule(
        ("serve", "play"),
        ("open",),
        lambda s: s["host"] in LOCAL,
        "ce serveur n'écoute que cette machine : donnez aussi host=",
    ),
    Rule(
        ("train",),
        ("data.passes",),
        _limited,
        f"la longueur est déjà donnée par {_LIMITS}",
    ),
    Rule(
        ("evaluate", "prepare"),
        ("data.passes", "data.shift", "data.num_workers", "data.eval_batches", "data.seed", "seed"),
        _always,
        "elle ne sert qu'à train.py",
    ),
    Rule(("prepare",), ("data.batch_size",), _always, "elle ne sert qu'à train.py et à evaluate"),
    Rule(
        ("train",),
        ("optim.decay",),
        lambda s: s["optim"]["schedule"] != "wsd",
        "elle règle la descente de optim.schedule=wsd",
    ),
    Rule(
        ("train",),
        ("optim.min_lr_ratio",),
        lambda s: s["optim"]["schedule"] == "constant",
        "optim.schedule=constant ne descend pas",
    ),
    Rule(
        ("train",),
        ("eval_every",),
        lambda s: (
            s["trainer"]["val_check_interval"] is not None
            or s["trainer"]["check_val_every_n_epoch"] is not None
        ),
        "trainer.val_check_interval ou trainer.check_val_every_n_epoch la remplace",
    ),
    Rule(
        ("train",),
        ("save_every",),
        lambda s: not s["trainer"]["enable_checkpointing"] or s["trainer"]["fast_dev_run"],
        "cet entraînement n'écrit pas de checkpoint",
    ),
    Rule(("train",), ("nan_skips",), lambda s: s["nan_policy"] != "skip", "elle sert à nan_policy=skip"),
    Rule(
        ("train",),
        ("strict_resume",),
        lambda s: s["ckpt_path"] is None and s["resume"] is None,
        "elle sert à ckpt_path= et à resume=auto",
    ),
    Rule(("train",), ("keep_last",), lambda s: s["save_every"] is None, "elle compte ceux de save_every="),
    Rule(
        ("train",),
        ("peak_flops",),
        lambda s: not (s["callbacks"] or {}).get("monitor"),
        "elle sert à callbacks.monitor, qui est retiré",
    ),
    Rule(
        ("train",),
        ("decoding",),
        lambda s: not (s["callbacks"] or {}).get("sample"),
        "elle sert à callbacks.sample, qui est retiré",
    ),
    Rule(
        ("train",),
        ("run_name",),
        lambda s: not any(one for name, one in (s["logger"] or {}).items() if name != "csv"),
        "elle nomme l'exécution dans TensorBoard",
    ),
    Rule(
        ("train",),
        ("trainer.gradient_clip_algorithm",),
        lambda s: not s["trainer"]["gradient_clip_val"],
        "il faut aussi trainer.gradient_clip_val",
    ),
    Rule(
        ("train",),
        ("trainer.max_epochs", "trainer.max_steps", "max_tokens"),
        lambda s: s["trainer"]["fast_dev_run"],
        "trainer.fast_dev_run dit déjà le nombre de pas",
    ),
    Rule(
        ("train", "generate"),
        ("decoding.top_k", "decoding.top_p", "decoding.min_p", "decoding.typical_p"),
        lambda s: s["decoding"]["temperature"] == 0,
        "avec decoding.temperature=0 le plus probable gagne toujours : decoding=nucleus tire au sort",
    ),
    Rule(
        ("train", "generate"),
        ("decoding.length_penalty",),
        lambda s: s["decoding"]["num_beams"] == 1,
        "elle compare des faisceaux : decoding=beam",
    ),
    Rule(
        ("generate",),
        ("batch_size", "output"),
        lambda s: s["prompts_file"] is None,
        "elle sert aux textes de prompts_file=",
    ),
    Rule(
        ("generate",),
        ("stream",),
        lambda s: s["prompts_file"] is not None or s["interactive"],
        "seul un texte s'écrit au fur et à mesure",
    ),
    Rule(("generate",), ("logprobs",), lambda s: s["interactive"], "le dialogue ne les montre pas"),
)
