"""Le corpus d'une commande : construit d'après `data`, puis lu et encodé si besoin, son avancement dit."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_lightning.cli import console, processes
from gpt_lightning.cli.targets import build
from gpt_lightning.wording import number


def build_data(
    node: Mapping[str, Any], tokenizer: Mapping[str, Any] | None = None, *, accumulate: int = 1
) -> Any:
    """Le module de données de `node`, et son tokenizer s'il y en a un : vérifiés, rien n'est lu."""
    data = build(
        "data",
        node,
        tokenizer=None if tokenizer is None else build("tokenizer", tokenizer),
        report=lambda path: console.log.info(
            f"Base       : le texte, le tokenizer ou le découpage est nouveau, les jetons sont écrits dans {path}"
        ),
        progress=console.ProgressLine(_encoding),
        accumulate=accumulate,
    )
    if left_out := data.find():
        console.log.info(_left_out(left_out))
    return data


def prepare_data(data: Any, tokenizer: Any = None, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Lit et encode le corpus : `data` est prêt à servir. `tokenizer` et `labels` sont ceux des poids de départ.

    Un seul processus par machine le fait ; rend ce que les autres reçoivent, en valeurs simples.
    """
    shared = processes.once_per_machine(lambda: data.prepare(tokenizer, labels) and data.prepared_state())
    if data.store is None:
        data.adopt(shared, labels)
    return shared


def _left_out(files: Sequence[tuple[Any, str]]) -> str:
    """Les fichiers d'un dossier qui ne sont pas lus, comptés par raison, et le premier."""
    counted = Counter(reason for _, reason in files).most_common()
    listed = ", ".join(f"{reason} × {n}" for reason, n in counted)
    plural = "s" * (len(files) > 1)
    return f"Corpus     : {number(len(files))} laissé{plural} de côté ({listed}), dont {files[0][0]}"


def _encoding(characters: int, seconds: float) -> str:
    """Où en est l'écriture d'une base de jetons."""
    millions = characters / 1e6
    speed = number(millions / seconds, 1)
    return f"             {number(millions)} M de caractères encodés, {speed} M/s"
