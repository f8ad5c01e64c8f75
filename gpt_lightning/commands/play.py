"""Jouer avec un modèle : `python -m gpt_lightning play` le sert, et ouvre la page dans le navigateur."""

import webbrowser
from typing import Any

from gpt_lightning import cli
from gpt_lightning.commands import idle
from gpt_lightning.commands.serve import serve


def play(settings: dict[str, Any]) -> None:
    """Sert le modèle, et ouvre la page dès qu'elle répond."""
    serve(settings, opened=webbrowser.open)


def main() -> None:
    """La commande : compose conf/play.yaml, qui est celle de serve, puis appelle `play`."""
    cli.run(play, "play", rules=idle.RULES)
