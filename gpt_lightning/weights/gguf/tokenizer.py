"""Le tokenizer d'un GGUF, dans les deux sens : ses jetons, leurs genres, ses fusions, et le nom de son découpage.

Un GGUF ne dit pas comment le texte se coupe avant les fusions : il le nomme (splits.py). Un nom que l'on n'a pas est
refusé, car un autre découpage donnerait d'autres jetons. Un SentencePiece (« llama ») n'a pas de fusions : elles se
déduisent des notes de ses jetons.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers import (
    END_OF_TEXT,
    ChatTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
    huggingface_files,
    merges_of,
)
from gpt_lightning.tokenizers.bpe import ByteLevelTokenizer
from gpt_lightning.typing import JsonObject
from gpt_lightning.weights import huggingface_tokenizer
from gpt_lightning.weights.gguf.header import Header
from gpt_lightning.weights.gguf.splits import ALIASES, SPLITS, Split, name_of
from gpt_lightning.weights.huggingface_tokenizer import BYTE_LEVEL

PREFIX = "tokenizer.ggml."
BPE, SENTENCEPIECE = "gpt2", "llama"
# caractères d'un morceau de SentencePiece dont on cherche les fusions ; il en a 16 au plus
LONGEST_PIECE = 64
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_MARK, _SPACE = "▁", {"String": " "}
_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": _MARK},
        {"type": "Replace", "pattern": _SPACE, "content": _MARK},
    ],
}
_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": _MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


class Type(IntEnum):
    """Le genre d'un jeton."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    ADDED = 4
    UNUSED = 5
    BYTE = 6


class Table(NamedTuple):
    """Ce qu'un GGUF dit d'un tokenizer."""

    model: str
    tokens: list[str]
    types: list[Type]
    merges: list[str]
    pre: str
    scores: list[float]


def options(header: Header) -> JsonObject:
    """Les jetons de début, de fin, inconnu et de remplissage, comme tokenizer_config.json les dit."""
    tokens = header.texts(f"{PREFIX}tokens")
    sentencepiece = header.get(f"{PREFIX}model", str, "") == SENTENCEPIECE
    defaults = {"bos": 1, "eos": 2, "unk": 0} if sentencepiece else {}
    named: JsonObject = {}
    for role, theirs in ROLES.items():
        index = header.get(f"{PREFIX}{theirs}_token_id", int, defaults.get(role, len(tokens)))
        if 0 <= index < len(tokens):
            named[f"{role}_token"] = tokens[index]
    begins = sentencepiece or _split(header).begins
    return {**named, "add_bos_token": header.get(f"{PREFIX}add_bos_token", bool, begins)}


def _split(header: Header) -> Split:
    """Le découpage que ce fichier nomme. UserError s'il n'est pas un de ceux que l'on sait."""
    name = header.get(f"{PREFIX}pre", str, "")
    name = ALIASES.get(name, name)
    if name not in SPLITS:
        raise UserError(
            f"son découpage ({PREFIX}pre={name[:40]!r}) n'est pas un de ceux que l'on sait, {', '.join(SPLITS)}"
        )
    return SPLITS[name]


def read(header: Header, vocab_size: int) -> tuple[Tokenizer | None, str]:
    """Lit le tokenizer : (lui, "") ; ou (None, pourquoi) si ce fichier n'en a pas, ou pas un qui se lise."""
    try:
        values = _values(header)
        if len(header.texts(f"{PREFIX}tokens")) > vocab_size:
            raise UserError(huggingface_tokenizer.TOO_MANY.format(vocab_size))
        text = json.dumps(values, ensure_ascii=False)
        return huggingface_tokenizer.build(text, options(header), [], vocab_size), ""
    except UserError as error:
        return None, str(error)


