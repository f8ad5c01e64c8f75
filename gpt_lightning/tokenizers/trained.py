"""Un BPE d'octets appris sur le corpus : par Hugging Face `tokenizers`, ou par une page de Python pour comprendre.

Source : Sennrich, Haddow et Birch, « Neural Machine Translation of Rare Words with Subword Units », 2016.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import END_OF_TEXT
from gpt_lightning.tokenizers.bpe import (
    GPT2_PATTERN,
    TiktokenTokenizer,
    byte_of_character,
    encoding_from_merges,
    ranks_from_merges,
)


class TrainedTokenizer(TiktokenTokenizer):
    """256 octets, `size` - 257 fusions apprises sur l'entraînement, et la fin de texte ; même découpage que GPT-2.

    L'apprentissage est celui de Hugging Face `tokenizers`, l'usage celui de tiktoken.
    """

    fit_on = "train"

    def __init__(self, size: int = 8192, merges: str | None = None) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 257:
            raise UserError(
                f"tokenizer.size={size!r} : il faut un entier d'au moins 257 (256 octets, fin de texte)."
            )
        self.size, self._merges = size, merges
        if merges is not None:
            state = {"kind": "trained", "size": size, "merges": merges}
            super().__init__(encoding_from_merges("trained", merges), state)

    @property
    def vocab_size(self) -> int:
        return 0 if self._merges is None else super().vocab_size

    def fit(self, texts: Iterable[str]) -> Self:
        """Le tokenizer appris sur `texts`."""
        return type(self)(self.size, fast_merges(texts, self.size - 257))

    def save(self, folder: Path) -> list[Path]:
        """Écrit tokenizer.json (Hugging Face) et vocab.tiktoken (rangs de tiktoken) dans `folder`."""
        assert self._merges is not None  # il a appris
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        character_of = {byte: character for character, byte in byte_of_character().items()}
        ranks = ranks_from_merges(self._merges)
        vocabulary = {"".join(character_of[byte] for byte in token): rank for token, rank in ranks.items()}
        halves = (line.partition(" ") for line in self._merges.split("\n") if line)
        pairs = [(left, right) for left, _, right in halves]
        fast = Tokenizer(models.BPE(vocabulary, pairs))
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast.decoder = decoders.ByteLevel()
        fast.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "tokenizer.json", folder / "vocab.tiktoken"]
        fast.save(str(paths[0]))
        lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
        paths[1].write_text("".join(lines), encoding="ascii")
        return paths


def fast_merges(texts: Iterable[str], n_merges: int) -> str:
    """`n_merges` fusions apprises par Hugging Face `tokenizers`, une par ligne."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(texts, trainer)
    merges = json.loads(fast.to_str())["model"]["merges"]
    return "\n".join(pair if isinstance(pair, str) else " ".join(pair) for pair in merges)


def teaching_merges(text: str, n_merges: int) -> str:
    """Les mêmes fusions, en Python : à chaque tour, la paire voisine la plus fréquente devient un jeton.

    Lent (chaque tour relit tous les mots), mais tout est là. À égalité, la paire aux plus petits identifiants.
    """
    import regex

    character_of = {byte: character for character, byte in byte_of_character().items()}
    identifier = {character: i for i, character in enumerate(sorted(character_of.values()))}
    pieces = Counter(regex.findall(GPT2_PATTERN, text))
    words = [([character_of[byte] for byte in piece.encode()], count) for piece, count in pieces.items()]
    merges: list[str] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words:
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], identifier[pair[0]], identifier[pair[1]]))
        identifier.setdefault(best[0] + best[1], len(identifier))
        merges.append(" ".join(best))
        words = [(_merge_pair(word, best), count) for word, count in words]
    return "\n".join(merges)


def _merge_pair(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for token in word:
        if out and (out[-1], token) == pair:
            out[-1] += token
        else:
            out.append(token)
    return out
