"""Le corpus d'une commande : construit d'après `data`, puis lu et encodé si besoin, son avancement dit."""

from collections.abc import Mapping
from typing import Any

from gpt_lightning import messages
from gpt_lightning.cli import console, processes
from gpt_lightning.cli.targets import build


def unread(settings: Mapping[str, Any], **options: Any) -> Any:
    """Le module de données de `data` et le tokenizer de `tokenizer`, s'il y en a un : vérifiés, rien n'est lu."""
    tokenizer = build("tokenizer", settings["tokenizer"]) if "tokenizer" in settings else None
    data = build(
        "data",
        settings["data"],
        tokenizer=tokenizer,
        report=lambda path: console.log.info(messages.building(path)),
        progress=console.Progress(messages.encoding),
        **options,
    )
    if left_out := data.find():
        console.log.info(messages.left_out(left_out))
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
