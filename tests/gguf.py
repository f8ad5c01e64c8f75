"""Un GGUF écrit octet par octet, sans le paquet gguf, que l'on abîme comme on veut ; ou un autre, récrit."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gpt_lightning.tokenizers.bpe import byte_of_character

CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
U32, F32, BOOL, TEXT, LIST = 4, 6, 7, 8, 9
WIDTH, HEADS, LAYERS, CONTEXT, HIDDEN = 8, 2, 1, 16, 16
TOKENS = [*byte_of_character(), "Ġl", "Ġle", "<|endoftext|>"]


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def packed(kind: int, value) -> bytes:
    """Une valeur ; une liste est (genre, valeurs)."""
    if kind == TEXT:
        return text(value)
    if kind == LIST:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(packed(inner, one) for one in values)
    return struct.pack(f"<{CODES[kind]}", value)


@dataclass
class Gguf:
    """Ce qu'un GGUF dit ; `n_values` et `n_tensors` mentent si on les donne."""

    values: dict[str, tuple] = field(default_factory=dict)
    tensors: dict[str, list] = field(default_factory=dict)  # nom : [dimensions, type, décalage, octets]
    magic: bytes = b"GGUF"
    version: int = 3
    n_values: int | None = None
    n_tensors: int | None = None
    again: bytes = b""  # des réglages de plus, déjà écrits

    def head(self) -> bytes:
        counts = (
            len(self.tensors) if self.n_tensors is None else self.n_tensors,
            len(self.values) if self.n_values is None else self.n_values,
        )
        raw = self.magic + struct.pack("<I", self.version) + struct.pack("<QQ", *counts)
        for key, (kind, value) in self.values.items():
            raw += text(key) + struct.pack("<I", kind) + (value if kind > 12 else packed(kind, value))
        raw += self.again
        for name, (dimensions, kind, offset, _) in self.tensors.items():
            shape = struct.pack(f"<{len(dimensions)}Q", *dimensions)
            raw += text(name) + struct.pack("<I", len(dimensions)) + shape + struct.pack("<IQ", kind, offset)
        return raw + bytes(-len(raw) % 32)

    def bytes(self) -> bytes:
        raw = bytearray(self.head())
        begins = len(raw)
        for _, _, offset, data in self.tensors.values():
            if offset < 1 << 30:
                raw += bytes(max(0, begins + offset + len(data) - len(raw)))
                raw[begins + offset : begins + offset + len(data)] = data
        return bytes(raw)


def shapes() -> dict[str, tuple[int, ...]]:
    """Les tenseurs du petit Llama, leurs formes comme torch les écrit."""
    block = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (HIDDEN, WIDTH),
        "ffn_up": (HIDDEN, WIDTH),
        "ffn_down": (WIDTH, HIDDEN),
    }
    return {
        "token_embd.weight": (len(TOKENS), WIDTH),
        "output_norm.weight": (WIDTH,),
        **{f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in block.items()},
    }


def small() -> Gguf:
    """Un petit Llama en float32, et un BPE d'octets de deux fusions."""
    generator = torch.Generator().manual_seed(0)
    file, offset = Gguf(), 0
    file.values = {
        "general.architecture": (TEXT, "llama"),
        "llama.context_length": (U32, CONTEXT),
        "llama.embedding_length": (U32, WIDTH),
        "llama.block_count": (U32, LAYERS),
        "llama.feed_forward_length": (U32, HIDDEN),
        "llama.attention.head_count": (U32, HEADS),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.freq_base": (F32, 10_000.0),
        "tokenizer.ggml.model": (TEXT, "gpt2"),
        "tokenizer.ggml.pre": (TEXT, "gpt-2"),
        "tokenizer.ggml.tokens": (LIST, (TEXT, list(TOKENS))),
        "tokenizer.ggml.token_type": (LIST, (5, [1] * (len(TOKENS) - 1) + [3])),
        "tokenizer.ggml.merges": (LIST, (TEXT, ["Ġ l", "Ġl e"])),
        "tokenizer.ggml.eos_token_id": (U32, len(TOKENS) - 1),
    }
    for name, shape in shapes().items():
        data = torch.randn(shape, generator=generator).numpy().tobytes()
        file.tensors[name] = [shape[::-1], 0, offset, data]
        offset += -(-len(data) // 32) * 32
    return file


def rewrite(source: Path, to: Path, code: int, blocks_of: Callable[[str, tuple[int, ...]], object]) -> None:
    """Récrit un GGUF de Llama dans `to`, où les tenseurs que `blocks_of` (nom, forme) donne sont du type `code`."""
    import gguf

    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(to, "llama")
    for key, setting in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            inner = setting.types[1] if len(setting.types) > 1 else None
            writer.add_key_value(key, setting.contents(), setting.types[0], inner)
    for tensor in reader.tensors:
        shape = tuple(int(length) for length in tensor.shape[::-1])
        blocks = blocks_of(tensor.name, shape)
        if blocks is None:
            writer.add_tensor(tensor.name, np.array(tensor.data).reshape(shape))
        else:
            writer.add_tensor(tensor.name, blocks, raw_dtype=gguf.GGMLQuantizationType(code))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
