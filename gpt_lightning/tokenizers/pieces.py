"""Les octets d'un jeton de Hugging Face : ce que son `decoder` en fait, un jeton à la fois.

La bibliothèque décode une suite entière, et rend illisible un caractère coupé ; un flux a besoin des octets de chaque
jeton, dont la suite est celle du texte.
"""

from collections.abc import Sequence
from typing import AnyStr, NamedTuple

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.bpe import byte_of_character

_BYTE_OF = byte_of_character()


class _Replace(NamedTuple):
    """Un texte qui en remplace un autre ; `opening` le remplace dans le premier jeton d'un texte."""

    old: str
    new: str
    opening: str


class _Trim(NamedTuple):
    """`left` et `right` caractères `content`, au plus, ôtés aux bords."""

    content: str
    left: int
    right: int


class Spelling:
    """L'écriture des jetons dont `decoder` est le décodeur. UserError, qui le nomme, s'il ne va pas jeton par jeton."""

    def __init__(self, decoder: object) -> None:
        self._steps: list[_Replace | _Trim] = []
        self._byte_level = self._byte_fallback = False
        self._before = b""  # sans décodeur, une espace sépare les jetons
        self._trim: _Trim | None = None  # de tout le texte
        joined = False
        if decoder is None:
            self._before, self._trim = b" ", _Trim(" ", 1, 0)
        for step in _flat(decoder):
            joined = self._add(step, joined)

    def _add(self, step: dict[str, object], joined: bool) -> bool:
        """Ajoute une étape du décodeur, après que les jetons sont `joined` ou avant ; renvoie s'ils le sont après."""
        kind, pattern = step.get("type"), step.get("pattern")
        if kind == "Fuse":
            return True
        if kind == "ByteLevel" and not joined:
            self._byte_level = True
            return True
        if kind == "ByteFallback" and not joined:
            self._byte_fallback = True
            return joined
        if kind == "Metaspace" and not joined:
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            mark = str(step.get("replacement", "▁"))
            self._steps.append(_Replace(mark, " ", " " if scheme == "never" else ""))
            return joined
        if kind == "Replace" and isinstance(pattern, dict) and pattern.get("String"):
            old, new = str(pattern["String"]), str(step.get("content", ""))
            if not joined or (len(old) == 1 and not self._byte_level):
                self._steps.append(_Replace(old, new, new))
                return joined
        if kind == "Strip":
            trim = _Trim(str(step.get("content", " ")), int(str(step["start"])), int(str(step["stop"])))
            if not joined:
                self._steps.append(trim)
                return joined
            if trim.right == 0 and self._trim is None:
                self._trim = trim
                return joined
        raise UserError(f"son décodeur {str(kind)[:40]} ne va pas jeton par jeton")

    def of(self, token: str, is_added: bool, *, first: bool = False) -> bytes:
        """Les octets de ce jeton ; ceux d'un jeton ajouté sont son texte."""
        if self._byte_level:
            if not is_added and all(character in _BYTE_OF for character in token):
                return bytes(_BYTE_OF[character] for character in token)
            return token.encode("utf-8")
        for step in self._steps:
            if isinstance(step, _Replace):
                token = token.replace(step.old, step.opening if first else step.new)
            else:
                token = _strip(token, step)
        if self._byte_fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            try:
                return bytes([int(token[3:5], 16)])
            except ValueError:
                pass
        return self._before + token.encode("utf-8")

    def of_first(self, token: str, is_added: bool) -> bytes:
        """Les octets de ce jeton au début d'un texte, sans l'espace que le découpage y ajoute."""
        return self.of(token, is_added, first=True)

    def join(self, pieces: Sequence[bytes]) -> bytes:
        """Les octets d'un texte, de ceux de ses jetons."""
        raw = b"".join(pieces)
        if self._trim is None:
            return raw
        content = self._trim.content.encode("utf-8")
        return raw[_repeats(raw, content, self._trim.left) * len(content) :]


def _strip(token: str, trim: _Trim) -> str:
    size = len(trim.content)
    token = token[_repeats(token, trim.content, trim.left) * size :]
    right = _repeats(token[::-1], trim.content[::-1], trim.right) * size
    return token[: len(token) - right]


def _repeats(text: AnyStr, content: AnyStr, most: int) -> int:
    """Combien de fois `content` commence `text`, de suite."""
    count = 0
    while content and count < most and text.startswith(content, count * len(content)):
        count += 1
    return count


def _flat(decoder: object) -> list[dict[str, object]]:
    """Les étapes d'un décodeur, une suite de suites."""
    if not isinstance(decoder, dict):
        return []
    if decoder.get("type") != "Sequence":
        return [decoder]
    return [step for part in decoder.get("decoders") or [] for step in _flat(part)]
