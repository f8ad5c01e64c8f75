"""Ce que des étiquettes données valent : la matrice de confusion, et les mesures qui s'en lisent.

Légende des formes : N textes, E étiquettes. La ligne est l'étiquette vraie, la colonne celle qui est donnée.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def confusion(labels: Tensor, given: Tensor, n_labels: int) -> Tensor:
    """Compte les textes de chaque étiquette qui ont reçu chacune : (N,), (N,) -> (E, E), entiers."""
    return torch.bincount(labels * n_labels + given, minlength=n_labels**2).view(n_labels, n_labels)


@dataclass(frozen=True)
class ClassReport:
    """Les mesures d'une matrice de confusion (E, E). Une étiquette jamais donnée, ou absente, a 0."""

    counts: Tensor

    @property
    def accuracy(self) -> float:
        """La part des textes dont l'étiquette est la bonne."""
        return float(self.counts.trace() / self.counts.sum())

    @property
    def precision(self) -> Tensor:
        """La part, parmi les textes qui ont reçu chaque étiquette, de ceux qui l'ont vraiment : (E,)."""
        return self.counts.diagonal() / self.counts.sum(0).clamp(min=1)

    @property
    def recall(self) -> Tensor:
        """La part, parmi les textes qui ont chaque étiquette, de ceux qui l'ont reçue : (E,)."""
        return self.counts.diagonal() / self.counts.sum(1).clamp(min=1)

    @property
    def f1(self) -> Tensor:
        """La moyenne harmonique des deux : (E,)."""
        total = self.counts.sum(0) + self.counts.sum(1)
        return 2 * self.counts.diagonal() / total.clamp(min=1)

    @property
    def macro_f1(self) -> float:
        """La moyenne des F1 des étiquettes qui ont des textes : chacune compte autant, quelle que soit sa taille."""
        return float(self.f1[self.counts.sum(1) > 0].mean())


def most_frequent(train: Tensor, counts: Tensor) -> ClassReport:
    """Ce que donnerait, sur les textes de `counts` (E, E), l'étiquette la plus fréquente de `train` (E,), toujours."""
    guessed = torch.zeros_like(counts)
    guessed[:, int(train.argmax())] = counts.sum(1)
    return ClassReport(guessed)
