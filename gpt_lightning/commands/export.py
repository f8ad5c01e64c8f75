"""Emporter des poids : `python -m gpt_lightning export ckpt_path=best format=hf to=mon_modele`."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning import cli
from gpt_lightning.cli import console
from gpt_lightning.errors import UserError, choice
from gpt_lightning.typing import Settings
from gpt_lightning.wording import magnitude, parameters_of

if TYPE_CHECKING:
    from torch import Tensor

    from gpt_lightning.weights.loading import Loaded

PAGE = "page"  # ce format-là est une page, que serving/one_file.py écrit


def export(settings: Settings) -> None:
    """Écrit le modèle de `ckpt_path` dans le dossier `to`, au format `format`."""
    if not settings["to"]:
        raise UserError(
            "Il manque le dossier à écrire : to=mon_modele (ou to=modele.gguf, avec format=gguf ; to=modele.html, avec "
            "format=page)."
        )

    from gpt_lightning.weights.exporting import FORMATS

    choice("format", settings["format"], (*FORMATS, PAGE))
    if choice("film", settings["film"], (True, False)) and settings["format"] != PAGE:
        raise UserError(f"film=true ne sert qu'à format={PAGE} : retirez-le, ou prenez format={PAGE}.")

    from gpt_lightning.model import cost
    from gpt_lightning.model.lora import is_adapter
    from gpt_lightning.weights import exporting
    from gpt_lightning.weights.loading import load_and_describe

    loaded = load_and_describe(settings["ckpt_path"], n_heads=settings["n_heads"], base=settings["base_path"])
    if settings["format"] == PAGE:
        export_page(settings, loaded)
        return
    tokenizer, parameters = loaded.description.tokenizer, cost.n_parameters(loaded.model.config)
    if settings["format"] in exporting.APART and loaded.adapted is not None:  # eux seuls sont écrits
        parameters = sum(tensor.numel() for name, tensor in loaded.adapted.items() if is_adapter(name))
    files = exporting.export(
        loaded.model,
        tokenizer,
        Path(settings["to"]),
        settings["format"],
        loaded.description,
        adapted=loaded.adapted,
        merge=settings["merge"],
        quant=settings["quant"],
    )
    console.log.info(
        f"{parameters_of(parameters)} écrits dans {settings['to']} (format {settings['format']})."
    )
    if settings["format"] in ("hf", "peft") and not {"vocab.json", "tokenizer.json"} & {*files}:
        kind = tokenizer.state()["kind"] if tokenizer else "absent"
        console.log.info(
            f"Le tokenizer {kind} n'a pas d'équivalent chez Hugging Face : il est dans gpt_lightning.json seulement."
        )


def export_page(settings: Settings, loaded: "Loaded") -> None:
    """Écrit la page de ce modèle dans le fichier `to`."""
    from gpt_lightning.serving import one_file

    if settings["merge"] is not None:
        raise UserError(f"format={PAGE} ajoute toujours les adaptateurs aux matrices : retirez merge=.")
    size = one_file.write(
        Path(settings["to"]),
        loaded.model.state_dict(),
        loaded.description,
        quant=settings["quant"],
        film=film_weights(loaded, settings["base_path"]) if settings["film"] else (),
    )
    console.log.info(
        f"{settings['to']} ({magnitude(size, 'o')}) : un double clic l'ouvre dans tout navigateur, sans réseau ni "
        f"serveur."
    )


def film_weights(loaded: "Loaded", base: str | None) -> "list[tuple[int, dict[str, Tensor]]]":
    """Les poids de chaque image du film de ce modèle. UserError s'il n'en a pas."""
    from gpt_lightning.weights.film import base_for, film_of
    from gpt_lightning.weights.loading import load_and_describe

    images = film_of(loaded.source)
    if not images:
        raise UserError(
            f"film=true : {loaded.source} n'est pas d'une exécution qui a un film ; retirez film=, ou entraînez-en une."
        )
    return [
        (step, load_and_describe(str(path), base=base_for(path, base)).model.state_dict())
        for step, path in images.items()
    ]


def main() -> None:
    """La commande : compose conf/export.yaml, puis appelle `export`."""
    cli.run(export, "export")
