"""Le plan d'une course : combien de pas, combien de jetons, avant que rien ne commence."""

from dataclasses import dataclass

DEFAULT_EPOCHS = 3  # quand ni max_epochs, ni max_steps, ni max_tokens, ni max_time n'est donné


@dataclass(frozen=True)
class Plan:
    """Les nombres de la course ; `total_steps` compte des pas d'optimiseur, None si seul le temps l'arrête."""

    steps_per_epoch: int
    tokens_per_step: int
    total_steps: int | None
    eval_every: int

    @property
    def epochs(self) -> float | None:
        return None if self.total_steps is None else self.total_steps / self.steps_per_epoch


def accumulation(
    global_batch_tokens: int | None = None,
    global_batch_size: int | None = None,
    *,
    batch_size: int,
    max_length: int,
    world_size: int,
    given: int = 1,
) -> int:
    """Lots par pas d'optimiseur : ce que le lot global (en jetons, ou en fenêtres) demande, sinon `given`.

    ValueError si le quotient n'est pas entier, avec les deux valeurs voisines qui vont, ou si deux clés le disent.
    """
    asked = {
        "global_batch_tokens": (global_batch_tokens, "jetons", batch_size * max_length * world_size),
        "global_batch_size": (global_batch_size, "fenêtres", batch_size * world_size),
    }
    names = [name for name, (value, _, _) in asked.items() if value is not None]
    if not names:
        return given
    if given != 1:
        names.append("trainer.accumulate_grad_batches")
    if len(names) > 1:
        raise ValueError(f"{names[0]} et {names[1]} se contredisent : gardez-en un.")
    wanted, unit, one = asked[names[0]]
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise ValueError(f"{names[0]}={wanted!r} : il faut un nombre entier de {unit}.")
    below = wanted // one
    if below * one == wanted:
        return below
    near = " ou ".join(str(n * one) for n in (below, below + 1) if n)
    raise ValueError(
        f"{names[0]}={wanted} n'est pas un multiple de {one} {unit} ({world_size} appareil{'s' * (world_size > 1)}, "
        f"data.batch_size={batch_size}, data.max_length={max_length}) : essayez {near}."
    )


def make_plan(
    *,
    batches_per_epoch: int,
    accumulate: int,
    tokens_per_batch: int,
    max_epochs: int | None,
    max_steps: int,
    max_tokens: int | None,
    timed: bool,
    eval_every: int,
) -> Plan:
    """La course la plus courte que ces limites permettent. `tokens_per_batch` compte tous les processus."""
    for name, value in (("eval_every", eval_every), ("max_tokens", max_tokens)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}={value!r} : il faut un entier d'au moins 1.")
    steps_per_epoch = batches_per_epoch // accumulate
    tokens_per_step = tokens_per_batch * accumulate
    limits = []
    if max_epochs is not None and max_epochs >= 0:
        limits.append(max_epochs * steps_per_epoch)
    if max_steps is not None and max_steps >= 0:
        limits.append(max_steps)
    if max_tokens is not None:
        limits.append(-(-max_tokens // tokens_per_step))
    if not limits and not timed and max_epochs is None:
        limits.append(DEFAULT_EPOCHS * steps_per_epoch)
    return Plan(steps_per_epoch, tokens_per_step, min(limits) if limits else None, eval_every)
