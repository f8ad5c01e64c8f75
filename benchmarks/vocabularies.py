"""Combien de jetons par caractère chaque tokenizer écrit : `python benchmarks/vocabularies.py TEXTE ...`.

`trained` et `words_v2` sont appris sur le texte mesuré.
"""

import sys
from pathlib import Path

from gpt_lightning import tokenizers
from gpt_lightning.tokenizers.bpe import gpt2

if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        text = path.read_text(encoding="utf-8")
        learned = {
            "trained, 8 192": tokenizers.TrainedTokenizer(size=8192),
            "words_v2": tokenizers.SimpleTokenizerV2(),
            "characters": tokenizers.CharacterTokenizer(),
        }
        every = {"gpt2": gpt2(), "bytes": tokenizers.ByteTokenizer()}
        every |= {name: one.fit([text]) for name, one in learned.items()}
        for name, tokenizer in every.items():
            print(f"{path.name}  {name:<15} {len(tokenizer.encode(text)) / len(text):.3f}")
