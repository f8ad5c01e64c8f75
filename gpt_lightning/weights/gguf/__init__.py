"""Le format de llama.cpp, LM Studio et transformers, lu et écrit : gpt2, llama, qwen2, qwen3.

`header` lit l'en-tête sans rien en croire, `architecture` et `names` traduisent réglages et tenseurs, `tokenizer` et
`splits` le tokenizer ; `reading` et `writing` mettent le tout bout à bout. Le paquet gguf (l'extra `gguf`) écrit, et
remet en float32 ce qui est quantifié.
"""

from gpt_lightning.weights.gguf.header import is_gguf
from gpt_lightning.weights.gguf.reading import read
from gpt_lightning.weights.gguf.writing import QUANTS, write

__all__ = ["QUANTS", "is_gguf", "read", "write"]
