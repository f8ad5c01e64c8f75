"""Le protocole que suivent tous les tokenizers."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from gpt_lightning.typing import State

END_OF_TEXT = "<|endoftext|>"


@runtime_checkable
class Tokenizer(Protocol):
    """Ce que le reste du projet attend d'un tokenizer.

    Ceux qui apprennent leur vocabulaire (mots, caractères ...) sont aussi des `LearningTokenizer`.
    """

    @property
    def vocab_size(self) -> int:
        """Nombre d'identifiants : tous sont dans [0, vocab_size)."""
        ...

    @property
    def eos_id(self) -> int | None:
        """Identifiant de fin de texte, None si le vocabulaire n'en a pas."""
        ...

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Les identifiants de `text`.

        Les jetons spéciaux écrits dans le texte (`<|endoftext|>`) n'en deviennent que si `special` est vrai ;
        sinon ce sont des caractères comme les autres. Une moitié de caractère UTF-16 seule (« \\ud83d »), qui n'est
        pas du texte, compte comme U+FFFD.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Le texte de `ids` ; une suite d'octets incomplète donne le caractère de remplacement U+FFFD."""
        ...

    def token_bytes(self, index: int) -> bytes:
        """Les octets UTF-8 de cet identifiant, qui peuvent n'être qu'un morceau de caractère."""
        ...

    def state(self) -> State:
        """L'état complet en valeurs simples, avec son genre sous la clé `kind`."""
        ...


@runtime_checkable
class LearningTokenizer(Protocol):
    """Ce qu'un tokenizer qui apprend son vocabulaire a de plus ; `vocab_size` vaut 0 jusque-là.

    Le module de données appelle `fit` avant que le modèle n'existe. `fit_on` vaut « train » si le tokenizer apprend
    sur l'entraînement seul, « all » s'il apprend aussi sur la validation.
    """

    fit_on: str

    def fit(self, texts: Iterable[str]) -> Tokenizer:
        """Un tokenizer qui a appris son vocabulaire sur `texts`."""
        ...


@runtime_checkable
class MarkedTokenizer(Protocol):
    """Ce qu'un tokenizer qui a des jetons spéciaux à lui, nommés par leur texte, a de plus."""

    def special_id(self, content: str) -> int | None:
        """L'identifiant du jeton spécial `content` ; None s'il ne l'a pas."""
        ...


def whole_characters(text: str) -> str:
    """`text`, où une moitié de caractère UTF-16 écrite seule (« \\ud83d ») est U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def fingerprint(tokenizer: Tokenizer) -> str:
    """Empreinte (64 chiffres hexadécimaux) : égale si et seulement si l'état du tokenizer est le même."""
    state = json.dumps(tokenizer.state(), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(state.encode()).hexdigest()
