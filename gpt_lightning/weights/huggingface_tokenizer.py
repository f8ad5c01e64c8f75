"""Le tokenizer d'un dossier de Hugging Face : celui de ses fichiers, jamais deviné d'après une taille."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import ByteLevelTokenizer, HuggingFaceTokenizer, Tokenizer, gpt2
from gpt_lightning.tokenizers.bpe import byte_of_character
from gpt_lightning.tokenizers.chat import MARKS
from gpt_lightning.tokenizers.huggingface import MOST_CHARACTERS, parse
from gpt_lightning.typing import JsonObject
from gpt_lightning.weights.untrusted import read_json, read_text

JSON, VOCABULARY, MERGES, OPTIONS = "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"
# ce que tokenizer_config.json ne dit pas, d'autres fichiers le disent
NAMES, GENERATION, MODEL = "special_tokens_map.json", "generation_config.json", "config.json"
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
GPT2_NAMES = ("GPT2Tokenizer", "GPT2TokenizerFast", "gpt2")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
TOO_MANY = "il a plus d'identifiants que le modèle ({})"
# d'un jeton ajouté : s'il est autre, l'encodage de GPT-2 ne le sait pas
PLAIN = {"special": True, "single_word": False, "lstrip": False, "rstrip": False}


def read(folder: Path, vocab_size: int) -> tuple[Tokenizer | None, str]:
    """Lit le tokenizer : (lui, "") ; ou (None, pourquoi) si le dossier n'en a pas, ou pas un qui se lise.

    UserError si un des fichiers n'est pas du JSON.
    """
    options = {**_optional(folder / NAMES), **_optional(folder / OPTIONS)}
    ends = [_optional(folder / name).get("eos_token_id") for name in (GENERATION, MODEL)]
    try:
        if (folder / JSON).exists():
            if (folder / JSON).stat().st_size > 4 * MOST_CHARACTERS:
                raise UserError(f"son {JSON} est bien trop grand")
            text = read_text(folder / JSON)
        elif (folder / VOCABULARY).exists() and (folder / MERGES).exists():
            text = _gpt2_file(folder, options)
        else:
            raise UserError(f"il n'y a ni {JSON}, ni {VOCABULARY} avec {MERGES}")
        tokenizer = build(text, options, ends, vocab_size)
    except UserError as error:
        return None, str(error)
    if tokenizer.vocab_size > vocab_size:
        return None, TOO_MANY.format(vocab_size)
    return tokenizer, ""


def _optional(path: Path) -> JsonObject:
    return read_json(path) if path.exists() else {}


def _gpt2_file(folder: Path, options: JsonObject) -> str:
    """Le tokenizer.json d'un GPT-2 qui n'a que son vocabulaire et ses fusions."""
    kind = options.get("tokenizer_class") or _optional(folder / MODEL).get("model_type") or GPT2_NAMES[0]
    if kind not in GPT2_NAMES:
        raise UserError(f"il n'y a pas de {JSON}, et {str(kind)[:40]} ne coupe pas le texte comme GPT-2")
    vocabulary = read_json(folder / VOCABULARY)
    lines = read_text(folder / MERGES).split("\n")
    merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    merged = {line.replace(" ", "") for line in merges}
    added = sorted(
        (index, token) for token, index in vocabulary.items() if len(token) > 1 and token not in merged
    )
    before = {**BYTE_LEVEL, "add_prefix_space": bool(options.get("add_prefix_space"))}
    values = {
        "version": "1.0",
        "added_tokens": [
            {"id": index, "content": token, "normalized": False, **PLAIN} for index, token in added
        ],
        "pre_tokenizer": before,
        "decoder": BYTE_LEVEL,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }
    return json.dumps(values, ensure_ascii=False)


def build(text: str, options: JsonObject, ends: list[object], vocab_size: int) -> Tokenizer:
    """Le tokenizer du tokenizer.json `text`, dont `options` disent les jetons spéciaux, et `ends` d'autres fins."""
    values = parse(text)
    if len(values["model"].get("vocab") or ()) > vocab_size:  # avant d'en construire des millions
        raise UserError(TOO_MANY.format(vocab_size))
    tokenizer = HuggingFaceTokenizer(text)
    names = [name for name in _names(options) if tokenizer.special_id(name) is None]
    room = vocab_size - tokenizer.vocab_size
    unknown = [name for name in names if not tokenizer.ids_of([name])]
    tokenizer = tokenizer.with_special(
        [name for name in names if name not in unknown or len(unknown) <= room]
    )
    end = _content(options.get("eos_token"))
    if end is None or not tokenizer.ids_of([end]):
        end = next((token for index in ends if (token := tokenizer.content_of(_first(index)))), None)
    start = _content(options.get("bos_token")) if options.get("add_bos_token") else None
    if not {"add_bos_token", "add_eos_token"} & options.keys():
        start = tokenizer.opening_token()  # celui que le fichier lui-même met devant un texte
    start = start if start is not None and tokenizer.ids_of([start]) else None
    if start is None and not names and _is_like_gpt2(values):
        special = {token["content"]: token["id"] for token in values.get("added_tokens") or []}
        return _byte_level(values["model"]["vocab"], special, end)
    return tokenizer.between(start, end)


def _names(options: JsonObject) -> Iterator[str]:
    """Les jetons spéciaux que les options nomment, et que transformers ajoute au tokenizer s'il ne les a pas."""
    named = [options.get(f"{role}_token") for role in ROLES]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = options.get(key)
        named += more if isinstance(more, list) else []
    yield from dict.fromkeys(content for token in named if (content := _content(token)))


def _content(token: object) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _first(index: object) -> object:
    """Le premier d'une liste de fins, d'après laquelle un modèle s'arrête."""
    return index[0] if isinstance(index, list) and index else index


def _is_like_gpt2(values: JsonObject) -> bool:
    """Vrai si ce tokenizer.json est un BPE d'octets qui coupe le texte comme GPT-2, et rien de plus."""
    model, before = values["model"], values.get("pre_tokenizer") or {}
    after = values.get("decoder") or {}
    return (
        model.get("type") == "BPE"
        and not any(
            model.get(key) for key in ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
        )
        and not values.get("normalizer")
        and before.get("type") == after.get("type") == "ByteLevel"
        and before.get("use_regex", True)
        and not before.get("add_prefix_space")
        and _is_ordered(model["vocab"], model["merges"], values.get("added_tokens") or [])
    )


def _is_ordered(
    vocabulary: JsonObject, merges: Sequence[str | Sequence[str]], added: Sequence[JsonObject]
) -> bool:
    """Vrai si un jeton vaut son rang, octets compris, et si chaque jeton ajouté est spécial, sans autre règle."""
    merged = ["".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in merges]
    ids = [vocabulary[token] for token in merged]
    contents = {token["content"] for token in added}
    return (
        ids == sorted(set(ids))  # sans cela, les fusions changeraient d'ordre
        and set(vocabulary) - set(merged) - contents == byte_of_character().keys()
        and not contents & {*merged, *byte_of_character(), *MARKS}  # des jetons de chatml à lui servent
        and all({key: token.get(key, value) for key, value in PLAIN.items()} == PLAIN for token in added)
    )


def _byte_level(vocabulary: JsonObject, special: dict[str, int], end: str | None) -> Tokenizer:
    pieces = {token: rank for token, rank in vocabulary.items() if token not in special}
    tokenizer = ByteLevelTokenizer(pieces, special, end)
    return gpt2() if tokenizer.same_as_gpt2() else tokenizer
