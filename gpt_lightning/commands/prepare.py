"""Encoder un corpus d'avance : `python -m gpt_lightning prepare data=text data.path=mon_texte.txt`."""

from pathlib import Path
from typing import Any

from gpt_lightning import cli
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.corpus import build_data, prepare_data
from gpt_lightning.wording import number


def prepare(settings: dict[str, Any]) -> None:
    """Construit la base de jetons de `data` avec `tokenizer`, et montre ce qu'elle contient."""
    from gpt_lightning.data import statistics

    data = build_data(settings["data"], settings["tokenizer"])
    prepare_data(data)
    print(data.summary)
    if not data.streams:
        return
    found = statistics.compute(data)
    print(_tokens(found, data.statistics.characters, data.tokenizer))
    if settings["output_dir"]:
        for path in statistics.render(found, Path(settings["output_dir"])):
            print(path)


def _tokens(contents: Any, characters: int, tokenizer: Any, most: int = 10) -> str:
    """Les jetons d'une base : combien par caractère, et les plus fréquents."""
    total, used = int(contents.counts.sum()), int((contents.counts > 0).sum())
    frequent = sorted(range(len(contents.counts)), key=lambda i: -contents.counts[i])[:most]
    listed = ", ".join(
        f"{tokenizer.decode([i])!r} {100 * contents.counts[i] / total:.1f} %" for i in frequent
    )
    return (
        f"Jetons     : {number(total)}, soit {number(total / characters, 3)} par caractère ; "
        f"vocabulaire employé {number(used)} sur {number(len(contents.counts))}\n"
        f"             les plus fréquents : {listed}"
    )


def main() -> None:
    """La commande : compose conf/prepare.yaml, puis appelle `prepare`."""
    cli.run(prepare, "prepare", ineffective=ineffective.TABLE)
