"""N'importe quel tokenizer.json de Hugging Face : la bibliothèque `tokenizers` coupe le texte, nous le recollons.

Son état est le texte du fichier : une description (vocabulaire, fusions, expressions régulières), jamais du code.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters
from gpt_lightning.tokenizers.pieces import Spelling
from gpt_lightning.typing import JsonObject, State

if TYPE_CHECKING:
    import tokenizers

MOST_CHARACTERS = 64 << 20  # le plus grand que l'on connaisse, celui de Gemma 3, en fait 33 millions
MOST_VALUES = 3_000_000  # et deux millions de valeurs
MOST_DEPTH = 32  # des listes et des objets l'un dans l'autre ; il en a huit
MODELS = ("BPE", "Unigram", "WordLevel")


class HuggingFaceTokenizer:
    """Le tokenizer que décrit `text`, un tokenizer.json. UserError, qui dit pourquoi, s'il ne se lit pas.

    `end` est le contenu du jeton qui finit un texte, `start` celui que son modèle attend devant, s'il y en a un : un
    texte à continuer le prend, un texte encodé non.
    """

    def __init__(self, text: str, end: str | None = None, start: str | None = None) -> None:
        self._text, self._end, self._start = text, end, start
        values = parse(text)
        self._fast = _load(text)
        self._ids: dict[str, int] = self._fast.get_vocab(with_added_tokens=True)
        self._added = self._fast.get_added_tokens_decoder()
        model = values["model"]
        self._unknown: int | None = model.get("unk_id", self._ids.get(model.get("unk_token") or ""))
        special = {index for index, token in self._added.items() if token.special}
        self._controls = special - {self._unknown}
        self._spelling = Spelling(values.get("decoder"))
        self._marked: tokenizers.Tokenizer | None = None
        self._bytes: dict[int, bytes] = {}
        self.vocab_size = max(self._ids.values(), default=-1) + 1
        for token in (end, start):
            if token is not None and token not in self._ids:
                raise UserError(
                    f"{token[:40]!r}, qui commence ou finit un texte, n'est pas dans son vocabulaire"
                )

    def between(self, start: str | None, end: str | None) -> "HuggingFaceTokenizer":
        """Le même, dont un texte à continuer commence par `start` et finit par `end`, des jetons qu'il a, ou rien."""
        other = copy(self)
        other._start, other._end = start, end
        return other

    @property
    def eos_id(self) -> int | None:
        return None if self._end is None else self._ids[self._end]

    @property
    def bos_id(self) -> int | None:
        """Le jeton qui précède un texte à continuer ; None s'il n'y en a pas."""
        return None if self._start is None else self._ids[self._start]

    def ids_of(self, contents: Sequence[str]) -> dict[str, int]:
        """Les identifiants de ces jetons, ceux qu'il a."""
        return {content: self._ids[content] for content in contents if content in self._ids}

    def special_id(self, content: str) -> int | None:
        """L'identifiant du jeton ajouté `content` ; None s'il ne l'a pas."""
        index = self._ids.get(content)
        return index if index in self._added else None

    def content_of(self, index: object) -> str | None:
        """Le jeton de cet identifiant ; None s'il n'y en a pas."""
        if not isinstance(index, int) or not 0 <= index < self.vocab_size:
            return None
        token: str | None = self._fast.id_to_token(index)
        return token

    def opening_token(self) -> str | None:
        """Le jeton que le fichier met devant un texte ; None s'il n'en met pas."""
        alone, encoded = (self._fast.encode("a", add_special_tokens=marked) for marked in (False, True))
        return encoded.tokens[0] if alone.ids and encoded.special_tokens_mask[0] else None

    def with_special(self, contents: Sequence[str]) -> "HuggingFaceTokenizer":
        """Le même, où ces jetons sont spéciaux : aucun texte ne les écrit. Il lui ajoute ceux qu'il n'a pas."""
        special = {token.content for token in self._added.values() if token.special}
        if special.issuperset(contents):
            return self
        values = json.loads(self._text)
        for token in values.get("added_tokens") or []:
            token["special"] = token["special"] or token["content"] in contents
        fast = _load(json.dumps(values, ensure_ascii=False))
        fast.add_special_tokens([content for content in contents if content not in special])
        return HuggingFaceTokenizer(fast.to_str(), self._end, self._start)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        fast = self._with_marks if special else self._fast
        # seul, mais par lot : sans la place de chaque jeton dans le texte, c'est une fois et demie plus rapide
        with _saying("ce tokenizer n'encode pas ce texte"):
            (encoded,) = fast.encode_batch_fast([_readable(text)], add_special_tokens=False)
        ids: list[int] = encoded.ids
        return ids

    def encode_content(self, text: str) -> list[int]:
        """`encode`, sans jamais un jeton spécial : pour ce qu'une personne écrit dans un message.

        Les morceaux d'un Unigram comptent parfois « </s> », que `encode`, comme transformers, y prend alors.
        """
        ids = self.encode(text)
        if self._controls.isdisjoint(ids):
            return ids
        spelled = [self._letters(index) if index in self._controls else [index] for index in ids]
        return [index for piece in spelled for index in piece]

    def _letters(self, index: int) -> list[int]:
        letters = [self._ids.get(letter, self._unknown) for letter in self._added[index].content]
        return [letter for letter in letters if letter is not None]

    @property
    def _with_marks(self) -> "tokenizers.Tokenizer":
        """Celui qui lit les jetons spéciaux d'un texte : un autre objet, car le serveur encode sur plusieurs fils."""
        if self._marked is None:
            self._marked = _load(self._text)
            self._marked.encode_special_tokens = False
        return self._marked

    def decode(self, ids: Sequence[int]) -> str:
        pieces = [self.token_bytes(index) for index in ids]
        if pieces and (first := self._fast.id_to_token(int(ids[0]))) is not None:
            pieces[0] = self._spelling.of_first(first, int(ids[0]) in self._added)
        return self._spelling.join(pieces).decode("utf-8", errors="replace")

    def token_bytes(self, index: int) -> bytes:
        index = int(index)
        if index not in self._bytes:
            token = self._fast.id_to_token(index)
            self._bytes[index] = b"" if token is None else self._spelling.of(token, index in self._added)
        return self._bytes[index]

    def file(self) -> str:
        """Le tokenizer.json."""
        return self._text

    def options(self) -> JsonObject:
        """Ce que tokenizer_config.json dit de lui."""
        begins = self._start is not None
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **({"bos_token": self._start} if begins else {}),
            **({"add_bos_token": begins} if begins or self.opening_token() is not None else {}),
            **({"eos_token": self._end} if self._end is not None else {}),
        }

    def state(self) -> State:
        start = {} if self._start is None else {"start": self._start}
        return {"kind": "huggingface", "json": self._text, "end": self._end, **start}


