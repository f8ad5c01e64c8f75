"""De quoi juger un classement : ce que donnent, sur les mêmes textes, deux méthodes sans réseau."""

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
    known, wanted = (torch.tensor([ranks[label] for _, label in part]) for part in (train, val))
    counts = torch.bincount(known, minlength=len(labels))
    usual = most_frequent(counts, confusion(wanted, wanted, len(labels)))
    found = [(f"toujours « {labels[int(counts.argmax())]} »", usual)]
    several = len(set(known.tolist())) > 1
    given = several and tfidf([text for text, _ in train], known.tolist(), [text for text, _ in val])
    if given is False:
        missing = [("TF-IDF et régression", "une seule étiquette à apprendre")]
    elif given is None:
        missing = [
            ("TF-IDF et régression", "demande scikit-learn : pip install -c constraints.txt -e '.[baseline]'")
        ]
    else:
        report = ClassReport(confusion(wanted, torch.tensor(given), len(labels)))
        found, missing = [*found, ("TF-IDF et régression", report)], []
    return [(name, quality(one.accuracy, one.macro_f1)) for name, one in found] + missing


def tfidf(texts: Sequence[str], known: Sequence[int], others: Sequence[str]) -> list[int] | None:
    """Les étiquettes qu'une régression logistique sur TF-IDF donne à `others` ; None sans scikit-learn.

    Un ou deux mots de suite, ou de deux à cinq lettres si les textes sont très courts.
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
        model.fit(features, known)
    return model.predict(vectorizer.transform(others)).tolist()


def quality(accuracy: float, f1: float) -> str:
    """Ce qu'un classement vaut."""
    return f"{percent(accuracy)} ; F1 moyen {number(f1, 3)}"
