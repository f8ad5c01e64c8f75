"""Deux défauts des pages imprimées : le mot coupé en fin de ligne, l'en-tête qui revient. Ce qui change est compté."""

import re
from collections.abc import Callable, Iterable, Iterator

PAGE = "\f"  # ce qui sépare deux pages
LONGEST = 1 << 20  # caractères d'une page, au plus : au-delà, ce texte n'a pas de pages
EDGE = 2  # lignes que l'on regarde en haut, et en bas, d'une page
NEAR, TIMES = 2, 3  # un titre courant revient toutes les deux pages au moins, trois fois de suite
_CUT = re.compile(r"(?<![^\W\d_])[^\W\d_]+(?:[-\u2010\u00ad]\n\f?[ \t]*[^\W\d_]+)+[^\s\w-]*[ \t]*")
_BREAK = re.compile(r"([-\u2010\u00ad])\n\f?[ \t]*")
_NUMBER = re.compile(
    r"\bpages?\W*\d+(?:\W*(?:sur|of|de)?\W*\d+)?|^\W*(?:\d+|[ivxlc]+)\b\W*|\W*\b(?:\d+|[ivxlc]+)\W*$"
)
# le trait d'union qui reste : dit-il, peut-être, au-dessus, celui-ci ; une syllabe, elle, commence par une consonne
_TIED = re.compile(
    r"(?:\w+-(?:ils?|elles?|on|en|y|être|je|tu|nous|vous|moi|toi|mêmes?|delà|dessus|dessous|dedans|dehors)"
    r"|ce(?:lui|ux|lles?)-(?:ci|là)|est-ce)\b",
    re.IGNORECASE,
)


def join_hyphens(blocks: Iterable[str], count: Callable[[], None]) -> Iterator[str]:
    """Recolle les mots coupés en fin de ligne : « exem-\\nple dit » devient « exemple\\ndit »."""
    rest = ""
    for block in blocks:
        text = rest + block
        end = text.rfind(" ", 0, -200)  # un mot coupé, et ce qui le suit, tiennent dans le reste
        while end > 0 and not text[end - 1].isalnum():
            end = text.rfind(" ", 0, end)
        while (
            0 < end < len(text) and text[end] in " \t"
        ):  # un mot recollé en dernier prend les blancs qui le suivent
            end += 1
        if not 0 < end < len(text) and len(text) < LONGEST:
            rest = text
            continue
        end = end if end > 0 else len(text)
        rest = text[end:]
        yield _join(text[:end], rest[:1], count)
    yield _join(rest, "", count)


def _join(text: str, following: str, count: Callable[[], None]) -> str:
    """`text`, que le caractère `following` suit, ses mots coupés recollés."""

    def join(match: re.Match[str]) -> str:
        before = text[match.start() - 1 : match.start()]
        first, *pairs = _BREAK.split(match[0].rstrip(" \t"))
        joined = first
        for hyphen, word in zip(pairs[::2], pairs[1::2], strict=True):
            if not (word[0].islower() or (word.isupper() and joined.isupper())):
                return match[0]  # Jean-\nPaul
            tied = hyphen != "\u00ad" and (before == "-" or bool(_TIED.match(f"{joined}-{word} ")))
            joined = f"{joined}-{word}" if tied else joined + word
            count()
        after = text[match.end() : match.end() + 1] or following
        return joined if after in ("", "\n", PAGE, "-", "\u2010", "\u00ad") else f"{joined}\n"

    return _CUT.sub(join, text)


def drop_running_heads(read: Callable[[], Iterable[str]], count: Callable[[], None]) -> Iterator[str]:
    """Retire les titres courants et les numéros de page de `read()`, lu deux fois, où des sauts séparent les pages."""
    heads = _running_heads(read())
    for text, is_page in _pages(read()):
        yield _strip_page(text, heads, count) if is_page else text


def _running_heads(blocks: Iterable[str]) -> set[tuple[int, str]]:
    """Les lignes, et leur place, qui reviennent au bord de pages proches."""
    runs: dict[
        tuple[int, str], tuple[int, int]
    ] = {}  # la dernière page où elle est, combien de fois de suite
    heads = set()
    for number, (text, is_page) in enumerate(_pages(blocks)):
        for line in _edges(text.split("\n")) if is_page else ():
            last, times = runs.get(line[:2], (-NEAR, 0))
            times = times + 1 if number - last <= NEAR else 1
            runs[line[:2]] = number, times
            if times >= TIMES:
                heads.add(line[:2])
    return heads


def _pages(blocks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Les pages, avec le saut qui les finit, et si c'en sont ; ce qui est trop long pour une page n'en est pas une."""
    rest, cut = "", False
    for block in blocks:
        *pages, rest = (rest + block).split(PAGE)
        for page in pages:
            yield page + PAGE, not cut
            cut = False
        if len(rest) > LONGEST:
            yield rest, False
            rest, cut = "", True
    if rest:
        yield rest, not cut


def _edges(lines: list[str]) -> Iterator[tuple[int, str, int]]:
    """Les lignes du bord d'une page : leur place (1 : la première, -1 : la dernière), leur forme, leur rang."""
    written = [rank for rank, line in enumerate(lines) if line.strip()]
    for place in range(1, EDGE + 1):
        if len(written) >= place:
            yield place, _shape(lines[written[place - 1]]), written[place - 1]
            yield -place, _shape(lines[written[-place]]), written[-place]


def _shape(line: str) -> str:
    """Une ligne sans son numéro de page, au début, à la fin, ou après « page »."""
    return _NUMBER.sub("#", " ".join(line.split()).casefold())


def _strip_page(text: str, heads: set[tuple[int, str]], count: Callable[[], None]) -> str:
    lines = text.split("\n")
    here = {place: rank for place, shape, rank in _edges(lines) if (place, shape) in heads}
    removed = set()
    for step in (1, -1):
        place = step
        while place in here:  # la deuxième ligne n'est un titre courant que si la première en est un
            removed.add(here[place])
            place += step
    if sum(bool(line.strip()) for line in lines) - len(removed) == 0 and len(removed) > EDGE:
        return text  # des lignes qui se ressemblent, et non une page blanche
    for _ in removed:
        count()
    end = PAGE if text.endswith(PAGE) and len(lines) - 1 in removed else ""
    return "\n".join(line for rank, line in enumerate(lines) if rank not in removed) + end