def _values(header: Header) -> JsonObject:
    """Le tokenizer.json que ce GGUF décrit."""
    kind, tokens = header.get(f"{PREFIX}model", str, ""), header.texts(f"{PREFIX}tokens")
    types = header.get(f"{PREFIX}token_type", list, [Type.NORMAL] * len(tokens))
    if not tokens or len(types) != len(tokens):
        raise UserError("ses jetons n'y sont pas, ou pas tous leurs genres")
    named = max((index + 1 for index, kind in enumerate(types) if kind != Type.UNUSED), default=0)
    tokens, types = tokens[:named], types[:named]  # le reste remplit le vocabulaire
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise UserError("un de ses jetons y est deux fois")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": token, "special": kind != Type.ADDED, **plain}
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (Type.CONTROL, Type.ADDED, Type.UNKNOWN)
    ]
    model: JsonObject = {"type": "BPE", "vocab": vocabulary}
    if kind == BPE:
        split = _split(header)
        model |= {"merges": header.texts(f"{PREFIX}merges"), "ignore_merges": split.ignore_merges}
        rest = {"normalizer": split.normalizer, "pre_tokenizer": split.before, "decoder": BYTE_LEVEL}
    elif kind == SENTENCEPIECE:
        scores = header.get(f"{PREFIX}scores", list, [])
        unknown = next(
            (token for token, kind in zip(tokens, types, strict=True) if kind == Type.UNKNOWN), None
        )
        model |= {"merges": merges_from(tokens, scores), "unk_token": unknown}
        model |= {"fuse_unk": True, "byte_fallback": True}
        if not header.get(f"{PREFIX}add_space_prefix", bool, True):
            raise UserError("c'est un SentencePiece sans espace devant le texte (add_space_prefix)")
        rest = {"normalizer": _NORMALIZER, "pre_tokenizer": None, "decoder": _DECODER}
    else:
        raise UserError(
            f"c'est un {kind[:40]!r}, et non un BPE d'octets ({BPE}) ou un SentencePiece ({SENTENCEPIECE})"
        )
    return {"version": "1.0", "added_tokens": added, **rest, "model": model}


def merges_from(tokens: Sequence[str], scores: Sequence[object]) -> list[list[str]]:
    """Les fusions d'un SentencePiece : deux morceaux se joignent en celui dont la note est la meilleure."""
    if len(scores) < len(tokens) or not all(isinstance(score, float) for score in scores):
        raise UserError("il n'a pas une note par jeton (scores)")
    rank = {token: index for index, token in enumerate(tokens)}
    pairs = [
        (-score, rank[token[:cut]], rank[token[cut:]])
        for token, score in zip(tokens, scores, strict=False)
        if isinstance(score, float) and len(token) <= LONGEST_PIECE
        for cut in range(1, len(token))
        if token[:cut] in rank and token[cut:] in rank
    ]
    return [[tokens[left], tokens[right]] for _, left, right in sorted(pairs)]


def write(tokenizer: Tokenizer, vocab_size: int) -> Table:
    """Ce qu'un GGUF dit de ce tokenizer, `vocab_size` jetons en tout.

    UserError, qui dit ce qu'il faudrait, s'il ne sait pas le dire.
    """
    values = file_of(tokenizer)
    model, added = values["model"], values.get("added_tokens") or []
    if any(token.get(rule) for token in added for rule in ("single_word", "lstrip", "rstrip")):
        raise _unsaid("un de ses jetons ajoutés prend les espaces voisines, ou ne va qu'entre deux mots")
    vocabulary: dict[str, int] = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    tokens = {index: token for token, index in vocabulary.items()}
    types = dict.fromkeys(tokens, Type.NORMAL)
    types |= {token["id"]: Type.CONTROL if token.get("special") else Type.ADDED for token in added}
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    scores: list[float] = []
    if model.get("byte_fallback"):
        kind, pre, scores = SENTENCEPIECE, "default", _scores(values, merges, tokens, types)
        merges = []
    else:
        kind, pre = BPE, name_of(values) or ""
        if not pre or (values.get("decoder") or {}).get("type") != "ByteLevel":
            raise _unsaid("il coupe le texte d'une façon que GGUF ne sait pas nommer")
    fill = range(vocab_size)
    return Table(
        kind,
        [tokens.get(index, f"[PAD{index}]") for index in fill],
        [types.get(index, Type.UNUSED) for index in fill],
        [" ".join(pair) for pair in merges],
        pre,
        scores and [scores[index] if index < len(scores) else 0.0 for index in fill],
    )


