"""Montrer et effacer les corpus encodés : `python -m gpt_lightning cache clear=older=30d`."""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpt_lightning import cli, durable
from gpt_lightning.data import cache as kept_corpora
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number


def cache(settings: Settings) -> None:
    """Montre les bases de jetons et les index gardés, ou efface celles que `clear` désigne."""
    place = settings["cache_dir"]
    folder = Path(os.path.expanduser(place)) if place else durable.cache_folder()
    bases = kept_corpora.list_stores(folder)
    if settings["clear"] is None:
        print(_table(bases, folder))
        return
    chosen = kept_corpora.choose(bases, settings["clear"])
    erased = {base.folder for base in chosen if kept_corpora.erase(base)}
    for base in chosen:
        if base.folder not in erased:
            print(f"{base.folder} reste : une commande s'en sert.")
    megabytes = number(sum(base.size for base in chosen if base.folder in erased) / 1e6, 1)
    print(f"{_what(base.is_index for base in chosen if base.folder in erased)} : {megabytes} Mo.")


def _what(indexes: Iterable[bool]) -> str:
    """« 2 bases et 1 index effacés » : les index sont vrais."""
    several = list(indexes)
    bases, made = several.count(False), several.count(True)
    plural = "s" * (len(several) > 1)
    if not made:
        return f"{number(bases)} base{plural} effacée{plural}"
    some = f"{number(bases)} base{'s' * (bases > 1)} et " if bases else ""
    return f"{some}{number(made)} index effacé{plural}"


def _table(bases: Sequence[kept_corpora.Stored], folder: Path) -> str:
    """Une ligne par base : son numéro, son corpus, son tokenizer, sa taille, sa dernière lecture."""
    if not bases:
        return f"{folder} ne contient aucune base de jetons."
    rows = [("", "corpus", "tokenizer", "Mo", "dernière lecture")]
    for rank, base in enumerate(bases, 1):
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(base.used))
        rows.append((str(rank), base.corpus, base.tokenizer, number(base.size / 1e6, 1), used))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    total = number(sum(base.size for base in bases) / 1e6, 1)
    return "\n".join(
        [*lines, f"{folder} : {total} Mo ; clear=all, clear=<numéro> ou clear=older=30d en efface."]
    )


def main() -> None:
    """La commande : compose conf/cache.yaml, puis appelle `cache`."""
    cli.run(cache, "cache", sweeps=False)
