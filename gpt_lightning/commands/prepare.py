"""Encoder un corpus d'avance : `python -m gpt_lightning prepare data=text data.path=mon_texte.txt`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning import cli
from gpt_lightning.cli import defaults
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.corpus import DataModule, find_data, prepare_data
from gpt_lightning.training import checks
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number, percent

if TYPE_CHECKING:
    from gpt_lightning.data.documents.register import Reading
    from gpt_lightning.data.statistics import Contents
    from gpt_lightning.tokenizers import Tokenizer


def prepare(settings: Settings) -> None:
    """Construit la base de jetons de `data` avec `tokenizer`, et montre ce qu'elle contient."""
    from gpt_lightning.data import statistics
    from gpt_lightning.data.text import SlidingWindowDataModule

    data = defaults.follow(settings, open_corpus)
    print(data.summary)
    if not isinstance(data, SlidingWindowDataModule):
        return
    for source in data.sources:
        print(_readings(source.register.settled), end="")
    contents = statistics.compute(data)
    print(_tokens(contents, data.statistics.characters, data.tokenizer))
    if settings["output_dir"]:
        for path in statistics.render(contents, Path(settings["output_dir"])):
            print(path)


def open_corpus(settings: Settings) -> DataModule:
    """Lit et encode le corpus de `data`. Unfit si un réglage ne lui va pas."""
    checks.data("data", settings["data"])
    data = find_data(settings["data"], settings["tokenizer"])
    prepare_data(data)
    return data


def _readings(readings: "Mapping[str, Reading]") -> str:
    """Ce qui a été lu de chaque fichier : combien, la première ligne et la dernière."""
    return "".join(
        f"Lu         : {where}, {reading.size}\n"
        f"             début « {reading.first} »\n"
        f"             fin   « {reading.last} »\n"
        for where, reading in readings.items()
    )


def _tokens(contents: "Contents", characters: int, tokenizer: "Tokenizer", most: int = 10) -> str:
    """Les jetons d'une base : combien par caractère, et les plus fréquents."""
    total, used = int(contents.counts.sum()), int((contents.counts > 0).sum())
    frequent = sorted(range(len(contents.counts)), key=lambda i: -contents.counts[i])[:most]
    listed = ", ".join(f"{tokenizer.decode([i])!r} {percent(contents.counts[i] / total)}" for i in frequent)
    return (
        f"Jetons     : {number(total)}, soit {number(total / characters, 3)} par caractère ; "
        f"vocabulaire employé {number(used)} sur {number(len(contents.counts))}\n"
        f"             les plus fréquents : {listed}"
    )


def main() -> None:
    """La commande : compose conf/prepare.yaml, puis appelle `prepare`."""
    cli.run(prepare, "prepare", ineffective=ineffective.TABLE)
