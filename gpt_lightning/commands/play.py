"""Jouer avec un modèle : `python -m gpt_lightning play` le sert, et ouvre la page dans le navigateur."""

import threading
import webbrowser

from gpt_lightning import cli
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.serve import serve
from gpt_lightning.typing import Settings


def play(settings: Settings) -> None:
    """Sert le modèle, et ouvre la page dès qu'elle répond."""
    # à part : un navigateur de terminal ne rend la main qu'une fois fermé
    serve(
        settings,
        on_ready=lambda address: threading.Thread(
            target=webbrowser.open, args=(address,), daemon=True
        ).start(),
    )


def main() -> None:
    """La commande : compose conf/play.yaml, qui est celle de serve, puis appelle `play`."""
    cli.run(play, "play", sweeps=False, ineffective=ineffective.TABLE)
