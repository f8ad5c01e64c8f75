"""Trier tous les suffixes d'une suite d'entiers : le doublement de préfixes, sur place et par tranches.

Source : Larsson et Sadakane, « Faster suffix sorting », 2007. Un tour trie chaque groupe de suffixes encore égaux par
le rang de ce qui suit leur début commun, deux fois plus long à chaque tour. Les rangs prennent la place des entiers,
que l'ordre redonne à la fin : la mémoire est de 9 octets par entier, et ce qu'il faut pour une tranche.
"""

from collections.abc import Callable, Iterator

import numpy as np

CHUNK = (
    1 << 15
)  # suffixes triés ensemble, hors d'un groupe plus grand ; au plus 1 << 16, pour une clé de 63 bits


def sort_suffixes(
    ids: np.ndarray, progress: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Les débuts des suffixes de `ids`, (N,) de quatre octets, dans leur ordre : (N,) int32.

    Chaque 0 finit un document : il diffère des autres 0, et passe devant ceux qui le suivent. `ids` sert de brouillon,
    puis redevient ce qu'il était. `progress` reçoit les suffixes qui ont leur place.
    """
    n = len(ids)
    firsts = _first_places(ids)
    order = _sort_first_words(ids, firsts)
    heads = np.zeros(n + 1, bool)  # vrai à la première place de chaque groupe
    heads[firsts] = True
    ranks = ids.view(np.int32)  # la première place du groupe de chaque suffixe
    for begin in range(0, n, CHUNK):
        ranks[begin : begin + CHUNK] = firsts[ids[begin : begin + CHUNK]]
    heads[: firsts[1]] = True
    ranks[order[: firsts[1]]] = np.arange(firsts[1])
    step = 1
    while (done := int(np.count_nonzero(heads[1:] & heads[:-1]))) < n:  # ceux qui sont seuls de leur groupe
        progress(done, n)
        for begin, end in _chunks(heads):
            together = ~(heads[begin:end] & heads[begin + 1 : end + 1])
            if together.any():
                _refine(order, ranks, heads, begin + np.flatnonzero(together), step)
        step *= 2
    for begin in range(0, n, CHUNK):
        places = np.arange(begin, min(begin + CHUNK, n))
        ids[order[places]] = np.searchsorted(firsts, places, side="right") - 1
    progress(n, n)
    return order


def _first_places(ids: np.ndarray) -> np.ndarray:
    """Pour chaque entier, la place du premier suffixe qui commence par lui, ou par un plus grand ; puis N."""
    times = np.zeros(int(ids.max(initial=0)) + 2, np.int64)
    for begin in range(0, len(ids), CHUNK):
        values, counts = np.unique(ids[begin : begin + CHUNK], return_counts=True)
        times[values + 1] += counts
    return np.cumsum(times, out=times)


def _sort_first_words(ids: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Les débuts des suffixes, dans l'ordre de leur premier entier."""
    order, following = np.empty(len(ids), np.int32), firsts.copy()
    for begin in range(0, len(ids), CHUNK):
        part = ids[begin : begin + CHUNK]
        values, at, times = np.unique(np.sort(part), return_index=True, return_counts=True)
        places = np.arange(len(part)) + np.repeat(following[values] - at, times)
        order[places] = begin + np.argsort(part, kind="stable")
        following[values] += times
    return order


def _chunks(heads: np.ndarray) -> Iterator[tuple[int, int]]:
    """Des places qui se suivent, en groupes entiers : au plus CHUNK, ou un seul groupe."""
    begin, n = 0, len(heads) - 1
    while begin < n:
        near = heads[begin + 1 : begin + CHUNK + 1]
        if near.any():
            end = begin + len(near) - int(near[::-1].argmax())
        else:
            end = begin + 1 + int(heads[begin + 1 :].argmax())
        yield begin, end
        begin = end


def _refine(order: np.ndarray, ranks: np.ndarray, heads: np.ndarray, places: np.ndarray, step: int) -> None:
    """Trie ces groupes par le rang de ce qui suit leurs `step` premiers entiers ; la fin de la suite passe devant.

    Une clé tient le numéro du groupe, ce rang et la place parmi `places` : elle se trie d'elle-même.
    """
    n, bits = len(order), len(places).bit_length()
    suffixes = order[places]
    after = ranks[np.minimum(suffixes, n - 1 - step) + step] + 1
    after[suffixes >= n - step] = 0
    keys = np.cumsum(heads[places])
    keys -= 1
    keys <<= 31
    keys |= after
    keys <<= bits
    keys |= np.arange(len(places))
    keys.sort()
    suffixes = suffixes[keys & ((1 << bits) - 1)]
    keys >>= bits
    fresh = np.ones(len(places), bool)
    np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
    order[places] = suffixes
    places = places[fresh]
    heads[places] = True
    ranks[suffixes] = places[np.cumsum(fresh) - 1]
