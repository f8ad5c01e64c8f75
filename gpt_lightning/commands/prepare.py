"""Encoder un corpus d'avance : `python -m gpt_lightning prepare data=text data.path=mon_texte.txt`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning import cli
from gpt_lightning.cli import defaults
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.corpus import DataModule, find_data, prepare_data, sorting_line
from gpt_lightning.errors import UserError, choice
from gpt_lightning.training import checks
from gpt_lightning.typing import Settings
from gpt_lightning.wording import magnitude, number, percent

if TYPE_CHECKING:
    from gpt_lightning.data.documents.register import Reading
    from gpt_lightning.data.statistics import Contents
    from gpt_lightning.data.windowed import WindowModule


def prepare(settings: Settings) -> None:
    """Construit la base de jetons de `data` avec `tokenizer`, et montre ce qu'elle contient."""
    from gpt_lightning.data import statistics
    from gpt_lightning.data.shards import writing
    from gpt_lightning.data.windowed import WindowModule

    choice("format", settings["format"], (None, "bin"))
    choice("index", settings["index"], (True, False))
    if settings["format"]:
        writing.check_target(settings["to"], settings["shard_tokens"])
    data = defaults.follow(settings, open_corpus)
    print(data.summary)
    if settings["index"]:
        print(_index(data))
    if not isinstance(data, WindowModule):
        return
    print(_readings(data.readings), end="")
    contents = statistics.compute(data)
    print(_tokens(contents, data))
    if settings["output_dir"]:
        for path in statistics.render(contents, Path(settings["output_dir"])):
            print(path)
    if settings["format"]:
        print(_write(data, Path(settings["to"]), settings["shard_tokens"]))


def open_corpus(settings: Settings) -> DataModule:
    """Lit et encode le corpus de `data`. Unfit si un réglage ne lui va pas."""
    from gpt_lightning.data.windowed import WindowModule

    checks.data("data", settings["data"])
    data = find_data(settings["data"], settings["tokenizer"])
    if settings["format"] and not isinstance(data, WindowModule):
        raise UserError(
            "format=bin écrit un texte en jetons : data=text data.path=mon_texte.txt, par exemple."
        )
    prepare_data(data)
    return data


def _index(data: DataModule) -> str:
    """Construit l'index de suffixes du corpus ; la phrase de ce qui est construit."""
    traced = data.open_index(sorting_line())
    assert traced is not None  # construit s'il n'existait pas
    words, size = len(traced.suffixes.ids), data.index_path.stat().st_size
    return (
        f"Index      : {number(words)} mots, {magnitude(size, 'o')}, dans {data.index_path}\n"
        f"             la part copiée compte les passages d'au moins {number(traced.least)} mots ; la validation en a "
        f"{percent(traced.reference)}"
    )


def _write(data: "WindowModule", to: Path, shard_tokens: int) -> str:
    """Écrit le corpus en fragments ; la phrase de ce qui est écrit, et comment le relire."""
    from gpt_lightning.data.shards import writing

    names = writing.write_shards(data, to, shard_tokens)
    plural = "s" * (len(names) > 1)
    return (
        f"Fragments  : {number(len(names))} fichier{plural} dans {to}, de {names[0]} à {names[-1]} ; "
        f"data=shards data.path={to} les lit"
    )


def _readings(readings: "Mapping[str, Reading]") -> str:
    """Ce qui a été lu de chaque fichier : combien, la première ligne et la dernière."""
    return "".join(
        f"Lu         : {where}, {reading.size}\n"
        f"             début « {reading.first} »\n"
        f"             fin   « {reading.last} »\n"
        for where, reading in readings.items()
    )


def _tokens(contents: "Contents", data: "WindowModule", most: int = 10) -> str:
    """Les jetons d'une base : combien par caractère, ou d'octets par jeton, et les plus fréquents."""
    tokenizer, characters = data.tokenizer, data.statistics.characters
    total, used = int(contents.counts.sum()), int((contents.counts > 0).sum())
    frequent = sorted(range(len(contents.counts)), key=lambda i: -contents.counts[i])[:most]
    if not characters:  # des fragments : leur texte n'est pas là
        rate = f"{number(sum(map(data.base.n_bytes, ('train', 'val'))) / total, 3)} octets par jeton"
    else:
        rate = f"{number(total / characters, 3)} par caractère"
    listed = ", ".join(f"{tokenizer.decode([i])!r} {percent(contents.counts[i] / total)}" for i in frequent)
    return (
        f"Jetons     : {number(total)}, soit {rate} ; "
        f"vocabulaire employé {number(used)} sur {number(len(contents.counts))}\n"
        f"             les plus fréquents : {listed}"
    )


def main() -> None:
    """La commande : compose conf/prepare.yaml, puis appelle `prepare`."""
    cli.run(prepare, "prepare", ineffective=ineffective.TABLE)
