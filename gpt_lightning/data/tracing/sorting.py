"""Trier tous les suffixes d'une suite d'entiers : le doublement de préfixes, sur place et par tranches.

Source : Larsson et Sadakane, « Faster suffix sorting », 2007. Un tour trie chaque groupe de suffixes encore égaux par
le rang de ce qui suit leur début commun, deux fois plus long à chaque tour. Une tranche de groupes à la fois : la
mémoire est celle de l'ordre et des rangs, 8 octets par entier, et un peu plus.
"""

from collections.abc import Callable

import numpy as np

CHUNK = 1 << 20  # suffixes triés ensemble, hors d'un groupe plus grand


def sort_suffixes(
    ids: np.ndarray, progress: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Les débuts des suffixes de `ids`, dans leur ordre : (N,) int32. `progress` reçoit ceux qui ont leur place."""
    n = len(ids)
    order = np.argsort(ids, kind="stable").astype(np.int32)
    values = ids[order]
    heads = np.ones(n, bool)  # vrai à la première place de chaque groupe
    np.not_equal(values[1:], values[:-1], out=heads[1:])
    del values
    ranks = np.empty(n, np.int32)
    ranks[order] = _first_places(heads)
    step = 1
    while len(groups := _open_groups(heads)):
        progress(n - int((groups[:, 1] - groups[:, 0]).sum()), n)
        for places in _chunks(groups):
            _refine(order, ranks, heads, places, step)
        step *= 2
    progress(n, n)
    return order


def _first_places(heads: np.ndarray) -> np.ndarray:
    """Pour chaque place, celle où son groupe commence."""
    places = np.where(heads, np.arange(len(heads), dtype=np.int32), 0)
    return np.maximum.accumulate(places, out=places)


def _open_groups(heads: np.ndarray) -> np.ndarray:
    """Les groupes de plusieurs suffixes, de leur première place à celle d'après : (groupes, 2)."""
    begins = np.flatnonzero(heads)
    ends = np.append(begins[1:], len(heads))
    several = ends - begins > 1
    return np.stack([begins[several], ends[several]], axis=1)


def _chunks(groups: np.ndarray) -> list[np.ndarray]:
    """Ces groupes, quelques-uns à la fois."""
    sizes = np.cumsum(groups[:, 1] - groups[:, 0])
    return np.split(groups, np.flatnonzero(np.diff(sizes // CHUNK)) + 1)


def _refine(order: np.ndarray, ranks: np.ndarray, heads: np.ndarray, groups: np.ndarray, step: int) -> None:
    """Trie ces groupes par le rang de ce qui suit leurs `step` premiers entiers ; la fin de la suite passe devant."""
    sizes = groups[:, 1] - groups[:, 0]
    places = np.repeat(groups[:, 0] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    suffixes = order[places]
    after = suffixes.astype(np.int64) + step
    inside = after < len(order)
    keys = np.zeros(len(places), np.int64)
    keys[inside] = ranks[after[inside]] + 1
    keys += ranks[suffixes].astype(np.int64) << 32
    sorting = np.argsort(keys, kind="stable")
    keys, suffixes = keys[sorting], suffixes[sorting]
    fresh = np.ones(len(places), bool)
    np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
    order[places] = suffixes
    heads[places[fresh]] = True
    ranks[suffixes] = places[np.flatnonzero(fresh)[np.cumsum(fresh) - 1]]
