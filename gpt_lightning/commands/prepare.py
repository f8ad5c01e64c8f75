"""Encoder un corpus d'avance : `python -m gpt_lightning prepare data=text data.path=mon_texte.txt`."""

from pathlib import Path
from typing import Any

from gpt_lightning import cli, messages
from gpt_lightning.commands import idle
from gpt_lightning.commands.corpus import prepared, unread


def prepare(settings: dict[str, Any]) -> None:
    """Construit la base de jetons de `data` avec `tokenizer`, et montre ce qu'elle contient."""
    from gpt_lightning.data import statistics

    data = unread(settings)
    prepared(data)
    print(data.summary)
    if data.task != "text":
        return
    found = statistics.compute(data)
    print(messages.tokens(found, data.statistics.characters, data.tokenizer))
    if settings["output_dir"]:
        for path in statistics.render(found, Path(settings["output_dir"])):
            print(path)


def main() -> None:
    """La commande : compose conf/prepare.yaml, puis appelle `prepare`."""
    cli.run(prepare, "prepare", rules=idle.RULES)