def _unsaid(why: str) -> UserError:
    return UserError(
        f"Ce tokenizer ne s'écrit pas en GGUF : {why} ; tokenizer=trained et tokenizer=gpt2 s'y écrivent, et "
        f"format=safetensors garde celui-ci."
    )


def file_of(tokenizer: Tokenizer) -> JsonObject:
    """Le tokenizer.json de ce tokenizer, où deux jetons de fusions sont une liste ou un texte."""
    base = tokenizer.base if isinstance(tokenizer, ChatTokenizer) else tokenizer
    if isinstance(base, HuggingFaceTokenizer):
        values: JsonObject = json.loads(base.file())
        if values["model"].get("type", "BPE") != "BPE":
            raise _unsaid(f"c'est un {values['model']['type']}, et non un BPE")
        return values
    if (merges := merges_of(base)) is not None:
        vocabulary = json.loads(huggingface_files(merges)["vocab.json"])
        special = {END_OF_TEXT: vocabulary[END_OF_TEXT]}
        lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
    elif isinstance(base, ByteLevelTokenizer):
        state = base.state()
        vocabulary, special = state["vocabulary"], state["special"]
        lines = list(_merges_of_ranks(vocabulary))
    else:
        raise _unsaid(f"un GGUF n'a que des BPE, et tokenizer={base.state()['kind']} n'en est pas un")
    special = {**special, **dict(_marks(tokenizer))}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": index, "content": content, "special": True, **plain} for content, index in special.items()
    ]
    model = {"type": "BPE", "vocab": vocabulary, "merges": lines}
    return {"added_tokens": added, "pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL, "model": model}


def _marks(tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """Les jetons de chatml que ce tokenizer ajoute à sa base, et leurs identifiants."""
    if isinstance(tokenizer, ChatTokenizer) and tokenizer.adds:
        for index in (tokenizer.start_id, tokenizer.eos_id):
            yield tokenizer.token_bytes(index).decode(), index


def _merges_of_ranks(vocabulary: Mapping[str, int]) -> Iterator[str]:
    """Les fusions d'un BPE dont les identifiants disent l'ordre : les deux derniers morceaux de chaque jeton."""
    for token, rank in sorted(vocabulary.items(), key=lambda pair: pair[1]):
        parts = list(token)
        while len(parts) > 2:
            ranks = [
                vocabulary.get(left + right, rank) for left, right in zip(parts, parts[1:], strict=False)
            ]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] >= rank:
                raise _unsaid("ses fusions ne se déduisent pas de l'ordre de ses jetons")
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            yield " ".join(parts)


def _scores(
    values: JsonObject, merges: list[list[str]], tokens: dict[int, str], types: dict[int, Type]
) -> list[float]:
    """Les notes d'un SentencePiece, d'après l'ordre de ses fusions, et le genre de ses jetons.

    UserError si ces notes ne redonnent pas ces fusions.
    """
    rest = (values.get("normalizer"), values.get("pre_tokenizer"), values.get("decoder"))
    if rest != (_NORMALIZER, None, _DECODER) or sorted(tokens) != list(range(len(tokens))):
        raise _unsaid("c'est un SentencePiece qui ne lit pas le texte comme celui de Llama 2")
    unknown = values["model"].get("unk_token")
    types |= {index: Type.UNKNOWN for index, token in tokens.items() if token == unknown}
    types |= {
        index: Type.BYTE for index, token in tokens.items() if len(token) == 6 and token.startswith("<0x")
    }
    first: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        first.setdefault(left + right, rank)
    ordered = [tokens[index] for index in range(len(tokens))]
    ranks, pairs = [first[left + right] for left, right in merges], set(map(tuple, merges))
    scores = [-float(first.get(token, len(merges))) for token in ordered]
    if ranks != sorted(ranks) or pairs != set(map(tuple, merges_from(ordered, scores))):
        raise _unsaid("c'est un SentencePiece dont les fusions ne se déduisent pas de notes")
    return scores
