"""Un pas qui diverge (perte ou gradient infini, ou NaN) est nul : il ne change ni les poids, ni l'optimiseur.

Sur CPU, cela se voit au pas même. Sur un accélérateur, lire un nombre attend tout ce qui le précède : le jugement reste
sur l'appareil, où les noyaux fusionnés d'AdamW et Muon savent annuler un pas (`found_inf`, fait pour GradScaler), et se
lit au plus tard au prochain journal, à la prochaine évaluation ou au prochain checkpoint.
"""

import logging

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.wording import number

_WHAT = {1: "la perte n'est", 2: "le gradient n'est", 3: "ni la perte ni le gradient ne sont"}
POLICIES = ("stop", "skip")
log = logging.getLogger("gpt_lightning")


class Diverged(UserError):
    """L'entraînement a divergé, et s'arrête : rien n'a été gardé de ce pas."""


class DivergenceGuard:
    """Annule les pas qui divergent ; `policy` : stop, ou skip, qui en passe `most` de suite au plus."""

    def __init__(self, policy: str = "stop", most: int = 5) -> None:
        self.policy, self.most = policy, most
        self._pending: list[tuple[int, str, Tensor]] = []  # pas jugés, pas encore lus : (pas, où, code)
        self._in_a_row = 0
        self.defers: bool | None = None  # lire plus tard ; None : sur un accélérateur seulement

    def judge(self, optimizer: torch.optim.Optimizer, code: Tensor, *, step: int, where: str) -> None:
        """Annule le pas `step`, qui va être fait, si `code`, (), n'est pas nul : 1 la perte, 2 le gradient, 3 les deux.

        `where` dit ce qu'il a lu. Diverged s'il faut s'arrêter là.
        """
        self._pending.append((step, where, code))
        defers = code.device.type != "cpu" if self.defers is None else self.defers
        if defers and _can_void(optimizer):
            vars(optimizer).update(grad_scale=None, found_inf=(code > 0).float())
        elif self.check():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None  # sans gradient, un optimiseur ne touche à rien

    def check(self) -> bool:
        """Lit les pas qui ne l'étaient pas ; vrai si le dernier est nul. Diverged s'il faut s'arrêter."""
        pending, self._pending = self._pending, []
        codes = torch.stack([code for *_, code in pending]).tolist() if pending else []
        for (step, where, _), code in zip(pending, codes, strict=True):
            self._in_a_row = self._in_a_row + 1 if code else 0
            if code and (self.policy == "stop" or self._in_a_row > self.most):
                raise Diverged(stop_sentence(step, where, int(code), self._in_a_row))
            if code:
                log.warning(_skip_sentence(step, where, int(code)))
        return bool(codes and codes[-1])


def _can_void(optimizer: torch.optim.Optimizer) -> bool:
    """Vrai si cet optimiseur sait annuler un pas sans qu'on lise rien."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return isinstance(optimizer, torch.optim.AdamW) and fused


def _skip_sentence(step: int, where: str, code: int) -> str:
    """Un pas a divergé, et l'entraînement le passe."""
    what = _WHAT[code] if code == 3 else f"{_WHAT[code]} pas"
    return f"Au pas {number(step)} ({where}), {what} un nombre fini : ce pas est annulé."


def stop_sentence(step: int, where: str, code: int, in_a_row: int) -> str:
    """Un pas a divergé, et l'entraînement s'arrête."""
    many = f" C'est le {number(in_a_row)}e de suite." if in_a_row > 1 else ""
    what = _WHAT[code] if code == 3 else f"{_WHAT[code]} pas"
    return (
        f"Au pas {number(step)} ({where}), {what} un nombre fini : ce pas est annulé, l'entraînement s'arrête, et "
        f"rien n'en est gardé.{many} Reprenez avec un taux plus bas (optim.lr=), ou nan_policy=skip, qui passe ces pas."
    )
