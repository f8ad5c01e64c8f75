"""Le BPE de GPT-2, hors ligne : tiktoken fait le travail, le paquet apporte la table des fusions.

Source : Radford et al., « Language Models are Unsupervised Multitask Learners », 2019, section 2.2.
"""

import json
import re
from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import END_OF_TEXT
from gpt_lightning.typing import State

if TYPE_CHECKING:
    import tiktoken

# Le découpage en morceaux de GPT-2 : une contraction, un mot, un nombre, de la ponctuation, des blancs.
GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # un espace ouvre le morceau
)


# La pile de tiktoken déborde sur une suite de blancs trop longue (vu à 3 millions) : on la coupe bien avant.
LONGEST_BLANK = 10_000


def _pieces(text: str) -> list[str]:
    """Le texte, coupé dans ses suites de blancs de plus de LONGEST_BLANK ; presque toujours d'un seul morceau."""
    # une telle suite laisse huit blancs à cet échantillon : chercher dans un texte ordinaire ne coûte rien
    sampled = text[:: LONGEST_BLANK // 8]
    if not re.search(r"\s{8}", sampled):
        return [text]
    ends = [match.end() for match in re.finditer(rf"\s{{{LONGEST_BLANK}}}", text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


class TiktokenTokenizer:
    """Un encodage de tiktoken vu par le protocole `Tokenizer`.

    `state` est le dictionnaire qui permet de le retrouver (il ne contient pas la table des rangs).
    """

    def __init__(self, encoding: "tiktoken.Encoding", state: State) -> None:
        self._encoding = encoding
        self._state = state

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    @property
    def eos_id(self) -> int | None:
        return self._encoding._special_tokens.get(END_OF_TEXT)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        encode = (
            partial(self._encoding.encode, allowed_special="all")
            if special
            else self._encoding.encode_ordinary
        )
        ids, *rest = map(encode, _pieces(text))
        for more in rest:
            ids += more
        return ids

    def encode_to_numpy(self, text: str) -> Any:
        """`encode` sans passer par une liste Python : (N,) uint32. Pour les corpus, pas pour les jetons spéciaux."""
        first, *rest = [
            self._encoding.encode_to_numpy(piece, disallowed_special=()) for piece in _pieces(text)
        ]
        if not rest:
            return first
        joined, end = first.copy(), len(first)
        joined.resize(end + sum(map(len, rest)), refcheck=False)
        for ids in rest:
            joined[end : end + len(ids)] = ids
            end += len(ids)
        return joined

    def decode(self, ids: Sequence[int]) -> str:
        try:
            return self._encoding.decode(ids, errors="replace")
        except KeyError:  # certains encodages ont des identifiants sans jeton
            return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, index: int) -> bytes:
        try:
            return self._encoding.decode_single_token_bytes(index)
        except KeyError:
            return b""

    def state(self) -> State:
        return dict(self._state)


class ByteLevelTokenizer(TiktokenTokenizer):
    """Un BPE d'octets au découpage de GPT-2, avec ses propres identifiants : celui d'un dossier de Hugging Face.

    `vocabulary` donne l'identifiant de chaque jeton (ses octets, écrits par les caractères visibles de GPT-2), et c'est
    aussi l'ordre des fusions ; `special` ceux des jetons spéciaux, dont `end` finit un texte.
    """

    def __init__(self, vocabulary: dict[str, int], special: dict[str, int], end: str | None) -> None:
        import tiktoken

        byte_of = byte_of_character()
        ranks = {bytes(byte_of[char] for char in token): rank for token, rank in vocabulary.items()}
        encoding = tiktoken.Encoding(
            "byte_level", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special
        )
        state = {"kind": "byte_level", "vocabulary": vocabulary, "special": special, "end": end}
        super().__init__(encoding, state)
        self._end = None if end is None else special[end]

    @property
    def eos_id(self) -> int | None:
        return self._end

    def special_id(self, content: str) -> int | None:
        """L'identifiant du jeton spécial `content` ; None s'il ne l'a pas."""
        return self._encoding._special_tokens.get(content)

    def same_as_gpt2(self) -> bool:
        """Vrai si c'est exactement le tokenizer de GPT-2."""
        theirs = _gpt2_encoding()
        same = self._encoding._mergeable_ranks == theirs._mergeable_ranks
        return same and self._encoding._special_tokens == theirs._special_tokens


def gpt2() -> TiktokenTokenizer:
    """Le tokenizer de GPT-2 (50 257 identifiants), sans réseau."""
    return TiktokenTokenizer(_gpt2_encoding(), {"kind": "gpt2"})


def named(name: str) -> TiktokenTokenizer:
    """Un encodage de tiktoken par son nom (cl100k_base, o200k_base ...), téléchargé une fois par tiktoken.

    UserError si le nom est inconnu, ou s'il faut un réseau et qu'il n'y en a pas.
    """
    import requests
    import tiktoken

    if name not in tiktoken.list_encoding_names():
        names = ", ".join(tiktoken.list_encoding_names())
        raise UserError(f"tokenizer.name={name} : tiktoken ne connaît que {names}.")
    try:
        return TiktokenTokenizer(tiktoken.get_encoding(name), {"kind": "tiktoken", "name": name})
    except (requests.RequestException, OSError):
        raise UserError(
            f"tokenizer.name={name} : sa table n'est pas dans le cache de tiktoken et le réseau ne répond pas ; "
            f"TIKTOKEN_CACHE_DIR désigne un cache déjà rempli, tokenizer=gpt2 n'a besoin de rien."
        ) from None


@cache
def _gpt2_encoding() -> "tiktoken.Encoding":
    return encoding_from_merges("gpt2", gpt2_merges())


def gpt2_merges() -> str:
    """La table de fusions de GPT-2, telle que le paquet la porte."""
    return files("gpt_lightning.tokenizers").joinpath("gpt2/vocab.bpe").read_text(encoding="utf-8")


def encoding_from_merges(name: str, merges: str) -> "tiktoken.Encoding":
    """Un encodage au découpage de GPT-2, avec ces fusions et `<|endoftext|>` pour dernier identifiant."""
    import tiktoken

    ranks = ranks_from_merges(merges)
    return tiktoken.Encoding(
        name, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)}
    )


