"""Deviner les jetons suivants en relisant le texte : plusieurs jetons par passe, et le même texte.

Légende des formes : R lignes, T jetons, K jetons devinés, V vocabulaire.
Source : Saxena, « Prompt Lookup Decoding », 2023.
"""

import torch
from torch import Tensor

from gpt_lightning.decoding.context import Reader

GUESSES = 10  # jetons devinés à la fois


class Lookup:
    """Lit le texte de `reader` en devinant : ce qui a suivi la dernière fois que le texte finissait ainsi.

    Une passe lit le jeton écrit et les jetons devinés ; ses logits valent tant que ce qui s'écrit est ce qui était
    deviné. On cherche les `ngram` derniers jetons de chaque ligne.
    """

    def __init__(self, reader: Reader, ngram: int) -> None:
        self._reader, self._ngram = reader, ngram
        self._drafts = reader.ids[:, :0]  # (R, K) les jetons devinés, que la dernière passe a lus
        self._ahead: Tensor  # (R, K + 1, V) ce qu'elle en a donné
        self._rank = 0  # combien d'entre eux le texte a confirmés

    def read(self, chosen: Tensor, active: list[int]) -> Tensor:
        """Fait comme `Reader.read`, (R,) -> (R, V) : sans passe si ce jeton était deviné, aux lignes `active`."""
        unread = self._drafts.shape[1] - self._rank
        if unread and not bool((chosen != self._drafts[:, self._rank])[active].any()):
            self._rank += 1
            return self._ahead[:, self._rank]
        self._reader.forget(unread)
        self._drafts, self._rank = self._guess(active), 0
        if self._drafts.shape[1] == 0:
            return self._reader.read(chosen)
        self._ahead = self._reader.read_ahead(chosen, self._drafts)
        return self._ahead[:, 0]

    def _guess(self, active: list[int]) -> Tensor:
        """Devine des jetons, (R, K) ; K = 0 si aucune ligne active ne retrouve sa fin, ou si le cache est plein."""
        ids, ngram = self._reader.ids, self._ngram
        length = ids.shape[1]
        room = min(GUESSES, self._reader.capacity - length - 1)
        nothing = ids[:, :0]
        if room < 1 or length <= ngram:
            return nothing
        grams = ids[:, :-1].unfold(1, ngram, 1)  # (R, T - n, n)
        same = (grams == ids[:, None, -ngram:]).all(-1)
        if not bool(same[active].any()):
            return nothing
        ranks = torch.arange(1, same.shape[1] + 1, device=ids.device)
        start = (same * ranks).amax(-1) - 1 + ngram  # la plus récente
        follow = (start[:, None] + torch.arange(room, device=ids.device)).clamp(max=length - 1)
        return ids.gather(1, follow).clamp(min=0)
