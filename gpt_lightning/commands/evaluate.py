"""Mesurer un modèle : `python -m gpt_lightning evaluate ckpt_path=best data=text data.path=texte.txt`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt_lightning import cli
from gpt_lightning.cli import console, defaults
from gpt_lightning.commands import ineffective, tasks
from gpt_lightning.commands.corpus import DataModule, build_data, find_data, prepare_data, sorting_line
from gpt_lightning.errors import UserError, choice
from gpt_lightning.harness import request
from gpt_lightning.training import checks
from gpt_lightning.typing import Settings
from gpt_lightning.wording import class_table, duration, number, percent

if TYPE_CHECKING:
    from gpt_lightning.model.confusion import ClassReport
    from gpt_lightning.model.score import Score
    from gpt_lightning.weights.inference import Inference

SPLITS = ("val", "train", "all")


def evaluate(settings: Settings) -> float:
    """Écrit la perte, la perplexité et les bits par octet du modèle de `ckpt_path` sur `data` ; renvoie la perte."""
    choice("split", settings["split"], SPLITS)
    names = None if settings["tasks"] is None else tasks.check(settings)

    from gpt_lightning.model.confusion import ClassReport
    from gpt_lightning.model.score import LabelScore
    from gpt_lightning.model.tasks import TASKS, compatible_tasks
    from gpt_lightning.weights import load_for_inference

    options = {key: settings[key] for key in ("n_heads", "device", "dtype", "threads")}
    if names is not None and request.TEXT not in names:  # le corpus n'est pas lu
        loaded = load_for_inference(settings["ckpt_path"], base=settings["base_path"], **options)
        return tasks.measure_tasks(settings, names, loaded, None)
    settings, task = defaults.follow(settings, judge)
    loaded = load_for_inference(
        settings["ckpt_path"], tasks=compatible_tasks(task), base=settings["base_path"], **options
    )
    settings = {**settings, "data": checks.in_template(settings["data"], loaded)}
    data = defaults.follow(settings, lambda values: open_corpus(values, loaded))
    if data.tokenizer.vocab_size > loaded.model.config.vocab_size:
        template = getattr(data, "template_name", "")  # d'un module de conversations
        raise UserError(
            f"{loaded.source} n'a pas les jetons du gabarit {template} : essayez data.template=texte."
        )
    if names is not None:
        return tasks.measure_tasks(settings, names, loaded, data)
    where = f"{data.name}, {settings['split']}"
    splits = ("train", "val") if settings["split"] == "all" else (settings["split"],)
    score = TASKS[data.task].evaluate(loaded.model, data, splits, console.ProgressLine(_progress_line))
    if isinstance(score, LabelScore):
        print(_labels_result(loaded.source, where, score.loss, ClassReport(score.counts), data.labels))
    else:
        print(_text_result(loaded.source, where, score))
        print(f"Part copiée      {_copied_share(loaded, data)}")
    return score.loss


def judge(settings: Settings) -> tuple[Settings, str]:
    """Ces réglages, et la tâche du corpus que `data` demande, jugés avant que rien ne soit lu."""
    checks.data("data", settings["data"])
    return settings, find_data(settings["data"]).task


def open_corpus(settings: Settings, loaded: "Inference") -> DataModule:
    """Lit le corpus, en fenêtres que le modèle de `loaded` peut lire. Unfit si un réglage ne va pas à l'un des deux."""
    checks.check_window(settings["data"]["max_length"], loaded.model.config.context_length)
    checks.data("data", settings["data"])
    data = build_data(settings["data"])
    prepare_data(data, loaded.tokenizer, loaded.labels)
    return data


def _text_result(source: str, corpus: str, score: "Score") -> str:
    """Le résultat d'une évaluation."""
    return (
        f"Modèle           {source}\n"
        f"Corpus           {corpus}\n"
        f"Perte            {number(score.loss, 4)} nats par jeton\n"
        f"Perplexité       {number(score.perplexity, 2)}\n"
        f"Bits par octet   {number(score.bits_per_byte, 4)}\n"
        f"Jetons prédits   {number(score.tokens)}, pour {number(score.bytes)} octets"
    )


def _copied_share(loaded: "Inference", data: DataModule) -> str:
    """La part copiée de ce que le modèle écrit, et celle de la validation ; ou pourquoi elle n'est pas mesurée."""
    from gpt_lightning.training import copied

    if data.identity != loaded.corpus:
        return "non mesurée : ce corpus n'est pas celui que le modèle a appris"
    try:
        traced = copied.open_index(data, sorting_line())
    except UserError as error:
        return f"non mesurée : {error}"
    share = traced.share(copied.sample_texts(loaded.model, data))
    return (
        f"{percent(share)} de ce qu'il écrit, {percent(traced.reference)} de la validation "
        f"(passages d'au moins {number(traced.least)} mots)"
    )


def _labels_result(
    source: str, corpus: str, loss: float, report: "ClassReport", labels: Sequence[str]
) -> str:
    """Le résultat de l'évaluation d'une classification."""
    return (
        f"Modèle           {source}\n"
        f"Corpus           {corpus}\n"
        f"Perte            {number(loss, 4)} nats par texte\n"
        f"Exactitude       {percent(report.accuracy)} de {number(int(report.counts.sum()))} textes\n"
        f"F1 moyen         {number(report.macro_f1, 4)}\n"
        f"{class_table(report, labels)}"
    )


def _progress_line(done: int, total: int, seconds: float) -> str:
    """La phrase qui dit où en est une évaluation."""
    left = duration(seconds / done * (total - done))
    return f"{number(done)} jetons sur {number(total)}, {number(done / seconds)} jetons/s, reste {left}"


def main() -> None:
    """La commande : compose conf/evaluate.yaml, avec le corpus de l'exécution, puis appelle `evaluate`."""
    cli.run(evaluate, "evaluate", inherits="data", ineffective=ineffective.TABLE)
