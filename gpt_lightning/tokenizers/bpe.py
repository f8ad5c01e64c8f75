"""Le BPE de GPT-2, hors ligne : tiktoken fait le travail, le paquet apporte la table des fusions.

Source : Radford et al., « Language Models are Unsupervised Multitask Learners », 2019, section 2.2.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gpt_lightning.tokenizers.base import END_OF_TEXT

if TYPE_CHECKING:
    import tiktoken

# Le découpage en morceaux de GPT-2 : une contraction, un mot, un nombre, de la ponctuation, des blancs.
_GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # un espace ouvre le morceau
)


class TiktokenTokenizer:
    """Un encodage de tiktoken vu par le protocole `Tokenizer`.

    `state` est le dictionnaire qui permet de le retrouver (il ne contient pas la table des rangs).
    """

    def __init__(self, encoding: "tiktoken.Encoding", state: dict[str, Any]):
        self._encoding = encoding
        self._state = state

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    @property
    def eos_id(self) -> int | None:
        return self._encoding._special_tokens.get(END_OF_TEXT)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        if special:
            return self._encoding.encode(text, allowed_special="all")
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._encoding.decode(ids, errors="replace")

    def state(self) -> dict[str, Any]:
        return dict(self._state)


def gpt2() -> TiktokenTokenizer:
    """Le tokenizer de GPT-2 (50 257 identifiants), sans réseau."""
    return TiktokenTokenizer(_gpt2_encoding(), {"kind": "gpt2"})


@cache
def _gpt2_encoding() -> "tiktoken.Encoding":
    import tiktoken

    ranks = ranks_from_merges(_merges())
    return tiktoken.Encoding(
        "gpt2", pat_str=_GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)}
    )


def _merges() -> str:
    return files("gpt_lightning.tokenizers").joinpath("gpt2/vocab.bpe").read_text(encoding="utf-8")


def gpt2_files() -> dict[str, str]:
    """Les fichiers de ce tokenizer tels que Hugging Face les attend : {nom: contenu}."""
    byte_of = _byte_of_character()
    character_of = {byte: character for character, byte in byte_of.items()}
    ranks = ranks_from_merges(_merges())
    vocabulary = {"".join(character_of[byte] for byte in token): rank for token, rank in ranks.items()}
    vocabulary[END_OF_TEXT] = len(ranks)
    return {"vocab.json": json.dumps(vocabulary, ensure_ascii=False), "merges.txt": _merges()}


def _byte_of_character() -> dict[str, int]:
    """Le caractère visible par lequel GPT-2 écrit chaque octet -> l'octet, dans l'ordre des 256 premiers rangs."""
    visible = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def ranks_from_merges(merges: str) -> dict[bytes, int]:
    """Les rangs (jeton en octets -> identifiant) d'un fichier de fusions au format de GPT-2.

    Le fichier écrit chaque octet par un caractère visible : les octets imprimables par eux-mêmes, les 68
    autres par les caractères qui suivent U+0100. Les 256 premiers rangs sont les octets dans cet ordre, les
    suivants les fusions dans l'ordre des lignes.
    """
    byte_of = _byte_of_character()
    ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_of.values())}
    for line in merges.split("\n"):
        if line and not line.startswith("#version"):
            ranks[bytes(byte_of[char] for char in line if char != " ")] = len(ranks)
    return ranks
