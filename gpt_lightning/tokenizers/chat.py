"""Un tokenizer et les deux jetons de chatml, ajoutés à la fin de son vocabulaire."""

from collections.abc import Sequence

from gpt_lightning.tokenizers.base import MarkedTokenizer, Tokenizer
from gpt_lightning.tokenizers.huggingface import HuggingFaceTokenizer
from gpt_lightning.typing import State

START, END = "<|im_start|>", "<|im_end|>"
MARKS = (START, END)


class ChatTokenizer:
    """`base`, et les jetons `<|im_start|>` et `<|im_end|>`, identifiants `base.vocab_size` et le suivant.

    Ce sont souvent des lignes que le remplissage du vocabulaire avait déjà. Un tokenizer de Hugging Face a parfois les
    siens, qui servent ; sinon c'est lui qui les ajoute. Un texte s'arrête à `<|im_end|>`.
    """

    def __init__(self, base: Tokenizer) -> None:
        if isinstance(base, HuggingFaceTokenizer):
            base = base.with_special(MARKS)
            self._ids = base.ids_of(MARKS)
            self._marks: dict[int, str] = {}
        else:
            self._ids = {mark: base.vocab_size + rank for rank, mark in enumerate(MARKS)}
            self._marks = {index: mark for mark, index in self._ids.items()}
        self.base = base  # `_marks` sont les jetons qu'il n'a pas

    @property
    def vocab_size(self) -> int:
        return self.base.vocab_size + len(self._marks)

    @property
    def bos_id(self) -> int | None:
        """Le jeton que `base` met devant un texte à continuer ; None s'il n'y en a pas."""
        return getattr(self.base, "bos_id", None)

    @property
    def adds(self) -> bool:
        """Vrai si `base` n'a pas ces deux jetons."""
        return bool(self._marks)

    @property
    def start_id(self) -> int:
        return self._ids[START]

    @property
    def eos_id(self) -> int:
        return self._ids[END]

    def special_id(self, content: str) -> int | None:
        """L'identifiant du jeton spécial `content` ; None s'il ne l'a pas."""
        if content in self._ids:
            return self._ids[content]
        return self.base.special_id(content) if isinstance(self.base, MarkedTokenizer) else None

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        if special:
            for index, mark in self._marks.items():
                before, separator, after = text.partition(mark)
                if separator:
                    return [*self.encode(before, special=True), index, *self.encode(after, special=True)]
        return self.base.encode(text, special=special)

    def encode_content(self, text: str) -> list[int]:
        """`encode`, pour ce qu'une personne écrit dans un message : jamais un jeton spécial."""
        return getattr(self.base, "encode_content", self.base.encode)(text)

    def decode(self, ids: Sequence[int]) -> str:
        texts: list[str] = []
        plain: list[int] = []
        for index in [*ids, None]:
            if index is None or index in self._marks:
                texts.append(self.base.decode(plain) if plain else "")
                texts.append("" if index is None else self._marks[index])
                plain = []
            else:
                plain.append(int(index))
        return "".join(texts)

    def token_bytes(self, index: int) -> bytes:
        return self._marks[index].encode() if index in self._marks else self.base.token_bytes(index)

    def state(self) -> State:
        return {"kind": "chatml", "base": self.base.state()}
