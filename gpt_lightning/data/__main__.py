"""Préparer un corpus d'avance : `python -m gpt_lightning.data prepare data=text data.path=mon_texte.txt`."""

import logging
import sys
from pathlib import Path

from gpt_lightning import cli, messages

log = logging.getLogger("gpt_lightning")


def prepare(settings: dict) -> None:
    """Construit la base de jetons de `data` avec `tokenizer`, et montre ce qu'elle contient."""
    from gpt_lightning.data import statistics

    data = cli.instantiate(settings["data"], tokenizer=cli.instantiate(settings["tokenizer"]))
    data.report = lambda folder: log.info(messages.building(folder))
    data.progress = cli.EncodingProgress()
    stats = data.prepare()
    print(messages.corpus(stats, data.name))
    found = statistics.compute(data)
    print(messages.tokens(found, stats.characters, data.tokenizer))
    if settings["output_dir"]:
        for path in statistics.render(found, Path(settings["output_dir"])):
            print(path)


if __name__ == "__main__":
    if sys.argv[1:2] not in (["prepare"], ["--help"], ["-h"]):
        sys.exit("Usage : python -m gpt_lightning.data prepare data=... tokenizer=...")
    sys.argv[1:2] = [a for a in sys.argv[1:2] if a != "prepare"]
    cli.run(prepare, "prepare")
