"""La boucle de génération : `stream` est la primitive, `generate` la recueille.

Légende des formes : P textes de départ, R lignes (P x num_samples), T jetons, V vocabulaire.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt_lightning.decoding.strategy import Strategy
from gpt_lightning.model.cache import KVCache


@dataclass(frozen=True)
class Token:
    """Un jeton produit : sa ligne, son identifiant, et pourquoi la ligne s'arrête (None si elle continue).

    `reason` vaut eos (fin de texte), stop (`until` l'a demandé) ou length (max_new_tokens atteint).
    """

    row: int
    id: int
    reason: str | None = None


@torch.no_grad()
def stream(
    model,
    prompts: Tensor | Sequence[Sequence[int]],
    *,
    strategy: Strategy,
    max_new_tokens: int,
    eos_id: int | None = None,
    seed: int | None = None,
    num_samples: int = 1,
    until: Callable[[int, list[int]], bool] | None = None,
) -> Iterator[list[Token]]:
    """À chaque pas, le jeton nouveau de chaque ligne encore active.

    `prompts` est (P, T) ou P listes de longueurs quelconques, non vides ; la ligne r continue le texte
    r // num_samples. Un texte plus long que le contexte n'est lu que par sa fin. `until(ligne, jetons)` arrête une
    ligne. Les clés et valeurs sont en cache tant que le texte tient dans context_length ; au-delà la fenêtre
    glisse, et comme les positions changent toutes, chaque pas relit la fenêtre entière. Le tirage de la ligne r ne
    dépend que de (seed, r). ValueError si un texte est vide ou si max_new_tokens est négatif.
    """
    context = model.config.context_length
    device = next(model.parameters()).device
    ids, pads = _left_pad([list(map(int, row)) for row in prompts], context, device)
    n_rows = len(ids) * num_samples
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens!r} : il faut un entier positif ou nul.")
    uniforms = _uniforms(seed, n_rows, max_new_tokens).to(device)
    cache = _new_cache(model, ids, pads, capacity=min(context, ids.shape[1] + max_new_tokens))
    logits = model.next_logits(ids, cache).repeat_interleave(num_samples, dim=0)
    if num_samples > 1:
        cache, ids = cache.repeat(num_samples), ids.repeat_interleave(num_samples, dim=0)
        pads = None if pads is None else pads.repeat_interleave(num_samples)

    produced: list[list[int]] = [[] for _ in range(n_rows)]
    active = set(range(n_rows))
    for step in range(max_new_tokens):
        chosen = strategy.choose(logits, uniforms[:, step])  # (R,)
        tokens = []
        for row, token in enumerate(chosen.tolist()):
            if row not in active:
                continue
            produced[row].append(token)
            reason = _reason(row, produced[row], eos_id, until, step + 1 == max_new_tokens)
            tokens.append(Token(row, token, reason))
            if reason:
                active.remove(row)
        yield tokens
        if not active:
            return
        ids = torch.cat((ids, chosen[:, None]), dim=1)
        if ids.shape[1] <= cache.capacity:
            logits = model.next_logits(chosen[:, None], cache)
        else:
            logits = _slide(model, ids, pads)


def generate(
    model,
    ids: Tensor | Sequence[Sequence[int]],
    *,
    strategy: Strategy,
    max_new_tokens: int,
    eos_id: int | None = None,
    stop: Sequence[str] = (),
    decode: Callable[[list[int]], str] | None = None,
    seed: int | None = None,
    num_samples: int = 1,
) -> Tensor | list[list[int]]:
    """Les textes de départ et leur suite : (P, T) -> (R, T + n), ou une liste par ligne si `ids` est une liste.

    Une ligne s'arrête après `eos_id`, quand `decode` de sa suite contient un des textes `stop`, ou à
    max_new_tokens. Dans un tenseur, une ligne finie plus tôt est complétée par `eos_id` (0 s'il n'y en a pas).
    """
    if stop and decode is None:
        raise ValueError("stop= cherche des textes : donnez decode=tokenizer.decode.")
    until = (lambda row, new: any(text in decode(new) for text in stop)) if stop else None
    rows = [[int(token) for token in prompt] for prompt in ids for _ in range(num_samples)]
    for tokens in stream(
        model,
        ids,
        strategy=strategy,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
        seed=seed,
        num_samples=num_samples,
        until=until,
    ):
        for token in tokens:
            rows[token.row].append(token.id)
    if not isinstance(ids, Tensor):
        return rows
    width = max(map(len, rows))
    fill = 0 if eos_id is None else eos_id
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows], device=ids.device)


def _left_pad(rows: list[list[int]], context: int, device) -> tuple[Tensor, Tensor | None]:
    if not rows or not all(rows):
        raise ValueError("Un texte de départ est vide : commencez par le jeton de fin de texte.")
    rows = [row[-context:] for row in rows]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    pads = torch.tensor([width - len(row) for row in rows], device=device)
    return ids, pads if bool(pads.any()) else None


def _uniforms(seed: int | None, n_rows: int, n_steps: int) -> Tensor:
    """(R, n_steps) nombres dans [0, 1) : la ligne r vient d'un générateur semé par (seed, r)."""
    if seed is None:
        return torch.rand(n_rows, n_steps)
    generators = (torch.Generator().manual_seed((seed * 1_000_003 + row) % 2**63) for row in range(n_rows))
    return torch.stack([torch.rand(n_steps, generator=generator) for generator in generators])


def _new_cache(model, ids: Tensor, pads: Tensor | None, capacity: int) -> KVCache:
    dtype = next(model.parameters()).dtype
    return KVCache(
        model.config, batch_size=len(ids), capacity=capacity, pads=pads, device=ids.device, dtype=dtype
    )


def _slide(model, ids: Tensor, pads: Tensor | None) -> Tensor:
    """Les logits suivants quand le texte dépasse le contexte : on relit les derniers jetons, sans rien garder."""
    window = ids[:, -model.config.context_length :]
    if pads is not None:
        pads = (pads - (ids.shape[1] - window.shape[1])).clamp(min=0)
    return model.next_logits(window, _new_cache(model, window, pads, capacity=window.shape[1]))


def _reason(row: int, new: list[int], eos_id: int | None, until, at_end: bool) -> str | None:
    if eos_id is not None and new[-1] == eos_id:
        return "eos"
    if until is not None and until(row, new):
        return "stop"
    return "length" if at_end else None
