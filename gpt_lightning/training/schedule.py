"""Le taux d'apprentissage au fil des pas : montée, palier, descente."""

import math
import re
from dataclasses import dataclass

from gpt_lightning.errors import Unfit, UserError, choice, number

SCHEDULES = ("constant", "linear", "cosine", "wsd")
PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
Length = int | float | str  # des pas, une fraction du plan si < 1, ou des jetons ("2Mtok")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """La forme du taux d'apprentissage. UserError, en une phrase, sur une valeur impossible.

    Une durée (`warmup`, `decay`) est un nombre de pas, une fraction de l'entraînement si elle est < 1, ou un nombre
    de jetons écrit "2Mtok" (k, M, G).
    """

    schedule: str = "cosine"  # constant | linear | cosine | wsd (montée, palier, descente vers zéro)
    warmup: Length = 0.05  # montée
    decay: Length = 0.2  # descente de wsd
    min_lr_ratio: float = 0.0  # valeur finale de linear, cosine et wsd, en fraction de lr

    def __post_init__(self) -> None:
        choice("optim.schedule", self.schedule, SCHEDULES)
        number("optim.min_lr_ratio", self.min_lr_ratio, 0, 1)
        for name in ("warmup", "decay"):
            steps_of(getattr(self, name), 100, 1, name)

    def factor(self, step: int, total_steps: int, tokens_per_step: int = 1) -> float:
        """Le taux du pas `step` (le premier est 0) en fraction de lr, sur un plan de `total_steps`."""
        warmup = steps_of(self.warmup, total_steps, tokens_per_step)
        if step < warmup:
            return (step + 1) / warmup
        if self.schedule == "constant":
            return 1.0
        start = warmup
        if self.schedule == "wsd":
            start = max(warmup, total_steps - steps_of(self.decay, total_steps, tokens_per_step))
        progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
        falling = 0.5 * (1 + math.cos(math.pi * progress)) if self.schedule == "cosine" else 1 - progress
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * falling

    def fits(self, total_steps: int | None, tokens_per_step: int) -> None:
        """UserError si la montée et la descente ne tiennent pas dans `total_steps` pas, ou si une longueur manque."""
        if total_steps is None:
            fraction = isinstance(self.warmup, float) and 0 < self.warmup < 1
            if self.schedule != "constant" or fraction:
                fit: dict[str, object] = {} if self.schedule == "constant" else {"optim.schedule": "constant"}
                raise Unfit(
                    f"Avec trainer.max_time seul, le nombre de pas est inconnu : "
                    f"optim.schedule={self.schedule} et optim.warmup={self.warmup} n'ont pas de sens ; "
                    f"ajoutez trainer.max_steps=... ou prenez optim.schedule=constant optim.warmup=0.",
                    "trainer.max_time seul ne dit pas le nombre de pas",
                    {**fit, "optim.warmup": 0} if fraction else fit,
                )
            return
        warmup = steps_of(self.warmup, total_steps, tokens_per_step)
        decay = steps_of(self.decay, total_steps, tokens_per_step) if self.schedule == "wsd" else 0
        if warmup + decay > total_steps > 0:
            raise Unfit(
                f"La montée ({warmup} pas) et la descente ({decay} pas) dépassent les {total_steps} pas "
                f"de l'entraînement : essayez optim.warmup=0.1" + (" optim.decay=0.2." if decay else "."),
                f"l'entraînement n'a que {total_steps} pas",
                {"optim.warmup": total_steps - decay} if decay <= total_steps else {},
                {"optim.decay": total_steps - warmup} if decay and warmup <= total_steps else {},
            )


def steps_of(amount: Length, total_steps: int, tokens_per_step: int, name: str = "warmup") -> int:
    """Une durée en pas d'optimiseur. UserError si elle ne se comprend pas."""
    if isinstance(amount, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)tok(?:ens)?", amount.strip())
        if not match:
            raise UserError(
                f'optim.{name}={amount} : il faut des pas (200), une fraction (0.1) ou des jetons ("2Mtok").'
            )
        return math.ceil(float(match[1]) * PREFIXES[match[2]] / tokens_per_step)
    number(f"optim.{name}", amount)
    return round(amount * total_steps) if amount < 1 else int(amount)
