"""Le tableau de docs/mesurer.md : les tâches d'ici, pour des modèles, à côté de méthodes sans réseau de neurones.

.venv-evals/bin/python benchmarks/tasks.py outputs/2026-11-28/10-00-00 modele.gguf [--limit 100]
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pydoc_data.topics import topics

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from gpt_lightning.data.corpus import shuffled_glosses
from gpt_lightning.data.quiz import ITEMS, QUIZZES, Question, is_held_out, questions
from gpt_lightning.harness.adapter import HarnessModel
from gpt_lightning.harness.measure import find_tasks, load_tasks, measure, rows
from gpt_lightning.harness.request import TEXT
from gpt_lightning.weights import load_for_inference
from gpt_lightning.wording import number as decimal

ORDER, WORDS = 5, 60_000  # caractères d'un n-gramme ; mots lus
Score = Callable[[Question, str], float]


def ngram() -> Score:
    """La log-probabilité d'une réponse, par un modèle de caractères : les n-grammes des définitions d'entraînement."""
    counts: Counter[str] = Counter()
    lines = [line for line in shuffled_glosses(WORDS) if not is_held_out(line.partition("\t")[0])]
    for line in lines:
        text = "\n" + line.replace("\t", " : ")
        for size in range(ORDER + 1):
            counts.update(text[start : start + size] for start in range(len(text) - size + 1))

    def score(question: Question, choice: str) -> float:
        text, total = f"\n{question.question} {choice}", 0.0
        for place in range(len(text) - len(choice), len(text)):
            share = 1e-6
            for size in range(1, ORDER + 1):  # chaque ordre corrige le précédent, autant qu'il a été vu
                before = counts[text[max(0, place - size + 1) : place]]
                seen = counts[text[max(0, place - size + 1) : place + 1]]
                share = (seen + 5 * share) / (before + 5)
            total += math.log(share)
        return total

    return score


def baselines() -> dict[str, Callable[[list[Question]], float]]:
    """Ce qui répond sans modèle : la place la plus fréquente, la réponse la plus longue, les n-grammes."""
    score = ngram()

    def share(pick: Callable[[Question], int]) -> Callable[[list[Question]], float]:
        return lambda items: sum(pick(item) == item.answer for item in items) / len(items)

    def best(values: list[float]) -> int:
        return values.index(max(values))

    return {
        "la place la plus fréquente": lambda items: (
            max(Counter(item.answer for item in items).values()) / len(items)
        ),
        "la plus longue": share(lambda item: best([len(choice) for choice in item.choices])),
        "n-grammes": share(lambda item: best([score(item, choice) for choice in item.choices])),
        "n-grammes, par caractère": share(
            lambda item: best([score(item, choice) / len(choice) for choice in item.choices])
        ),
    }


def cell(value: float, count: int) -> str:
    """Une exactitude et son intervalle à 95 %, en points."""
    spread = 1.96 * math.sqrt(value * (1 - value) / count)
    return f"{100 * value:.1f} ± {100 * spread:.1f}".replace(".", ",")


def texts() -> dict[str, str]:
    """Ce dont mot_suivant devine un mot : des définitions de la validation, et de l'anglais."""
    lines = (line for line in shuffled_glosses(WORDS) if is_held_out(line.partition("\t")[0]))
    return {
        "dictionnaire": "\n".join(line.replace("\t", " : ") for line in lines),
        "anglais": "\n".join(topics.values()),
    }


def scores(model: LM, limit: int | None) -> tuple[dict[tuple[str, str], float], int]:
    """L'exactitude de ce modèle aux tâches d'ici, et le nombre de demandes ; mot_suivant une fois par texte."""
    values, count = {}, 0
    for name, text in {"": "", **texts()}.items():
        names = [TEXT] if text else list(QUIZZES)
        results = measure(model, load_tasks(names, find_tasks(names, text)), limit=limit, resamples=0)
        values |= {(name or row.task, row.metric): row.value for row in rows(results)}
        count += sum(
            items["effective"] * (1 if text else len(questions(task)[0][0].choices))
            for task, items in results["n-samples"].items()
        )
    return values, count


def oracle(source: str, limit: int | None) -> tuple[float, float]:
    """Les secondes du modèle de lm-eval pour transformers, sur l'export de ce modèle, et le plus grand écart au nôtre
    d'une log-probabilité."""
    from lm_eval.models.huggingface import HFLM

    loaded = load_for_inference(source)
    with tempfile.TemporaryDirectory() as folder:
        made = [answer for items in map(questions, QUIZZES) for answer in items[0][:limit]]
        asked = [
            Instance("loglikelihood", {}, (item.question, f"{' ' * bool(item.question)}{choice}"), rank)
            for item in made
            for rank, choice in enumerate(item.choices)
        ]
        subprocess.run([sys.executable, "-m", "gpt_lightning", "export", f"ckpt_path={source}", "format=hf",
                        f"to={folder}/hf"], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        theirs = HFLM(pretrained=f"{folder}/hf", batch_size=16, device="cpu", dtype="float32")
        ours = HarnessModel(loaded.model, loaded.tokenizer)
        mine = ours.loglikelihood(asked, disable_tqdm=True)
        began = time.monotonic()
        other = theirs.loglikelihood(asked, disable_tqdm=True)
        seconds = time.monotonic() - began
    return 1000 * seconds / len(asked), max(abs(a - b) for (a, _), (b, _) in zip(mine, other, strict=True))


def main() -> None:
    """Écrit le tableau en Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--limit", type=int)
    parser.add_argument(
        "--oracle", action="store_true", help="mesurer aussi le modèle de lm-eval sur notre export"
    )
    asked = parser.parse_args()
    names = list(QUIZZES)
    items = {name: questions(name)[0][: asked.limit] for name in names}
    columns = [
        "glose_mot",
        "par caractère",
        "mot_glose",
        "par caractère",
        "h_aspire",
        "mot_suivant",
        "en anglais",
    ]
    print(f"| | {' | '.join(columns)} | s pour 1 000 |\n|---|{'---|' * (len(columns) + 1)}", flush=True)
    for name, accuracy in baselines().items():
        cells = [cell(accuracy(items[task]), len(items[task])) for task in names]
        print(f"| {name} | {cells[0]} | | {cells[1]} | | {cells[2]} | | | |", flush=True)
    keys = [(task, metric) for task in names[:2] for metric in ("acc", "acc_norm")]
    keys += [(task, "acc") for task in (names[2], *texts())]
    for source in asked.models:
        loaded, began = load_for_inference(source), time.monotonic()
        values, count = scores(HarnessModel(loaded.model, loaded.tokenizer), asked.limit)
        per_thousand = 1000 * (time.monotonic() - began) / count
        row = [cell(values[key], asked.limit or ITEMS) for key in keys]
        print(f"| {source} | {' | '.join(row)} | {decimal(per_thousand, 1)} |", flush=True)
        if asked.oracle:
            seconds, apart = oracle(source, asked.limit)
            print(
                f"lm-eval (hf) : {decimal(seconds, 1)} s pour 1 000 ; plus grand écart {apart:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
