"""Ce que le modèle a lu : les jetons de chaque ligne, et leur cache tant qu'ils tiennent dans le contexte.

Légende des formes : P textes de départ, R lignes, T jetons, K jetons devinés, V vocabulaire.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt_lightning.decoding.prefixes import PrefixCache
from gpt_lightning.errors import UserError
from gpt_lightning.model.cache import KVCache, LanguageModel, step_of


class Reader:
    """Donne les logits du jeton suivant, et sait oublier ou réordonner ce qui est lu.

    Les textes inégaux sont complétés à gauche ; un texte plus long que le contexte n'est lu que par sa fin.
    Ce que `prefixes` en garde n'est pas relu. UserError si un texte est vide.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Tensor | Sequence[Sequence[int]],
        max_new_tokens: int,
        prefixes: PrefixCache | None = None,
    ) -> None:
        assert prefixes is None or prefixes.model is model, "les préfixes d'un autre modèle"
        self.prefixes = PrefixCache(model, 0) if prefixes is None else prefixes
        self.model, self.context = model, model.config.context_length
        self.step = step_of(model)  # la passe d'un jeton par ligne, compilée si elle l'est
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        rows = [list(map(int, row))[-self.context :] for row in prompts]
        if not rows or not all(rows):
            raise UserError("Un texte de départ est vide : commencez par le jeton de fin de texte.")
        width = max(map(len, rows))
        filled = [[-1] * (width - len(row)) + row for row in rows]
        self.ids = torch.tensor(filled, device=self.device)  # (R, T) les jetons écrits, -1 en remplissage
        self.width = width  # jetons des textes de départ : les suivants sont écrits
        self.capacity = min(self.context, width + max_new_tokens)
        self.texts = rows  # ce qui est lu de chaque texte de départ
        _, self.cache = self._open_window()

    @property
    def n_rows(self) -> int:
        return len(self.ids)

    def prefill(self, times: int = 1) -> Tensor:
        """Lit les P textes une seule fois, puis compte chacun `times` fois : les logits suivants, (R, V)."""
        start = self.prefixes.restore(self.cache, self.texts)
        logits = self.model.next_logits(self.ids[:, start:].clamp(min=0), self.cache)
        if times > 1:
            rows = torch.arange(self.n_rows, device=self.device).repeat_interleave(times)
            logits = logits[rows]
            self.select(rows)
        return logits

    def write(self, chosen: Tensor) -> None:
        """Ajoute un jeton à chaque ligne, (R,), pas encore lu."""
        self.ids = torch.cat((self.ids, chosen[:, None]), dim=1)

    def read(self, chosen: Tensor) -> Tensor:
        """Lit le dernier jeton écrit, (R,) : les logits suivants, (R, V)."""
        if self.ids.shape[1] > self.capacity:  # la fenêtre glisse : toutes les positions changent
            window, cache = self._open_window()
            return self.model.next_logits(window.clamp(min=0), cache)
        return self.step(chosen[:, None], self.cache)

    def read_ahead(self, chosen: Tensor, drafts: Tensor) -> Tensor:
        """Lit le dernier jeton écrit, (R,), et les jetons devinés, (R, K) : les logits suivants, (R, K + 1, V)."""
        return self.model(torch.cat((chosen[:, None], drafts), dim=1), self.cache)

    def forget(self, count: int) -> None:
        """Oublie les `count` derniers jetons devinés : le texte ne les a pas confirmés."""
        if count:
            self.cache.advance(-count)

    def select(self, rows: Tensor) -> None:
        """Garde les lignes `rows` (R',), dans cet ordre."""
        self.ids, self.cache = self.ids[rows], self.cache.select(rows)

    def remember(self) -> None:
        """Garde ce qui est lu dans `prefixes` : de plusieurs lignes, les seuls textes de départ."""
        texts = self.texts
        if (
            self.n_rows == 1
        ):  # le dernier jeton écrit n'est pas lu ; à sa place, il y en a peut-être un deviné
            texts = [self.ids[0, : min(int(self.cache.position), self.ids.shape[1] - 1)].tolist()]
        for rank, text in enumerate(texts):
            self.prefixes.keep(text, self.cache, rank * self.n_rows // len(texts))

    @staticmethod
    def logprobs(logits: Tensor, chosen: Tensor) -> Tensor:
        """La log-probabilité, en nats, de chaque jeton choisi : (R, V), (R,) -> (R,)."""
        return logits.float().log_softmax(-1).gather(1, chosen[:, None]).squeeze(1)

    def _open_window(self) -> tuple[Tensor, KVCache]:
        """Les jetons qui tiennent dans le contexte, (R, T), et un cache vide pour eux."""
        window = self.ids[:, -self.context :]
        pads = (window < 0).sum(-1)
        kind = self.device.type
        mixed = torch.is_autocast_enabled(kind)
        return window, KVCache.empty(
            self.model.config,
            batch_size=self.n_rows,
            capacity=self.capacity,
            pads=pads if bool(pads.any()) else None,
            device=self.device,
            dtype=torch.get_autocast_dtype(kind) if mixed else self.dtype,
        )
