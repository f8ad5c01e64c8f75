"""Le tokenizer d'un dossier de Hugging Face : celui de ses fichiers, jamais deviné d'après une taille."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpt_lightning.tokenizers import ByteLevelTokenizer, Tokenizer, gpt2
from gpt_lightning.typing import JsonObject
from gpt_lightning.weights.untrusted import read_json, read_text

JSON, VOCABULARY, MERGES, OPTIONS = "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"


def read(folder: Path, vocab_size: int) -> tuple[Tokenizer | None, str]:
    """Lit le tokenizer : (lui, "") ; ou (None, pourquoi) si le dossier n'en a pas, ou pas un BPE d'octets comme GPT-2.

    UserError si un des fichiers n'est pas du JSON.
    """
    options = read_json(folder / OPTIONS) if (folder / OPTIONS).exists() else {}
    if options.get("add_prefix_space"):
        return None, "il ajoute une espace au début du texte"
    special: dict[str, int] = {}
    if (folder / JSON).exists():
        values = read_json(folder / JSON)
        if why_not := _unlike_gpt2(values):
            return None, why_not
        vocabulary, merges = values["model"]["vocab"], values["model"]["merges"]
        special = {token["content"]: token["id"] for token in values.get("added_tokens") or []}
    elif (folder / VOCABULARY).exists() and (folder / MERGES).exists():
        vocabulary = read_json(folder / VOCABULARY)
        lines = read_text(folder / MERGES).split("\n")
        merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    else:
        return None, f"il n'y a ni {JSON}, ni {VOCABULARY} avec {MERGES}"
    return _build(vocabulary, merges, special, options, vocab_size)


def _build(
    vocabulary: JsonObject,
    merges: Iterable[str | Sequence[str]],
    special: dict[str, int],
    options: JsonObject,
    vocab_size: int,
) -> tuple[Tokenizer | None, str]:
    try:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
        merged = [left + right for left, right in pairs]
        ids = [vocabulary[token] for token in merged]
        outside = set(vocabulary) - set(merged)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None, "son vocabulaire et ses fusions ne vont pas ensemble"
    if ids != sorted(ids):  # un jeton y vaut son rang : sans cela, les fusions changeraient d'ordre
        return None, "ses fusions ne sont pas dans l'ordre de leurs identifiants"
    special |= {token: vocabulary[token] for token in outside if len(token) > 1}
    if max([*vocabulary.values(), *special.values()]) >= vocab_size:
        return None, f"il a plus d'identifiants que le modèle ({vocab_size})"
    pieces = {token: rank for token, rank in vocabulary.items() if token not in special}
    ends = [_content(options.get(f"{role}_token")) for role in ("eos", "bos")]
    end = next((token for token in [*ends, *special] if token in special), None)
    tokenizer = ByteLevelTokenizer(pieces, special, end)
    return (gpt2() if tokenizer.same_as_gpt2() else tokenizer), ""


def _content(token: JsonObject | str | None) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _unlike_gpt2(values: JsonObject) -> str | None:
    """Ce que ce tokenizer.json fait et que le découpage de GPT-2 ne fait pas ; None s'il est le même."""
    model, before = values.get("model") or {}, values.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        return f"c'est un {model.get('type') or 'genre inconnu'}, pas un BPE"
    if values.get("normalizer"):
        return "il normalise le texte"
    if before.get("type") != "ByteLevel" or not before.get("use_regex", True):
        return f"il coupe le texte autrement que GPT-2 ({json.dumps(before.get('type'))})"
    return "il ajoute une espace au début du texte" if before.get("add_prefix_space") else None
