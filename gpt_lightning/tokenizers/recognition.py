"""Reconnaître le gabarit, écrit en Jinja, d'un modèle venu d'ailleurs : comparé à ceux d'ici, jamais exécuté.

Le texte devient l'arbre de ce qu'il écrit : ni les blancs entre ses balises, ni ses guillemets, ni `message.role` au
lieu de `message['role']` n'y changent rien. L'empreinte de cet arbre est dans la table, ou le gabarit n'est pas
reconnu. Seule la consigne par défaut de chatml est libre : elle est lue dans le texte.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.dialects import DIALECTS, read_name
from gpt_lightning.tokenizers.jinja import jinja

LONGEST = 1 << 16  # caractères ; le plus long que l'on reconnaisse en a 4 200
# l'empreinte d'un arbre, et le gabarit qui écrit les mêmes conversations ; tests/tokenizers/chat_templates les nomme
KNOWN = {
    "61272fb141097f0b": "chatml",  # la forme courante : SmolLM, TRL, axolotl
    "6fd57f8e83abe826": "chatml",  # avec une consigne par défaut : SmolLM2-Instruct, Qwen1.5, Qwen2
    "d189b838f2c49de5": "chatml",  # Qwen2.5, sans outils
    "09519b8c97901cb9": "chatml",  # Qwen3-Instruct-2507, sans outils
    "e698e8e5a7c806ef": "llama3",  # Llama 3
    "7fca00e40938586d": "llama3",  # le même, où <|begin_of_text|> est écrit en toutes lettres
    "508fc92f1da91fbc": "qwen3",  # Qwen3
    "cfae25a630eb2df5": "qwen3",  # Qwen3, à sa sortie
}
_SYSTEM = r"<\|im_start\|>system\\n((?:[^\"\\]|\\.)+?)<\|im_end\|>\\n"  # dans l'arbre, qui est du JSON
_FREE = "\0"  # ce qui y remplace la consigne
_STRING = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
# dans notre Jinja : la fin d'une réponse de texte, et la consigne par défaut
_HOLES = (
    rf"last\.role == 'assistant' -%}}\{{\{{ {_STRING} \}}\}}",
    rf"role != 'system' -%}}\{{\{{ '[^']*' \+ {_STRING}",
)

Tree: TypeAlias = "str | int | float | bool | None | list[Tree]"


def recognise(text: str) -> str | None:
    """Le nom du gabarit que ce Jinja écrit, avec sa consigne par défaut ; None s'il n'est pas un de ceux d'ici."""
    if len(text) > LONGEST or _FREE in text:
        return None
    return _recognise_ours(text) or _recognise_theirs(text)


def fingerprint(text: str) -> tuple[str, str | None] | None:
    """L'empreinte de l'arbre de ce Jinja, et la consigne par défaut qu'il écrit ; None si ce n'en est pas."""
    try:
        tree = json.dumps(_tree(text))
    except (SyntaxError, RecursionError):
        return None
    match = re.search(_SYSTEM, tree)
    if match is not None:
        free = json.dumps(_FREE)
        tree = tree.replace(match[0], match[0].replace(match[1], free[1:-1])).replace(f'"{match[1]}"', free)
    system = None if match is None else str(json.loads(f'"{match[1]}"'))
    return hashlib.sha256(tree.encode()).hexdigest()[:16], system


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


def _tree(text: str) -> Tree:
    """L'arbre de ce Jinja. SyntaxError si ce n'en est pas."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.ext import loopcontrols

    # les options avec lesquelles transformers le lit
    reader = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    try:
        return _shape(reader.parse(text))
    except (TemplateSyntaxError, UnicodeError) as error:
        raise SyntaxError(str(error)) from None


def _shape(node: object) -> Tree:
    """L'arbre de `node`, en listes ; deux écritures d'une même chose y sont la même."""
    from jinja2 import nodes

    if isinstance(node, list | tuple):
        return list(_statements(node))
    if not isinstance(node, nodes.Node):
        return node if isinstance(node, str | int | float | bool | None) else repr(node)
    if (
        isinstance(node, nodes.Getitem)
        and isinstance(node.arg, nodes.Const)
        and isinstance(node.arg.value, str)
    ):
        return ["Getattr", _shape(node.node), node.arg.value]
    if isinstance(node, nodes.Getattr):
        return ["Getattr", _shape(node.node), node.attr]
    return [type(node).__name__, *(_shape(value) for name, value in node.iter_fields() if name != "ctx")]


def _statements(values: Sequence[object]) -> Iterator[Tree]:
    """Les éléments d'une liste ; des sorties qui se suivent n'en font qu'une."""
    from jinja2 import nodes

    written: list[Tree] = []
    for value in [*values, None]:
        if isinstance(value, nodes.Output):
            for piece in value.nodes:
                for tree in _pieces(piece):
                    if isinstance(tree, str) and written and isinstance(written[-1], str):
                        written[-1] += tree
                    elif tree != "":
                        written.append(tree)
            continue
        if written:
            yield ["Output", *written]
            written = []
        if value is not None and not _says_nothing(value):
            yield _shape(value)


def _pieces(node: object) -> Iterator[Tree]:
    """Ce qu'une expression écrit, bout à bout : « a + b » et « a ~ b » écrivent a, puis b."""
    from jinja2 import nodes

    if isinstance(node, nodes.Add):
        yield from (*_pieces(node.left), *_pieces(node.right))
    elif isinstance(node, nodes.Concat):
        for part in node.nodes:
            yield from _pieces(part)
    elif isinstance(node, nodes.TemplateData):
        yield node.data
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    else:
        yield _shape(node)


def _says_nothing(node: object) -> bool:
    """Vrai pour « si add_generation_prompt n'est pas donné, il est faux », que transformers dit déjà."""
    from jinja2 import nodes

    said = nodes.If(
        nodes.Not(nodes.Test(nodes.Name("add_generation_prompt", "load"), "defined", [], [], None, None)),
        [nodes.Assign(nodes.Name("add_generation_prompt", "store"), nodes.Const(False))],
        [],
        [],
    )
    return node == said
