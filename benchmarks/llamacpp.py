"""llama.cpp à côté de nous : un modèle exporté en GGUF, lu par llama-cpp-python, que `make bench` construit ici.

La boucle appelle la bibliothèque directement, un jeton par passe, le plus probable : la classe Llama de ce paquet
ferait en Python, entre deux passes, un travail que llama.cpp ne fait pas payer.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from gpt_lightning.model import GPTModel
from gpt_lightning.tokenizers import gpt2
from gpt_lightning.weights.exporting import export

QUANTS = {
    "fp32": "f32",
    "bf16": "bf16",
    "int8": "q8_0",
    "int4": "q4_0",
}  # notre type : le leur, le plus proche
MISSING = (
    "" if find_spec("llama_cpp") else "llama-cpp-python n'est pas là : sa règle du Makefile dit pourquoi"
)


class LlamaCpp:
    """`model`, ses matrices en `quant`, écrit dans `folder` puis lu par llama.cpp ; autant de threads que torch."""

    def __init__(self, model: GPTModel, quant: str, folder: Path) -> None:
        import llama_cpp

        path, threads = folder / f"{quant}.gguf", torch.get_num_threads()
        export(model, gpt2(), path, "gguf", quant=quant)
        self._library, self._vocabulary = llama_cpp, model.config.vocab_size
        self._llama = llama_cpp.Llama(
            str(path),
            n_ctx=model.config.context_length,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def generate(self, prompt: list[int], tokens: int) -> list[int]:
        """Les `tokens` jetons qui suivent `prompt`, le plus probable à chaque fois."""
        library, context = self._library, self._llama._ctx.ctx
        library.llama_memory_clear(library.llama_get_memory(context), True)
        unread, made = prompt, []
        for _ in range(tokens):
            ids = (library.llama_token * len(unread))(*unread)
            if library.llama_decode(context, library.llama_batch_get_one(ids, len(unread))):
                raise RuntimeError("llama_decode a échoué")
            logits = np.ctypeslib.as_array(library.llama_get_logits_ith(context, -1), (self._vocabulary,))
            unread = [int(logits.argmax())]
            made += unread
        return made
