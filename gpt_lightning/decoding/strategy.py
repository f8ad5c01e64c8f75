"""La stratégie de décodage : un objet immuable, qui va des logits au jeton suivant.

Légende des formes : R lignes, V vocabulaire, T jetons déjà écrits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt_lightning.decoding import fast, filters
from gpt_lightning.decoding.uniforms import draw
from gpt_lightning.errors import UserError, number, whole

COUNTS = ("top_k", "no_repeat_ngram", "lookup_ngram")
LEAST, MOST = 1e-6, 1e6  # au-delà, diviser des logits en float32 ne donne plus des nombres


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Quels filtres appliquer : ceux qui relisent le texte d'abord, puis les autres, dans l'ordre des champs.

    `num_beams` et `lookup_ngram` ne filtrent rien : ils disent à `stream` comment chercher. Un compte de 0 ou de -1
    est éteint, comme None, et une température presque nulle est 0. UserError sur une valeur absurde, ou sur deux
    valeurs qui ne vont pas ensemble.
    """

    temperature: float = 1.0  # 0 : greedy, le plus probable à chaque pas
    top_k: int | None = None  # None : tous les jetons
    top_p: float | None = None  # None : tout le noyau
    min_p: float | None = None  # None : aucun seuil
    typical_p: float | None = None  # None : les jetons trop ou trop peu attendus restent
    repetition_penalty: float = 1.0  # 1 : se répéter ne coûte rien
    presence_penalty: float = 0.0  # 0 : avoir été écrit ne coûte rien
    frequency_penalty: float = 0.0  # 0 : l'avoir été plusieurs fois non plus
    no_repeat_ngram: int | None = None  # None : une suite de jetons peut revenir
    num_beams: int = 1  # 1 : pas de faisceau
    length_penalty: float = 1.0  # score d'un faisceau : log-probabilité / longueur ** length_penalty
    lookup_ngram: int | None = None  # None : un jeton par passe

    def __post_init__(self) -> None:
        number("decoding.temperature", self.temperature, 0, MOST)
        self._settle()
        number("decoding.repetition_penalty", self.repetition_penalty, LEAST, MOST)
        number("decoding.length_penalty", self.length_penalty, None)
        for name in ("presence_penalty", "frequency_penalty"):
            number(f"decoding.{name}", getattr(self, name), -2, 2)
        whole("decoding.num_beams", self.num_beams)
        for name in COUNTS:
            if getattr(self, name) is not None:
                whole(f"decoding.{name}", getattr(self, name))
        for name in ("top_p", "min_p", "typical_p"):
            if getattr(self, name) is not None:
                number(f"decoding.{name}", getattr(self, name), 0, 1)
        if self.num_beams > 1 and not self.greedy:
            raise UserError(
                f"decoding.num_beams={self.num_beams} cherche sans tirer au sort : ajoutez decoding.temperature=0."
            )
        if self.lookup_ngram is not None and (not self.greedy or self.num_beams > 1):
            raise UserError(
                f"decoding.lookup_ngram={self.lookup_ngram} ne vérifie que le plus probable : "
                f"il faut decoding.temperature=0 et decoding.num_beams=1."
            )

    def _settle(self) -> None:
        if self.temperature < LEAST:  # le plus probable gagnerait toujours
            object.__setattr__(self, "temperature", 0)
        for name in COUNTS:
            count = getattr(self, name)
            if isinstance(count, int) and not isinstance(count, bool) and count in (0, -1):
                object.__setattr__(self, name, None)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def rereads(self) -> bool:
        """Vrai s'il faut lui donner les jetons déjà écrits."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram is not None or self._counts

    @property
    def _counts(self) -> bool:
        return (self.presence_penalty, self.frequency_penalty) != (0, 0)

    def penalise(
        self, logits: Tensor, ids: Tensor | None = None, start: int | Tensor | None = None
    ) -> Tensor:
        """Les logits en float32, ce qui se répète pénalisé : (R, V), (R, T) avec -1 en remplissage -> (R, V).

        Ce que le modèle a écrit commence à la colonne `start` de `ids`, une pour toutes les lignes ou (R, 1).
        """
        logits = logits.float()
        if not self.rereads:
            return logits
        if ids is None:
            raise UserError("Les pénalités de répétition relisent le texte : donnez ses jetons.")
        if self.repetition_penalty != 1:
            logits = filters.penalise_repetitions(logits, ids, self.repetition_penalty)
        if self._counts:
            columns = torch.arange(ids.shape[1], device=ids.device)
            written = ids if start is None else ids.masked_fill(columns < start, -1)
            logits = filters.penalise_counts(logits, written, self.presence_penalty, self.frequency_penalty)
        if self.no_repeat_ngram is not None:
            logits = filters.forbid_repeated_ngrams(logits, ids, self.no_repeat_ngram)
        return logits

    def __call__(
        self, logits: Tensor, ids: Tensor | None = None, start: int | Tensor | None = None
    ) -> Tensor:
        """Les logits filtrés, en float32 : (R, V), (R, T) -> (R, V). Greedy ne garde que le plus grand."""
        logits = self.penalise(logits, ids, start)
        return filters.keep_top_k(logits, 1) if self.greedy else self._filter(logits)

    def _filter(self, logits: Tensor, everything: Tensor | None = None) -> Tensor:
        """Applique les filtres. `everything`, (R, 1) : log Σ exp du vocabulaire, si `logits` en est une part."""
        logits = filters.with_temperature(logits, self.temperature)
        if self.top_k is not None:
            logits, everything = filters.keep_top_k(logits, self.top_k), None
        if self.top_p is not None:
            logits = fast.keep_top_p(logits, self.top_p, everything)
        if self.min_p is not None:
            logits = filters.keep_min_p(logits, self.min_p)
        if self.typical_p is not None:
            logits = fast.keep_typical_p(logits, self.typical_p)
        return logits

    def pick(
        self,
        logits: Tensor,
        uniform: Tensor,
        ids: Tensor | None = None,
        start: int | Tensor | None = None,
    ) -> Tensor:
        """Le jeton suivant de chaque ligne : (R, V), (R,) nombres dans [0, 1), (R, T) -> (R,) identifiants.

        Le tirage inverse la fonction de répartition : un nombre par ligne suffit, et le même nombre donne le
        même jeton quels que soient le lot et la machine. Cette fonction n'attend pas le GPU : un NaN y donne
        n'importe quel jeton, et c'est `check_numbers` qui le signale. `start` : voir `penalise`.
        """
        logits = self.penalise(logits, ids, start)
        if self.greedy:
            return logits.argmax(-1)
        if self._keeps_the_first:
            chosen = fast.pick_among_the_first(logits, self.temperature, self._filter, uniform)
            if chosen is not None:
                return chosen
        return draw(self._filter(logits), uniform)

    @property
    def _keeps_the_first(self) -> bool:
        """Vrai si les filtres ne gardent que les jetons les plus probables, et peu d'entre eux."""
        return self.typical_p is None and (self.top_k, self.top_p, self.min_p) != (None, None, None)


def check_numbers(logits: Tensor) -> None:
    """Vérifie les logits, (R, V), ou le plus grand de chaque ligne, NaN si elle en a un. UserError sur un NaN."""
    if bool(torch.isnan(logits.amax(-1)).any()):
        raise UserError(
            "Le modèle donne des logits NaN : son entraînement a divergé, ou le fichier est abîmé."
        )
