"""Le tableau de docs/mesurer.md : les tâches d'ici, pour des modèles, à côté de méthodes sans réseau de neurones.

.venv-evals/bin/python benchmarks/tasks.py outputs/2026-11-28/10-00-00 modele.gguf [--limit 100]
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable

from gpt_lightning.data.corpus import shuffled_glosses
from gpt_lightning.data.quiz import QUIZZES, Question, is_held_out, questions
from gpt_lightning.harness.adapter import HarnessModel
from gpt_lightning.harness.measure import find_tasks, measure, rows
from gpt_lightning.weights import load_for_inference

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


def main() -> None:
    """Écrit le tableau en Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    names = list(QUIZZES)
    items = {name: questions(name)[0][: asked.limit] for name in names}
    columns = ["glose_mot", "glose_mot, par caractère", "mot_glose", "mot_glose, par caractère", "h_aspire"]
    print(f"| | {' | '.join(columns)} | s pour 1 000 |\n|---|{'---|' * (len(columns) + 1)}", flush=True)
    for name, accuracy in baselines().items():
        cells = {task: cell(accuracy(items[task]), len(items[task])) for task in names}
        row = [cells["glose_mot"], "", cells["mot_glose"], "", cells["h_aspire"], ""]
        print(f"| {name} | {' | '.join(row)} |", flush=True)
    catalogue = find_tasks(names)
    for source in asked.models:
        loaded, began = load_for_inference(source), time.monotonic()
        model = HarnessModel(loaded.model, loaded.tokenizer)
        found = {
            (row.task, row.metric): row.value
            for row in rows(measure(model, names, catalogue, limit=asked.limit))
        }
        per_thousand = (
            1000 * (time.monotonic() - began) / sum(len(q.choices) for n in names for q in items[n])
        )
        keys = [(task, metric) for task in names for metric in ("acc", "acc_norm") if (task, metric) in found]
        row = [cell(found[key], len(items[key[0]])) for key in keys]
        print(f"| {source} | {' | '.join(row)} | {per_thousand:.1f} |".replace(".", ",", 0), flush=True)


if __name__ == "__main__":
    main()
