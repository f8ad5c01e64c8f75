"""Deux tokenizers sans table : un identifiant par caractère, ou par octet."""

from collections.abc import Iterable, Sequence
from typing import Self

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import END_OF_TEXT, whole_characters
from gpt_lightning.typing import State


class CharacterTokenizer:
    """Un identifiant par caractère du corpus, dans l'ordre d'Unicode, puis la fin de texte.

    Le vocabulaire est celui du corpus entier : un caractère est rare, un mot inconnu l'est moins.
    """

    fit_on = "all"

    def __init__(self, characters: str = "") -> None:
        self._characters = characters
        self._ids = {character: index for index, character in enumerate(characters)}

    def fit(self, texts: Iterable[str]) -> Self:
        """Un tokenizer dont le vocabulaire est l'ensemble trié des caractères de `texts`."""
        return type(self)("".join(sorted({character for text in texts for character in set(text)})))

    @property
    def vocab_size(self) -> int:
        return len(self._characters) + 1 if self._characters else 0

    @property
    def eos_id(self) -> int:
        return len(self._characters)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Un identifiant par caractère ; UserError si l'un d'eux n'est pas dans le corpus."""
        if special and END_OF_TEXT in text:
            first, *others = text.split(END_OF_TEXT)
            return [*self.encode(first), *(i for part in others for i in [self.eos_id, *self.encode(part)])]
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise UserError(
                f"Le caractère {error.args[0]!r} n'est pas dans le vocabulaire du corpus ; tokenizer=bytes ou "
                f"tokenizer=gpt2 encodent n'importe quel texte."
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(END_OF_TEXT if index == self.eos_id else self._characters[index] for index in ids)

    def token_bytes(self, index: int) -> bytes:
        return self.decode([index]).encode("utf-8")

    def state(self) -> State:
        return {"kind": "characters", "characters": self._characters}


class ByteTokenizer:
    """Un identifiant par octet d'UTF-8, et 256 pour la fin de texte : aucun fichier, aucun texte impossible."""

    vocab_size = 257
    eos_id = 256

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        if special and END_OF_TEXT in text:
            first, *others = text.split(END_OF_TEXT)
            return [*self.encode(first), *(i for part in others for i in [self.eos_id, *self.encode(part)])]
        try:
            return list(text.encode("utf-8"))
        except UnicodeEncodeError:
            return list(whole_characters(text).encode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        end = END_OF_TEXT.encode()
        raw = b"".join(end if index == self.eos_id else bytes([index]) for index in ids)
        return raw.decode("utf-8", errors="replace")

    def token_bytes(self, index: int) -> bytes:
        return END_OF_TEXT.encode() if index == self.eos_id else bytes([index])

    def state(self) -> State:
        return {"kind": "bytes"}
