"""Les clés qui seraient sans effet dans chaque commande, et ce qu'il faut taper à la place : un cas par ligne.

Ce qui est propre à train.py est déclaré dans training/run_config.py, à côté de la clé.
"""

from gpt_lightning.cli.effects import READ_A_PATH, IneffectiveKeys
from gpt_lightning.training.run_config import useless


def _is_greedy(temperature: object) -> bool:
    return isinstance(temperature, int | float) and 0 <= temperature < 1e-6  # la `LEAST` de Strategy


_CORPUS = ("train", "evaluate", "prepare", "trace")
LOCAL = ("127.0.0.1", "localhost", "::1")
TABLE = (
    IneffectiveKeys(
        ("evaluate",),
        ("limit", "num_fewshot"),
        lambda s: s["tasks"] is None,
        "elle compte les questions et les exemples d'une tâche : donnez tasks=[...]",
    ),
    IneffectiveKeys(
        ("evaluate",),
        ("split", "data"),
        lambda s: s["tasks"] is not None and "mot_suivant" not in s["tasks"],
        "seule la tâche mot_suivant lit le corpus",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.path",),
        lambda s: s["data"]["source"] == "datasets",
        "un jeu de données, même un dossier d'ici, se donne avec data.name=",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.path",),
        lambda s: s["data"]["source"] not in READ_A_PATH,
        "ce corpus ne lit pas de fichier : data=text en lit un",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.url", "data.sha256"),
        lambda s: s["data"]["source"] != "download",
        "seul data.source=download télécharge",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.url", "data.sha256"),
        lambda s: s["data"]["path"],
        "data.path= est lu à la place : gardez l'un des deux",
    ),
    IneffectiveKeys(
        _CORPUS,
        (
            *("data.jsonl_key", "data.text_key", "data.errors", "data.max_expansion"),
            *("data.join_hyphens", "data.drop_running_heads"),
        ),
        lambda s: s["data"]["source"] not in (*READ_A_PATH, "datasets") and not s["data"]["val_path"],
        "ce corpus ne lit pas de fichier",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.max_expansion", "data.join_hyphens", "data.drop_running_heads"),
        lambda s: s["data"]["source"] == "parquet",
        "elle sert aux documents de data=text",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.jsonl_key",),
        lambda s: s["data"].get("text_key") is not None,
        "data.text_key= est son nouveau nom, gardez celle-là seule",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.train_split", "data.split"),
        lambda s: s["data"]["val_path"] and "val_split" not in s["data"],
        "data.val_path= est la validation : gardez l'un des deux",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.train_split", "data.cut"),
        lambda s: "val_split" in s["data"] and (s["data"]["val_split"] or s["data"]["val_path"]),
        "la validation est donnée à part (data.val_split=, data.val_path=)",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.text_key", "data.label_key", "data.errors"),
        lambda s: "label_key" in s["data"] and not s["data"]["path"] and not s["data"]["val_path"],
        "ces textes étiquetés ne viennent pas d'un fichier : donnez data.path=",
    ),
    IneffectiveKeys(
        _CORPUS,
        ("data.ignore",),
        lambda s: "mask_prompt" in s["data"] and not s["data"]["path"] and not s["data"]["val_path"],
        "ces conversations ne viennent pas d'un fichier : donnez data.path=",
    ),
    IneffectiveKeys(
        ("evaluate", "prepare", "trace"),
        ("data.class_weights",),
        lambda s: True,
        "elle ne sert qu'à train.py",
    ),
    IneffectiveKeys(
        ("classify",),
        ("output", "batch_size"),
        lambda s: s["prompts_file"] is None,
        "elle sert à prompts_file=",
    ),
    IneffectiveKeys(
        ("serve", "play"),
        ("open",),
        lambda s: s["host"] in LOCAL,
        "ce serveur n'écoute que cette machine : donnez aussi host=",
    ),
    IneffectiveKeys(
        ("evaluate", "prepare", "trace"),
        ("data.passes", "data.shift", "data.num_workers", "data.eval_batches", "data.seed", "seed"),
        lambda s: True,
        "elle ne sert qu'à train.py",
    ),
    IneffectiveKeys(
        ("prepare",), ("to", "shard_tokens"), lambda s: s["format"] is None, "elle sert à format=bin"
    ),
    IneffectiveKeys(
        ("prepare", "trace"), ("data.batch_size",), lambda s: True, "elle ne sert qu'à train.py et à evaluate"
    ),
    IneffectiveKeys(
        ("train", "generate"),
        ("decoding.top_k", "decoding.top_p", "decoding.min_p", "decoding.typical_p"),
        lambda s: _is_greedy(s["decoding"]["temperature"]),
        "avec decoding.temperature=0 le plus probable gagne toujours : decoding=nucleus tire au sort",
    ),
    IneffectiveKeys(
        ("train", "generate"),
        ("decoding.length_penalty",),
        lambda s: s["decoding"]["num_beams"] == 1,
        "elle compare des faisceaux : decoding=beam",
    ),
    IneffectiveKeys(
        ("generate",),
        ("batch_size", "output"),
        lambda s: s["prompts_file"] is None,
        "elle sert aux textes de prompts_file=",
    ),
    IneffectiveKeys(
        ("generate",),
        ("stream",),
        lambda s: s["prompts_file"] is not None or s["interactive"],
        "seul un texte s'écrit au fur et à mesure",
    ),
    IneffectiveKeys(
        ("generate",), ("logprobs",), lambda s: s["interactive"], "le dialogue ne les montre pas"
    ),
    *(IneffectiveKeys(("train",), *case) for case in useless()),
)
