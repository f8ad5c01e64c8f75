"""Les tokenizers par mots du livre : SimpleTokenizerV1 et SimpleTokenizerV2.

Source : Sebastian Raschka, « Build a Large Language Model (From Scratch) », chapitre 2.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Self

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import END_OF_TEXT
from gpt_lightning.typing import State

UNKNOWN = "<|unk|>"
_PIECES = re.compile(r"""([,.:;?_!"()'\-]|--|\s)""")
_SPACE_BEFORE_PUNCTUATION = re.compile(r"""\s+([,.:;?!()'])""")


def _split(text: str) -> list[str]:
    return [piece for piece in _PIECES.split(text) if piece.strip()]


class SimpleTokenizerV1:
    """Un identifiant par mot ou signe de ponctuation ; un mot inconnu est une erreur.

    Le vocabulaire est celui du corpus entier, validation comprise, comme dans le livre : c'est la seule façon
    d'encoder la validation sans mot inconnu. Les blancs ne sont pas gardés : decode(encode(x)) approche x.
    """

    special_tokens: tuple[str, ...] = ()
    fit_on = "all"  # le livre apprend le vocabulaire sur tout le corpus

    def __init__(self, vocabulary: Sequence[str] = ()) -> None:
        self._words = list(vocabulary)
        self._ids = {word: index for index, word in enumerate(self._words)}

    def fit(self, texts: Iterable[str]) -> Self:
        """Un tokenizer dont le vocabulaire est l'ensemble trié des morceaux de `texts`."""
        words = sorted({piece for text in texts for piece in _split(text)} - set(self.special_tokens))
        return type(self)([*words, *self.special_tokens])

    @property
    def vocab_size(self) -> int:
        return len(self._words)

    @property
    def eos_id(self) -> int | None:
        return None

    def _id(self, piece: str) -> int:
        if piece not in self._ids:
            shown = piece if len(piece) <= 40 else piece[:40] + "..."
            raise UserError(
                f"Le mot « {shown} » n'est pas dans le vocabulaire de words_v1 ; tokenizer=words_v2 en fait "
                f"{UNKNOWN}, tokenizer=gpt2 encode n'importe quel texte."
            )
        return self._ids[piece]

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Les identifiants des mots de `text` ; UserError si un mot est inconnu."""
        return [self._id(piece) for piece in _split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return _SPACE_BEFORE_PUNCTUATION.sub(r"\1", " ".join(self._words[index] for index in ids))

    def token_bytes(self, index: int) -> bytes:
        return self._words[index].encode("utf-8")

    def state(self) -> State:
        return {"kind": "words_v1", "vocabulary": list(self._words)}


class SimpleTokenizerV2(SimpleTokenizerV1):
    """Comme la V1, avec `<|unk|>` pour les mots inconnus et `<|endoftext|>` entre les documents.

    Le vocabulaire est celui de l'entraînement seul : la validation contient de vrais mots inconnus.
    """

    special_tokens = (END_OF_TEXT, UNKNOWN)
    fit_on = "train"

    @property
    def eos_id(self) -> int | None:
        return self._ids.get(END_OF_TEXT)

    def _id(self, piece: str) -> int:
        return self._ids.get(piece, self._ids[UNKNOWN])

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Les identifiants des mots de `text` ; les jetons spéciaux écrits ne valent que si `special`."""
        pieces = _split(text)
        if special:
            return [self._id(piece) for piece in pieces]
        unknown = self._ids[UNKNOWN]
        return [unknown if piece in self.special_tokens else self._id(piece) for piece in pieces]

    def state(self) -> State:
        return {"kind": "words_v2", "vocabulary": list(self._words)}
