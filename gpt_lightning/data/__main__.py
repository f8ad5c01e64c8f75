"""L'ancienne forme de la commande, qui dit la nouvelle."""

import sys

from gpt_lightning import messages

if __name__ == "__main__":
    sys.exit(messages.moved_command("prepare"))
