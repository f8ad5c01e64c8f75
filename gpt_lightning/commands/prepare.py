"""Encoder un corpus d'avance : `python -m gpt_lightning prepare data=text data.path=mon_texte.txt`."""

from pathlib import Path
from typing import Any

from gpt_lightning import cli, messages
from gpt_lightning.cli import console
from gpt_lightning.cli.targets import build


def prepare(settings: dict[str, Any]) -> None:
    """Construit la base de jetons de `data` avec `tokenizer`, et montre ce qu'elle contient."""
    from gpt_lightning.data import statistics

    data = build(
        "data",
        settings["data"],
        tokenizer=build("tokenizer", settings["tokenizer"]),
        report=lambda path: console.log.info(messages.building(path)),
        progress=console.Progress(messages.encoding),
    )
    stats = data.prepare()
    print(messages.corpus(stats, data.name))
    found = statistics.compute(data)
    print(messages.tokens(found, stats.characters, data.tokenizer))
    if settings["output_dir"]:
        for path in statistics.render(found, Path(settings["output_dir"])):
            print(path)


def main() -> None:
    """La commande : compose conf/prepare.yaml, puis appelle `prepare`."""
    cli.run(prepare, "prepare")