def huggingface_files(merges: str, marks: Sequence[str] = ()) -> dict[str, str]:
    """Les fichiers d'un BPE d'octets tels que GPT2Tokenizer de Hugging Face les attend : {nom: contenu}.

    `marks` sont des jetons spéciaux de plus, après la fin de texte.
    """
    character_of = {byte: character for character, byte in byte_of_character().items()}
    ranks = ranks_from_merges(merges)
    vocabulary = {"".join(character_of[byte] for byte in token): rank for token, rank in ranks.items()}
    for mark in (END_OF_TEXT, *marks):
        vocabulary[mark] = len(vocabulary)
    return {"vocab.json": json.dumps(vocabulary, ensure_ascii=False), "merges.txt": merges}


def byte_of_character() -> dict[str, int]:
    """Le caractère visible par lequel GPT-2 écrit chaque octet -> l'octet, dans l'ordre des 256 premiers rangs."""
    visible = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def ranks_from_merges(merges: str) -> dict[bytes, int]:
    """Les rangs (jeton en octets -> identifiant) d'un fichier de fusions au format de GPT-2.

    Le fichier écrit chaque octet par un caractère visible : les octets imprimables par eux-mêmes, les 68
    autres par les caractères qui suivent U+0100. Les 256 premiers rangs sont les octets dans cet ordre, les
    suivants les fusions dans l'ordre des lignes. UserError si une ligne n'est pas deux jetons déjà connus.
    """
    byte_of = byte_of_character()
    ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_of.values())}
    for number, line in enumerate(merges.split("\n"), start=1):
        if line and not line.startswith("#version"):
            pair = [bytes(byte_of.get(char, 0) for char in half) for half in line.split(" ")]
            if len(pair) != 2 or pair[0] not in ranks or pair[1] not in ranks:
                raise UserError(f"Les fusions du tokenizer sont abîmées, ligne {number} : {line[:40]!r}.")
            ranks.setdefault(pair[0] + pair[1], len(ranks))
    return ranks
