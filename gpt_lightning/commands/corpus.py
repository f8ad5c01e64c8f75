"""Le corpus d'une commande : construit d'après `data`, encodé si besoin, son avancement dit."""

from typing import Any

from gpt_lightning import messages
from gpt_lightning.cli import console
from gpt_lightning.cli.targets import build


def prepared(settings: dict[str, Any], tokenizer: Any = None, **options: Any) -> Any:
    """Le module de données de `data`, prêt à servir ; sans `tokenizer`, c'est celui que `tokenizer` décrit."""
    data = build(
        "data",
        settings["data"],
        tokenizer=tokenizer or build("tokenizer", settings["tokenizer"]),
        report=lambda path: console.log.info(messages.building(path)),
        progress=console.Progress(messages.encoding),
        **options,
    )
    data.prepare()
    return data
