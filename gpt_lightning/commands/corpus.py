"""Le corpus d'une commande : construit d'après `data`, puis lu et encodé si besoin, son avancement dit."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_lightning import wording
from gpt_lightning.cli import console, processes
from gpt_lightning.cli.targets import build


def unread(settings: Mapping[str, Any], **options: Any) -> Any:
    """Le module de données de `data` et le tokenizer de `tokenizer`, s'il y en a un : vérifiés, rien n'est lu."""
    tokenizer = build("tokenizer", settings["tokenizer"]) if "tokenizer" in settings else None
    data = build(
        "data",
        settings["data"],
        tokenizer=tokenizer,
        report=lambda path: console.log.info(
            f"Base       : le texte, le tokenizer ou le découpage est nouveau, les jetons sont écrits dans {path}"
        ),
        progress=console.Progress(_encoding),
        **options,
    )
    if left_out := data.find():
        console.log.info(_left_out(left_out))
    return data


def prepared(data: Any, tokenizer: Any = None) -> dict[str, Any]:
    """Lit et encode le corpus : `data` est prêt à servir. `tokenizer`, s'il est donné, remplace celui de `unread`.

    Un seul processus par machine le fait ; rend ce que les autres reçoivent, en valeurs simples.
    """
    if tokenizer is not None:
        data.tokenizer = tokenizer
    found = processes.once_per_machine(lambda: data.prepare() and data.prepared_state())
    if data.store is None:
        data.adopt(found)
    return found


def _left_out(files: Sequence[tuple[Any, str]]) -> str:
    """Les fichiers d'un dossier qui ne sont pas lus, comptés par raison, et le premier."""
    counted = Counter(reason for _, reason in files).most_common()
    listed = ", ".join(f"{reason} × {n}" for reason, n in counted)
    return (
        f"Corpus     : {wording.number(len(files))} laissé{'s' * (len(files) > 1)} de côté ({listed}), dont "
        f"{files[0][0]}"
    )


def _encoding(characters: int, seconds: float) -> str:
    """Où en est l'écriture d'une base de jetons."""
    millions = characters / 1e6
    return (
        f"             {wording.number(millions)} M de caractères encodés, "
        f"{wording.number(millions / seconds, 1)} M/s"
    )
