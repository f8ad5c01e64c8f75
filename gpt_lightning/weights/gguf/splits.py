"""Les découpages que GGUF sait nommer : chaque `tokenizer.ggml.pre`, et le `pre_tokenizer` de Hugging Face qu'il est.

Source : https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

from collections.abc import Iterator
from typing import NamedTuple

from gpt_lightning.typing import JsonObject
from gpt_lightning.weights.huggingface_tokenizer import BYTE_LEVEL

NFC = {"type": "NFC"}
_CASED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_LLAMA3 = rf"{_CASED}|{_WORDS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
_QWEN2 = rf"{_CASED}|{_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
_TEKKEN = rf"{_LOWER}|{_UPPER}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"


class Split(NamedTuple):
    """Un découpage : `begins` si un texte commence par le jeton de début quand le fichier n'en dit rien."""

    before: JsonObject
    ignore_merges: bool = False
    begins: bool = False
    normalizer: JsonObject | None = None


def _cut(pattern: str) -> JsonObject:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**BYTE_LEVEL, "use_regex": False}]}


_DIGITS = {
    "type": "Sequence",
    "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
}
SPLITS = {
    "gpt-2": Split(BYTE_LEVEL),
    "smollm": Split(_DIGITS),
    "qwen2": Split(_cut(_QWEN2), normalizer=NFC),
    "llama-bpe": Split(_cut(_LLAMA3), ignore_merges=True, begins=True),
    "smaug-bpe": Split(_cut(_LLAMA3)),
    "tekken": Split(_cut(_TEKKEN), ignore_merges=True, begins=True),
}
# d'autres noms des mêmes
ALIASES = {
    **dict.fromkeys(("llama3", "llama-v3", "falcon3", "pixtral"), "llama-bpe"),
    **dict.fromkeys(("deepseek-r1-qwen", "megrez"), "qwen2"),
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "minerva-7b"), "smollm"),
    **dict.fromkeys(("phi-2", "mpt", "olmo", "jais", "trillion", "roberta-bpe"), "gpt-2"),
}


def name_of(values: JsonObject) -> str | None:
    """Le nom du découpage de ce tokenizer.json ; None si GGUF n'en a pas."""
    normalizer, ignores = values.get("normalizer"), bool(values["model"].get("ignore_merges"))
    for name, split in SPLITS.items():
        same = list(_steps(split.before)) == list(_steps(values.get("pre_tokenizer")))
        if same and ignores == split.ignore_merges and normalizer in (None, split.normalizer):
            return name
    return None


def _steps(before: object) -> Iterator[tuple[object, ...]]:
    """Les étapes d'un découpage, sans ce qui n'y change rien."""
    step = before if isinstance(before, dict) else {}
    kind = step.get("type")
    if kind == "Sequence":
        for part in step["pretokenizers"]:
            yield from _steps(part)
    elif kind == "ByteLevel":
        yield kind, step.get("use_regex", True), step.get("add_prefix_space", True)
    elif kind == "Split":
        yield kind, step["pattern"].get("Regex"), step.get("behavior"), step.get("invert")
    else:
        yield kind, step.get("individual_digits")
