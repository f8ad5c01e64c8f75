"""Reconnaître le gabarit, écrit en Jinja, d'un modèle venu d'ailleurs : comparé à ceux d'ici, jamais exécuté.

Le texte est coupé en mots, comme Jinja le lit : ni les blancs entre ses balises, ni ses guillemets, ni `message.role`
au lieu de `message['role']` n'y changent rien. L'empreinte de ces mots est dans la table, ou le gabarit n'est pas
reconnu. Seule la consigne par défaut de chatml est libre : elle est lue dans le texte.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.dialects import DIALECTS, read_name
from gpt_lightning.tokenizers.jinja import jinja

LONGEST = 1 << 16  # caractères ; le plus long que l'on reconnaisse en a 4 200
# l'empreinte de ses mots, et le gabarit qui écrit les mêmes conversations ; tests/tokenizers/chat_templates les nomme
KNOWN = {
    "5d259ceaeb5124e2": "chatml",  # la forme courante : SmolLM, TRL, axolotl
    "545c9dc3f3abc890": "chatml",  # avec une consigne par défaut : SmolLM2-Instruct, Qwen1.5, Qwen2
    "e102822596aed0d5": "chatml",  # Qwen2.5, sans outils
    "48dca4c40619ad98": "chatml",  # Qwen3-Instruct-2507, sans outils
    "71992c0f867e251a": "llama3",  # Llama 3
    "635d44a4b93841b2": "llama3",  # le même, où <|begin_of_text|> est écrit en toutes lettres
    "3b9af6d7f63b881d": "qwen3",  # Qwen3
    "83183a24ca17d884": "qwen3",  # Qwen3, à sa sortie
}
_TOLD = "<|im_start|>system\n{}<|im_end|>\n"  # la consigne par défaut de chatml
_SYSTEM = re.compile(re.escape(_TOLD).replace(re.escape("{}"), "(.+)"), re.DOTALL)
_FREE = "\0"  # ce qui remplace la consigne
_STRING = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
# dans notre Jinja : la fin d'une réponse de texte, et la consigne par défaut
_HOLES = (
    rf"last\.role == 'assistant' -%}}\{{\{{ {_STRING} \}}\}}",
    rf"role != 'system' -%}}\{{\{{ '[^']*' \+ {_STRING}",
)

_TAG = re.compile(r"\{[{%#]")
_WORD = re.compile(
    r"""\s*(?:(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<end>-?\}\}|[-+]?%\})|(?P<word>\w+|[=!<>]=|//|\*\*|[^\w\s'"]))""",
    re.DOTALL,
)
_OPENINGS, _CLOSINGS = ("(", "[", "{"), (")", "]", "}")
# si l'un d'eux est hors des parenthèses, « a + b » n'écrit pas a puis b
_LOOSE = {
    *("if", "else", "and", "or", "not", "in", "is"),
    *("==", "!=", "<", ">", "<=", ">=", "-", "*", "/", "//", "%", "**"),
}
_NOT_OPERANDS = {*_LOOSE, "for", "set", "elif", "+", "~", ",", "=", ":", *_OPENINGS}
# « si add_generation_prompt n'est pas donné, il est faux » : transformers le dit déjà
_NO_PROMPT = [
    [".", "if", "not", "add_generation_prompt", "is", "defined"],
    [".", "set", "add_generation_prompt", "=", "false"],
    [".", "endif"],
]


def recognise(text: str) -> str | None:
    """Le nom du gabarit que ce Jinja écrit, avec sa consigne par défaut ; None s'il n'est pas un de ceux d'ici."""
    if len(text) > LONGEST or _FREE in text:
        return None
    return _recognise_ours(text) or _recognise_theirs(text)


def fingerprint(text: str) -> tuple[str, str | None] | None:
    """L'empreinte des mots de ce Jinja, et la consigne par défaut qu'il écrit ; None si ce n'en est pas."""
    try:
        words = list(_join(_read(text)))
    except SyntaxError:
        return None
    told = (_SYSTEM.fullmatch(piece) for piece in words if isinstance(piece, str))
    system = next((match[1] for match in told if match), None)
    if system is not None:
        free = {system: _FREE, _TOLD.format(system): _TOLD.format(_FREE)}
        words = [free.get(piece, piece) if isinstance(piece, str) else piece for piece in words]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16], system


def _recognise_theirs(text: str) -> str | None:
    read = fingerprint(text)
    if read is None or read[0] not in KNOWN:
        return None
    name, system = KNOWN[read[0]], read[1]
    return name if system is None else _if_valid(f"{name}:{system}")


