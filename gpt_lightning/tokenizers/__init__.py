"""Les tokenizers : changer un texte en identifiants, et l'inverse.

Un tokenizer est tout objet qui suit le protocole `Tokenizer`. Son état (`state()`) est un dictionnaire de
valeurs simples, rangé dans le checkpoint ; `from_state` est le seul chemin de retour.
"""

from collections.abc import Callable, Mapping

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import END_OF_TEXT, Tokenizer, fingerprint
from gpt_lightning.tokenizers.bpe import (
    ByteLevelTokenizer,
    TiktokenTokenizer,
    gpt2,
    gpt2_merges,
    huggingface_files,
    named,
)
from gpt_lightning.tokenizers.characters import ByteTokenizer, CharacterTokenizer
from gpt_lightning.tokenizers.chat import ChatTokenizer
from gpt_lightning.tokenizers.huggingface import HuggingFaceTokenizer, from_values
from gpt_lightning.tokenizers.trained import TrainedTokenizer
from gpt_lightning.tokenizers.words import SimpleTokenizerV1, SimpleTokenizerV2
from gpt_lightning.typing import State

_KINDS: dict[str, Callable[..., Tokenizer]] = {
    "gpt2": gpt2,
    "tiktoken": named,
    "characters": CharacterTokenizer,
    "bytes": ByteTokenizer,
    "byte_level": ByteLevelTokenizer,
    "huggingface": from_values,
    "trained": TrainedTokenizer,
    "words_v1": SimpleTokenizerV1,
    "words_v2": SimpleTokenizerV2,
    "chatml": lambda base: ChatTokenizer(from_state(base)),
}


def from_state(state: Mapping[str, object]) -> Tokenizer:
    """Reconstruit le tokenizer décrit par `state` (le résultat de `Tokenizer.state()`).

    UserError si `kind` n'est pas un genre connu.
    """
    values = dict(state)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise UserError(f"Genre de tokenizer inconnu : {kind!r} (connus : {', '.join(_KINDS)}).")
    for name in ("characters", "merges"):
        if not isinstance(values.get(name, ""), str):
            raise UserError(f"L'état du tokenizer {kind} est abîmé : {name} n'est pas un texte.")
    return _KINDS[kind](**values)


def merges_of(tokenizer: Tokenizer | None) -> str | None:
    """Les fusions d'un BPE d'octets au découpage de GPT-2 ; None pour un autre tokenizer."""
    tokenizer = tokenizer.base if isinstance(tokenizer, ChatTokenizer) else tokenizer
    state: State = tokenizer.state() if tokenizer else {"kind": None}
    return {"gpt2": gpt2_merges, "trained": lambda: state["merges"]}.get(state["kind"], lambda: None)()


__all__ = [
    "END_OF_TEXT",
    "ByteLevelTokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "ChatTokenizer",
    "HuggingFaceTokenizer",
    "SimpleTokenizerV1",
    "SimpleTokenizerV2",
    "TiktokenTokenizer",
    "Tokenizer",
    "TrainedTokenizer",
    "fingerprint",
    "from_state",
    "gpt2",
    "huggingface_files",
    "merges_of",
    "named",
]