def from_values(json: object = None, end: object = None, start: object = None) -> HuggingFaceTokenizer:
    """Le tokenizer de cet état. UserError s'il est abîmé."""
    try:
        if not isinstance(json, str):
            raise UserError("json n'est pas un texte")
        if not isinstance(end, str | None) or not isinstance(start, str | None):
            raise UserError("end et start sont des textes, ou rien")
        return HuggingFaceTokenizer(json, end, start)
    except UserError as error:
        raise UserError(f"L'état du tokenizer huggingface ne se lit pas : {error}.") from None


def _readable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return whole_characters(text)
    return text


def parse(text: str) -> JsonObject:
    """L'objet JSON de `text`, dont la taille et la profondeur sont bornées, et que cette classe sait être."""
    if len(text) > MOST_CHARACTERS or sum(map(text.count, ",[{")) > MOST_VALUES:
        raise UserError("son tokenizer.json est bien trop grand")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError("son tokenizer.json n'est pas du JSON") from None
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise UserError("son tokenizer.json ne décrit pas un tokenizer")
    if not _is_shallow(values, MOST_DEPTH):
        raise UserError("son tokenizer.json s'emboîte trop profond")
    model = values["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else "genre inconnu")
    if kind not in MODELS:
        raise UserError(f"c'est un {str(kind)[:40]}, et non un de {', '.join(MODELS)}")
    if model.get("dropout"):
        raise UserError("ses fusions se tirent au hasard (dropout)")
    return values


def _is_shallow(value: object, room: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return room > 0 and all(_is_shallow(part, room - 1) for part in value if isinstance(part, dict | list))


def _load(text: str) -> "tokenizers.Tokenizer":
    """Le tokenizer de la bibliothèque, où un jeton spécial écrit dans un texte n'est que du texte."""
    from tokenizers import Tokenizer

    with _saying("son tokenizer.json est abîmé"):
        fast = Tokenizer.from_str(text)
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = True
    return fast


@contextmanager
def _saying(sentence: str) -> Iterator[None]:
    """Fait de ce que la bibliothèque lève, paniques de Rust comprises, une UserError qui commence par `sentence`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # une panique n'est pas une Exception
        why = (str(error).splitlines() or [""])[0][:120]
        raise UserError(f"{sentence} ({why})") from None
