"""Ce qu'a appris un modèle instruit sur le dictionnaire : `python benchmarks/instruct.py CHECKPOINT ...`.

Cent questions de définition sur des mots que ni le pré-entraînement ni l'instruction n'ont vus, posées en greedy, ou
comme chat les pose (--nucleus) : combien de réponses finissent d'elles-mêmes, sont bien faites, diffèrent. Et la perte
de la vraie réponse, après sa question, puis après celle d'un autre mot.
"""

import argparse
import statistics

import numpy as np

from gpt_lightning.data.dictionary import DEFINE, definitions, is_well_formed
from gpt_lightning.data.padded import AnswerDataset, EncodedConversation
from gpt_lightning.data.split import fraction
from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.model.score import score_answers
from gpt_lightning.tokenizers.template import Message, Template
from gpt_lightning.weights import load_for_inference

STARTS = tuple(wording.partition("{}")[0] for wording in DEFINE)


def held_out_pairs(count: int, limit: int, train_split: float) -> list[tuple[str, str]]:
    """Les `count` premières questions de définition de la validation, et leur vraie réponse."""
    pairs = []
    for conversation in definitions(limit):
        question, answer = (message.content for message in conversation.messages)
        if question.startswith(STARTS) and fraction(conversation.key, "split") >= train_split:
            pairs.append((question, answer))
    return pairs[:count]


def loss(model, template: Template, pairs: list[tuple[str, str]]) -> float:
    """La perte moyenne des réponses, en nats par jeton appris."""
    rows = []
    for question, answer in pairs:
        ids, mask = template.render([Message("user", question), Message("assistant", answer)])
        size = model.config.context_length + 1
        rows.append(EncodedConversation(np.array(ids[:size]), np.array(mask[:size])))
    data = AnswerDataset(rows)
    return score_answers(model, [data.batch([index]) for index in range(len(data))], 1).loss


def measure(
    source: str, pairs: list[tuple[str, str]], strategy: Strategy
) -> tuple[dict[str, float], list[str]]:
    loaded = load_for_inference(source, tasks=("instruct",))
    template = Template(loaded.template, loaded.tokenizer)
    stream = TextStream(
        loaded.model,
        loaded.tokenizer,
        [question for question, _ in pairs],
        ids=[template.opening([Message("user", question)]) for question, _ in pairs],
        strategy=strategy,
        seed=1,
        max_new_tokens=120,
        stop=template.stop,
    )
    for _ in stream:
        pass
    answers = [row.text for row in stream.rows]
    moved = [
        (question, answer) for (question, _), (_, answer) in zip(pairs[1:] + pairs[:1], pairs, strict=True)
    ]
    fine = [row.reason in ("eos", "stop") and is_well_formed(row.text) for row in stream.rows]
    measures = {
        "finies et bien faites": sum(fine),
        "différentes": len(set(answers)),
        "perte après sa question": loss(loaded.model, template, pairs),
        "après une autre": loss(loaded.model, template, moved),
    }
    return measures, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--limit", type=int, default=30000)
    parser.add_argument("--show", type=int, default=12, help="réponses du premier à écrire")
    parser.add_argument("--nucleus", action="store_true")
    arguments = parser.parse_args()
    strategy = Strategy(temperature=0.8, top_p=0.9) if arguments.nucleus else Strategy(temperature=0)
    pairs = held_out_pairs(arguments.count, arguments.limit, 0.9)
    results = []
    for rank, source in enumerate(arguments.checkpoints):
        measures, answers = measure(source, pairs, strategy)
        results.append(measures)
        print(source, {name: round(value, 3) for name, value in measures.items()}, flush=True)
        if rank == 0:
            for (question, true), answer in list(zip(pairs, answers, strict=True))[: arguments.show]:
                print(f"  {question}\n    il répond : {answer}\n    le dictionnaire : {true}")
    gaps = [measures["après une autre"] - measures["perte après sa question"] for measures in results]
    own = [measures["perte après sa question"] for measures in results]
    spread = max(own) - min(own)
    print(
        f"écart {statistics.mean(gaps):.3f} ({min(gaps):.3f} à {max(gaps):.3f}) ; étendue des graines {spread:.3f}"
    )


if __name__ == "__main__":
    main()
