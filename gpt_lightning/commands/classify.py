"""Classer des textes : `python -m gpt_lightning classify prompt="texte à classer"`."""

from collections.abc import Sequence

from gpt_lightning import cli
from gpt_lightning.cli import console
from gpt_lightning.commands import ineffective, prompts, results
from gpt_lightning.errors import UserError, whole
from gpt_lightning.typing import Settings
from gpt_lightning.wording import number, percent


def classify(settings: Settings) -> None:
    """Écrit l'étiquette de chaque texte, et ce que le modèle donne à chacune : un texte sur stdout, ou des lignes."""
    whole("batch_size", settings["batch_size"])
    prompts.check_sources(settings)
    results.check_table(settings["output"])
    texts = prompts.read_prompts(settings["prompts_file"]) if settings["prompts_file"] else None
    if texts is None and not (prompt := prompts.read_prompt(settings, "").strip()):
        raise UserError("Il manque le texte à classer : prompt=, prompt_file= ou prompts_file=.")

    from gpt_lightning.decoding.classify import classify
    from gpt_lightning.model.tasks import LABELS
    from gpt_lightning.weights import load_for_inference

    where = {key: settings[key] for key in ("n_heads", "device", "dtype", "threads")}
    loaded = load_for_inference(
        settings["ckpt_path"], tasks=(LABELS.name,), base=settings["base_path"], **where
    )
    cut: list[int] = []
    read = [prompt] if texts is None else texts
    size, probabilities = settings["batch_size"], []
    room = loaded.max_length or loaded.model.config.context_length
    progress = console.ProgressLine(results.progress_line)
    for start in range(0, len(read), size):
        part = read[start : start + size]
        probabilities += classify(
            loaded.model, loaded.tokenizer, part, batch_size=size, max_length=room, cut=cut.append
        )
        progress(len(probabilities), len(read))
    if cut:
        console.log.warning(_truncation(len(cut), room))
    shares = [row.tolist() for row in probabilities]
    if texts is None:
        print(_label_shares(loaded.labels, shares[0]))
    else:
        results.write_labels(texts, shares, loaded.labels, output=settings["output"])


def _label_shares(labels: Sequence[str], shares: Sequence[float]) -> str:
    """L'étiquette d'un texte, puis ce que le modèle donne à chacune, de la plus probable à la moins probable."""
    order = sorted(range(len(labels)), key=lambda rank: -shares[rank])
    width = max(len(labels[rank]) for rank in order)
    rows = [f"  {labels[rank]:<{width}}  {percent(shares[rank])}" for rank in order]
    return "\n".join([labels[order[0]], *rows])


def _truncation(count: int, length: int) -> str:
    """La phrase qui compte les textes plus longs que ce que le modèle lit."""
    plural = "s" * (count > 1)
    return (
        f"{number(count)} texte{plural} coupé{plural} à {number(length)} jetons : le modèle "
        "ne lit pas plus loin."
    )


def main() -> None:
    """La commande : compose conf/classify.yaml, puis appelle `classify`."""
    cli.run(classify, "classify", ineffective=ineffective.TABLE)
