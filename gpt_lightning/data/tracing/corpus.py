"""L'index d'un corpus d'entraînement : ouvert, construit s'il le faut, et ce qu'il dit d'un texte."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from gpt_lightning import durable
from gpt_lightning.data.tracing.spans import copied_share, covers, least_words, longest_of, share_of, trace
from gpt_lightning.data.tracing.suffixes import Progress, Suffixes, build_index, write_index
from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

HELD_OUT = 100_000  # caractères de validation qui disent ce qui se copie sans avoir été lu
PIECES = 50  # bouts dont ils sont faits, au moins
SHOWN = 50  # passages montrés d'un texte, les plus longs
SHORTEST = 4  # mots d'un passage, au moins


class Corpus(Protocol):
    """Ce qu'un module de données préparé a de plus qu'un nom : ses textes, ceux qui ont un nom, la place de l'index."""

    @property
    def index_path(self) -> Path: ...

    def documents(self, split: str) -> Iterator[Iterable[str]]: ...

    def names(self, ranks: Iterable[int]) -> Mapping[int, str]: ...


class Traced(NamedTuple):
    """Un corpus et son index ouvert ; `least` : les mots d'un passage trop long pour n'être qu'un hasard."""

    corpus: Corpus
    suffixes: Suffixes
    least: int
    reference: float  # la part copiée de la validation, avec ces passages-là

    def share(self, texts: Iterable[str]) -> float:
        """La part copiée de ces textes."""
        return copied_share(self.suffixes, texts, self.least)

    def explain(
        self, text: str, least: int | None = None, is_stopped: Callable[[], bool] = lambda: False
    ) -> JsonObject:
        """Ce que ce texte a en commun avec le corpus, en valeurs simples : sa part copiée, et ses passages.

        `covered` est la part de ses mots qui sont dans un passage d'au moins `least` mots (SHORTEST), `share` dans ceux
        qui sont trop longs pour n'être qu'un hasard. Puis ces passages, dans l'ordre du texte ; les SHOWN plus longs,
        s'il y en a trop. Stopped dès que `is_stopped()` est vrai.
        """
        least = SHORTEST if least is None else least
        every = trace(self.suffixes, text, is_stopped)
        sizes = covers(text, every)
        spans = [span for span in every if span.words >= least]
        longest = sorted(spans, key=lambda span: (-span.words, span.begin))[:SHOWN]
        places = {span: self.suffixes.place(span.first) for span in longest}
        names = self.corpus.names({place.document for place in places.values()})
        passages = []
        for span in sorted(longest):
            document, character = places[span]
            before, after = self.suffixes.around(span.first, span.last)
            blank = span.last > span.first and self.suffixes.text(span.first, span.first + 1)[:1] == " "
            passages.append(
                {
                    "begin": span.begin,
                    "end": span.end,
                    "words": span.words,
                    "times": span.times,
                    "text": text[span.begin : span.end],
                    "document": names.get(document, ""),
                    "rank": document + 1,
                    "character": character + blank,
                    "before": before + " " * blank,
                    "after": after,
                }
            )
        return {
            "covered": share_of(sizes, least),
            "shown": least,
            "share": share_of(sizes, self.least),
            "least": self.least,
            "reference": self.reference,
            "passages": passages,
            "left_out": len(spans) - len(longest),
        }


def open_index(
    corpus: Corpus, progress: Progress = lambda done, total: None, *, build: bool = True
) -> Traced | None:
    """Le corpus et son index, construit s'il n'existe pas et que `build` le permet ; None s'il manque.

    UserError s'il est abîmé, ou si le disque le refuse.
    """
    path = corpus.index_path
    if not path.exists():
        if not build:
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(str(durable.refusal(path, error))) from None
        _build(corpus, path, progress)
    index = Suffixes.open(path)
    least, reference = index.facts.get("least"), index.facts.get("reference")
    if type(least) is not int or least < 1 or type(reference) is not float:
        raise UserError(f"{path} est abîmé : effacez-le, il sera reconstruit.")
    return Traced(corpus, index, least, reference)


def _build(corpus: Corpus, path: Path, progress: Progress) -> None:
    built = build_index(corpus.documents("train"), progress)
    longest = longest_of(built, held_out(corpus))
    least = least_words(longest)
    write_index(path, built, {"least": least, "reference": share_of(longest, least)})


def held_out(corpus: Corpus) -> list[str]:
    """Des bouts de la validation, répartis dans ses documents : à peu près HELD_OUT caractères, si elle les a."""
    documents, count = sum(1 for _ in corpus.documents("val")), PIECES
    while True:
        chosen = {rank * documents // count for rank in range(count)}
        longest = HELD_OUT // min(len(chosen), PIECES)
        read = enumerate(corpus.documents("val"))
        texts = [next(iter(parts), "")[:longest] for rank, parts in read if rank in chosen]
        if sum(map(len, texts)) >= HELD_OUT or count >= documents:
            size = HELD_OUT // PIECES  # une recherche coûte plus que la longueur du texte
            return [text[at : at + size] for text in texts for at in range(0, len(text), size)]
        count *= 4  # des documents courts : il en faut davantage
