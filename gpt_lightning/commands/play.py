"""Jouer avec un modèle : `python -m gpt_lightning play` le sert, et ouvre la page dans le navigateur."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from gpt_lightning import cli
from gpt_lightning.cli import console
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.serve import serve
from gpt_lightning.typing import Settings

OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"
# ils prennent le terminal, ou n'exécutent pas la page
TEXT = {
    "www-browser",
    "w3m",
    "lynx",
    "links",
    "links2",
    "elinks",
    "browsh",
    "carbonyl",
    "chawan",
    "cha",
    "edbrowse",
}


def play(settings: Settings) -> None:
    """Sert le modèle, et ouvre la page dès qu'elle répond."""
    # à part : un navigateur peut ne rendre la main qu'une fois fermé
    serve(
        settings,
        on_ready=lambda address: threading.Thread(target=show, args=(address,), daemon=True).start(),
    )


def show(address: str) -> None:
    """Ouvre l'adresse, ou dit de l'ouvrir soi-même."""
    if not open_browser(address):
        console.log.info(f"Aucun navigateur graphique ne s'ouvre d'ici : ouvrez {address}/ dans le vôtre.")


def open_browser(address: str) -> bool:
    """Ouvre l'adresse dans un navigateur graphique, qui n'a ni le terminal ni les sorties. Faux s'il n'y en a pas."""
    chosen = [command for command in os.environ.get("BROWSER", "").split(os.pathsep) if command.strip()]
    graphical = [command for command in chosen if not _is_text(command.split()[0])]
    if chosen and not graphical:
        return False
    # sans TERM, webbrowser n'essaie de lui-même aucun navigateur de terminal
    env = {key: value for key, value in os.environ.items() if key not in ("TERM", "BROWSER")}
    if graphical:
        env["BROWSER"] = os.pathsep.join(graphical)
    opening = subprocess.run(
        [sys.executable, "-I", "-c", OPEN, address],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # sans terminal : aucun navigateur ne peut le prendre
    )
    return opening.returncode == 0


def _is_text(program: str) -> bool:
    """Vrai si ce programme est un navigateur de terminal, sous son nom ou par un lien."""
    path = Path(shutil.which(program) or program)
    return not TEXT.isdisjoint({path.name, path.resolve().name})


def main() -> None:
    """La commande : compose conf/play.yaml, qui est celle de serve, puis appelle `play`."""
    cli.run(play, "play", sweeps=False, ineffective=ineffective.TABLE)
