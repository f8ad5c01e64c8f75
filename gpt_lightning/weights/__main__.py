"""Emporter des poids : `python -m gpt_lightning.weights export ckpt_path=best format=hf to=mon_modele`."""

import logging
import sys
from pathlib import Path

from gpt_lightning import cli, messages

log = logging.getLogger("gpt_lightning")


def export(settings: dict) -> None:
    """Écrit le modèle de `ckpt_path` dans le dossier `to`, au format `format`."""
    from gpt_lightning.weights import load
    from gpt_lightning.weights.exporting import export

    if not settings["to"]:
        raise ValueError("Il manque le dossier où écrire : to=mon_modele.")
    model, tokenizer = load(settings["ckpt_path"], n_heads=settings["n_heads"])
    files = export(model, tokenizer, Path(settings["to"]), settings["format"])
    log.info(messages.exported(settings["to"], settings["format"], model.config.n_parameters()))
    if settings["format"] == "hf" and "vocab.json" not in files:
        log.info(messages.tokenizer_stays(tokenizer.state()["kind"] if tokenizer else "absent"))


if __name__ == "__main__":
    if sys.argv[1:2] not in (["export"], ["--help"], ["-h"]):
        sys.exit("Usage : python -m gpt_lightning.weights export ckpt_path=... format=hf|safetensors to=...")
    sys.argv[1:2] = [a for a in sys.argv[1:2] if a != "export"]
    cli.run(export, "export")
