"""De quoi juger une classification : ce que donnent, sur les mêmes textes, deux méthodes sans réseau."""

import warnings
from collections.abc import Sequence

import torch

from gpt_lightning.model.confusion import ClassReport, confusion, most_frequent
from gpt_lightning.wording import number, percent

FEW_WORDS = 3  # mots par texte : en deçà, ce sont leurs lettres qui disent quelque chose


def baselines(
    train: Sequence[tuple[str, str]], val: Sequence[tuple[str, str]], labels: Sequence[str]
) -> list[tuple[str, str]]:
    """(nom, ce qu'elle donne sur `val`) de chaque méthode ; train et val sont des couples (texte, étiquette)."""
    ranks = {label: rank for rank, label in enumerate(labels)}
    learned, expected = (torch.tensor([ranks[label] for _, label in part]) for part in (train, val))
    counts = torch.bincount(learned, minlength=len(labels))
    usual = most_frequent(counts, confusion(expected, expected, len(labels)))
    reports = [(f"toujours « {labels[int(counts.argmax())]} »", usual)]
    has_several = len(set(learned.tolist())) > 1
    guesses = has_several and tfidf([text for text, _ in train], learned.tolist(), [text for text, _ in val])
    if guesses is False:
        missing = [("TF-IDF et régression", "une seule étiquette à apprendre")]
    elif guesses is None:
        missing = [
            ("TF-IDF et régression", "demande scikit-learn : pip install -c constraints.txt -e '.[baseline]'")
        ]
    else:
        report = ClassReport(confusion(expected, torch.tensor(guesses), len(labels)))
        reports, missing = [*reports, ("TF-IDF et régression", report)], []
    return [(name, quality(report.accuracy, report.macro_f1)) for name, report in reports] + missing


def tfidf(texts: Sequence[str], labels: Sequence[int], others: Sequence[str]) -> list[int] | None:
    """Les étiquettes qu'une régression logistique sur TF-IDF, qui apprend `labels`, donne à `others`.

    Elle lit un ou deux mots de suite, ou de deux à cinq lettres si les textes sont très courts. None sans scikit-learn.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        return None
    short = sum(len(text.split()) for text in texts) < FEW_WORDS * len(texts)
    how = {"analyzer": "char_wb", "ngram_range": (2, 5)} if short else {"ngram_range": (1, 2)}
    vectorizer, model = TfidfVectorizer(sublinear_tf=True, **how), LogisticRegression(max_iter=300, C=10.0)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # que des mots vides
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    return model.predict(vectorizer.transform(others)).tolist()


def quality(accuracy: float, f1: float) -> str:
    """Ce que vaut une classification, en une phrase."""
    return f"{percent(accuracy)} ; F1 moyen {number(f1, 3)}"
