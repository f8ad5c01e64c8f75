"""`python -m gpt_lightning` affiche la liste des commandes ; `python -m gpt_lightning evaluate ...` en lance une."""

import difflib
import importlib
import sys
from collections.abc import Iterable, Mapping

from gpt_lightning.commands import COMMANDS
from gpt_lightning.demos import DEMOS


def command_list(commands: Mapping[str, str]) -> str:
    """Les commandes du projet, une par ligne."""
    lines = "\n".join(f"  {name:<10} {sentence}" for name, sentence in commands.items())
    demos = "\n".join(f"  {name:<11} {sentence}" for name, sentence in DEMOS.items())
    return (
        f"python -m gpt_lightning <commande> clé=valeur ...\n\n{lines}\n\n"
        f"L'aide de chacune : python -m gpt_lightning <commande> --help\n\n"
        f"Les démonstrations : python -m gpt_lightning.demos.<nom>\n\n{demos}"
    )


def unknown_command(name: str, commands: Iterable[str]) -> str:
    """La phrase qui refuse une commande inconnue, et nomme la plus proche."""
    listed = list(commands)
    close = difflib.get_close_matches(name, listed, n=1)
    hint = f" : vouliez-vous dire {close[0]} ?" if close else "."
    return f"La commande « {name} » n'existe pas{hint} Les commandes sont {', '.join(listed)}."


def main() -> None:
    """Lance la commande demandée ; une faute de frappe sort avec le code 1, et une phrase."""
    name, *rest = sys.argv[1:] or [""]
    if name in ("", "-h", "--help"):
        print(command_list(COMMANDS))
        return
    if name not in COMMANDS:
        sys.exit(unknown_command(name, COMMANDS))
    sys.argv = [name, *rest]
    importlib.import_module(f"gpt_lightning.commands.{name}").main()


if __name__ == "__main__":
    main()
