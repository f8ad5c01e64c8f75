"""`python -m gpt_lightning` : la liste des commandes ; `python -m gpt_lightning evaluate ...` en lance une."""

import importlib
import sys

from gpt_lightning import messages
from gpt_lightning.commands import COMMANDS


def main() -> None:
    """Lance la commande demandée. Une faute de frappe reçoit une phrase, et le code de sortie 1."""
    name, *rest = sys.argv[1:] or [""]
    if name in ("", "-h", "--help"):
        print(messages.command_list(COMMANDS))
        return
    if name not in COMMANDS:
        sys.exit(messages.unknown_command(name, COMMANDS))
    sys.argv = [name, *rest]
    importlib.import_module(f"gpt_lightning.commands.{name}").main()


if __name__ == "__main__":
    main()