def _recognise_ours(text: str) -> str | None:
    """Le gabarit que notre export a écrit, et que transformers a gardé tel quel."""
    ends, systems = (re.findall(pattern, text)[:1] for pattern in _HOLES)
    try:
        (end,) = map(ast.literal_eval, ends or ['"<|endoftext|>"'])
        (system,) = map(ast.literal_eval, systems or ["None"])
    except (SyntaxError, ValueError):
        return None
    for kind, dialect in DIALECTS.items():
        name = kind if system is None else _if_valid(f"{kind}:{system}")
        lasts = {"", dialect.separator} if dialect.marks else {""}
        if name is not None and any(jinja(name, end=end, last=last) == text for last in lasts):
            return name
    return None


def _if_valid(name: str) -> str | None:
    try:
        read_name(name)
    except UserError:
        return None
    return name


def _read(text: str) -> Iterator[list[str]]:
    """Ce que ce Jinja écrit et fait, dans l'ordre : ["texte", ...], ["sortie", mots], ou [".", mots d'une balise].

    Comme transformers le lit : la fin de ligne qui suit une balise, et les blancs qui la précèdent sur sa ligne, n'y
    sont pas. SyntaxError si une balise ne se ferme pas.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    place, after = 0, ""  # où l'on en est, et comment finit la balise d'avant
    while True:
        tag = _TAG.search(text, place)
        data = text[place : tag.start() if tag else len(text)]
        begins_a_line = place == 0 or (after == "%}" and data.startswith("\n"))
        data = data.lstrip() if after.startswith("-") else data[begins_a_line and place > 0 :]
        if tag is None:
            yield ["texte", data]
            return
        kind, sign = tag[0][1], text[tag.end() : tag.end() + 1]
        line = data[data.rfind("\n") + 1 :]
        if sign == "-":
            data = data.rstrip()
        elif kind != "{" and sign != "+" and not line.strip() and (begins_a_line or "\n" in data):
            data = data[: len(data) - len(line)]
        yield ["texte", data]
        start = tag.end() + (sign in ("-", "+"))
        if kind == "#":
            end = text.find("#}", start)
            if end < 0:
                raise SyntaxError("un commentaire qui ne se ferme pas")
            place, after = end + 2, "-" if text[end - 1] == "-" else "%}"
            continue
        words, place, after = _words(text, start)
        if after[-2:] != {"{": "}}", "%": "%}"}[kind]:
            raise SyntaxError("une balise qui ne se ferme pas")
        yield ["sortie" if kind == "{" else ".", *words]


def _words(text: str, place: int) -> tuple[list[str], int, str]:
    """Les mots d'une balise, où elle se ferme, et comment ; une chaîne y est précédée d'un guillemet."""
    words: list[str] = []
    depth = 0
    while match := _WORD.match(text, place):
        place = match.end()
        if match["end"] and not (depth and match["end"].endswith("}}")):
            return words, place, match["end"]
        if match["string"]:
            words.append("'" + _content(match["string"]))
        elif match["end"]:  # une accolade d'un objet
            words, place, depth = [*words, "}"], match.start("end") + 1, depth - 1
        else:
            words.append(match["word"])
            depth += (match["word"] == "{") - (match["word"] == "}")
        if _is_item(words[-4:]):
            words[-3:] = [".", words[-2][1:]]
    raise SyntaxError("une balise qui ne se ferme pas")


def _is_item(words: list[str]) -> bool:
    """Vrai pour la fin de « message['role'] », qui est « message.role »."""
    if len(words) < 4 or words[0] in _NOT_OPERANDS or words[1] != "[" or words[3] != "]":
        return False
    return words[2].startswith("'") and words[2][1:].isidentifier()


def _content(literal: str) -> str:
    try:
        return literal[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError:
        raise SyntaxError("une chaîne abîmée") from None


def _join(read: Iterable[list[str]]) -> Iterator[str | list[str]]:
    """Réunit ce qui s'écrit à la suite : un texte est une chaîne, une expression ou une balise une liste de mots."""
    said: list[str | list[str]] = [""]
    for kind, *words in read:
        for piece in [words] if kind == "." else _pieces(words) if kind == "sortie" else words:
            if isinstance(piece, str) and isinstance(said[-1], str):
                said[-1] += piece
            elif piece != "":
                said.append([kind, *piece] if isinstance(piece, list) else piece)
        if said[-3:] == _NO_PROMPT:
            said[-3:] = []
    yield from (piece for piece in said if piece)


def _pieces(words: list[str]) -> Iterator[str | list[str]]:
    """Ce qu'une expression écrit, bout à bout : « a + b » et « a ~ b » écrivent a, puis b."""
    depth, parts, loose = 0, list[list[str]]([[]]), False
    for word in words:
        depth += (word in _OPENINGS) - (word in _CLOSINGS)
        loose = loose or (depth == 0 and word in _LOOSE)
        if depth == 0 and word in ("+", "~"):
            parts.append([])
        else:
            parts[-1].append(word)
    if loose:
        yield words
        return
    yield from (part[0][1:] if len(part) == 1 and part[0].startswith("'") else part for part in parts)
